"""torchvision's video networks with random weights: every one-dimensional parameter and every statistic is random too, zero biases and unit
scales hide bugs.
"""

import numpy as np
import torch

from tests.interop import torch_operators


def model(name: str, classes: int = 11, seed: int = 0):
    """The network in evaluation mode."""
    torch_operators.declare()
    from torchvision.models import video

    made = getattr(video, name)(num_classes=classes)
    made.load_state_dict({key: torch.from_numpy(value) for key, value in state(made, seed).items()}, strict=True)
    return made.eval()


def state(model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by name, of a size that keeps activations near 1."""
    rng, out = np.random.default_rng(seed), {}
    for name, value in model.state_dict().items():
        noise = rng.standard_normal(tuple(value.shape)).astype(np.float32)
        if value.ndim == 0:
            out[name] = np.asarray(7, np.int64)  # num_batches_tracked
        elif value.ndim > 1:
            gain = 0.1 if name.startswith(("fc", "classifier")) else 1.4
            out[name] = noise * np.float32(gain / np.sqrt(np.prod(value.shape[1:])))
        elif name.endswith(("running_var", "weight")):
            out[name] = np.exp(0.2 * noise)
        else:
            out[name] = 0.2 * noise
    return out


def channels_first(clip_BxTxHxWxC: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(clip_BxTxHxWxC.transpose(0, 4, 1, 2, 3)))


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 4, 1)
