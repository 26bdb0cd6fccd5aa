"""Fixed position codes: constants of the program, not parameters."""

import functools
import math

import numpy as np

from vssl_jax.errors import unknown_name


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


@functools.lru_cache(maxsize=16)
def sincos_3d(grid: tuple[int, int, int], width: int) -> np.ndarray:
    """A sine-cosine table for each of time, row and column, side by side, float32 [N, D]: what V-JEPA uses, up to the order of columns.

    Every axis has the largest even share of the width; columns that are left over are zero. Small networks trained for minutes find where a token is
    far sooner with it than with one axis over all tokens.
    """
    share = width // 6 * 2
    tables = [sincos_1d(length, share) for length in grid]
    places = np.meshgrid(*[np.arange(length) for length in grid], indexing="ij")
    columns = [table[place.reshape(-1)] for table, place in zip(tables, places, strict=True)]
    table = np.concatenate([*columns, np.zeros((math.prod(grid), width - 3 * share), np.float32)], axis=1)
    table.setflags(write=False)
    return table


POSITIONS = {"sincos_1d": lambda grid, width: sincos_1d(math.prod(grid), width), "sincos_3d": sincos_3d}


def table(name: str, grid: tuple[int, int, int], width: int) -> np.ndarray:
    """The codes that `name` names, float32 [N, D], tokens in (time, row, column) order."""
    if name not in POSITIONS:
        raise unknown_name("model positions", name, POSITIONS)
    return POSITIONS[name](tuple(grid), width)
