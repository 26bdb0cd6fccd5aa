import jax
import numpy as np


def noisy(tree, scale: float = 0.1):
    """The tree with every value moved at random, by numpy: zero biases and unit scales hide bugs."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.asarray(x) + scale * rng.standard_normal(x.shape, np.float32), tree)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    """Standard normal values, by numpy: nothing to compile."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
