"""Fixed position codes: constants of the program, not parameters."""

import functools

import numpy as np


@functools.lru_cache(maxsize=16)
def sincos_1d(length: int, width: int) -> np.ndarray:
    """The sine-cosine table of VideoMAE, float32 [N, D]: one axis over all tokens in (time, row, column) order, not three.

    Column j of row n is sin (j even) or cos (j odd) of n / 10000^(2 (j // 2) / D) (Vaswani et al. 2017, section 3.5). Computed in
    float64, then rounded.
    """
    angle = np.arange(length)[:, None] / np.power(10000.0, 2 * (np.arange(width) // 2) / width)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
    table.setflags(write=False)  # it is shared by the cache
    return table
