"""The order of the videos: which one stands at a position is a pure function of (seed, position), so the whole state of the input is one
integer.

Positions count the rows of all global batches of a run from 0; epoch e of a source of n videos is positions e*n .. (e+1)*n - 1. Every epoch
has its own permutation.
"""

import functools

import numpy as np

# What a random stream is for: the second word of its seed.
_ORDER, _SAMPLE, _SUBSTITUTE = range(3)


def index_at(position: int, videos: int, seed: int, shuffle: bool) -> int:
    """The number of the video at `position`."""
    epoch, place = divmod(position, videos)
    return int(_permutation(seed, epoch, videos)[place]) if shuffle else place


def sample_rng(seed: int, position: int, attempt: int = 0) -> np.random.Generator:
    """The generator that draws a row's frames."""
    return np.random.default_rng((seed, _SAMPLE, position, attempt))


def substitute_at(position: int, attempt: int, videos: int, seed: int) -> int:
    """The video that takes the place of a broken one; attempt 1 is the first substitute."""
    return int(np.random.default_rng((seed, _SUBSTITUTE, position, attempt)).integers(videos))


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, videos: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(videos)
