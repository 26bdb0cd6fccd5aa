"""Features as a picture: a map in two dimensions, and which videos are shown.

The idea: it is for looking, not for numbers, so it is small, drawn from a seed, and the same every time. t-SNE (van der Maaten and Hinton 2008)
is scikit-learn's, imported where it is used.
"""

import numpy as np

from vssl_jax.errors import UserError


def embed_2d(features_NxD: np.ndarray, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE of the features' directions (each row scaled to length 1, as in kNN), float32 [N, 2], starting from the first two principal
    components.

    The perplexity is at most (N - 1) / 3: t-SNE is meaningless where it comes near the number of points. Raises UserError below 5 rows.
    """
    from sklearn.manifold import TSNE

    features_NxD = np.asarray(features_NxD, np.float32)
    n = len(features_NxD)
    if n < 5:
        raise UserError(f"t-SNE needs the features of at least 5 videos, there are {n}")
    unit_NxD = features_NxD / np.maximum(np.linalg.norm(features_NxD, axis=1, keepdims=True), 1e-12)
    if np.allclose(unit_NxD, unit_NxD[0], atol=1e-7):
        raise UserError("t-SNE has nothing to show: all features are the same, the encoder has collapsed")
    map_ = TSNE(perplexity=min(perplexity, (n - 1) / 3), init="pca", learning_rate="auto", random_state=seed)
    return map_.fit_transform(unit_NxD).astype(np.float32)


def choose(labels_N: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Row numbers, sorted, of at most `most` videos to show: as equal a number of each class as there is, drawn from the seed."""
    labels_N = np.asarray(labels_N)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels_N))
    turn_N = np.zeros(len(labels_N), np.int64)  # the how-manieth of its class each row is, in the drawn order
    seen: dict[int, int] = {}
    for row in order:
        turn_N[row] = seen.get(int(labels_N[row]), 0)
        seen[int(labels_N[row])] = turn_N[row] + 1
    position_N = np.empty(len(order), np.int64)
    position_N[order] = np.arange(len(order))
    return np.sort(np.lexsort((position_N, turn_N))[:most])
