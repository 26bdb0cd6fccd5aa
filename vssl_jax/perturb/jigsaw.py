"""Jigsaw puzzles: tiles cut out of a picture's grid, and sets of permutations that are far apart.

The one idea of the set: greedily, each new permutation is the one whose *least* Hamming distance to those taken is largest, ties going to the
largest mean distance. The usual choice by the mean alone leaves near-duplicates: of 100 for 9 tiles two that differ in 2 places, here in 6.
"""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.perturb import pieces as pieces_lib

MOST = math.factorial(10)  # candidates that are compared


def of_frames_and_tiles(frames: int, tiles: int) -> np.ndarray:
    """The permutations of frames x tiles pieces that keep the tiles of a frame together: they shuffle the tiles inside each frame, and the
    frames (Ahsan et al. 2019, section 3.2). int8 [frames! * tiles!^frames, frames * tiles].
    """
    inside = pieces_lib.permutations(tiles)
    which = np.indices((len(inside),) * frames).reshape(frames, -1).T  # of every frame, all combinations
    every = [inside[which] + tiles * np.array(order)[:, None] for order in pieces_lib.permutations(frames)]
    return np.concatenate(every).reshape(-1, frames * tiles).astype(np.int8)


def of_all(tiles: int) -> np.ndarray:
    """All permutations of `tiles` pieces, int8 [tiles!, tiles]."""
    return pieces_lib.permutations(tiles).astype(np.int8)


@functools.cache
def far_apart(frames: int, tiles: int, count: int, seed: int = 0) -> np.ndarray:
    """`count` permutations of frames x tiles pieces, int32 [count, frames * tiles], the same for the same arguments; the first is drawn.

    Candidates keep the tiles of a frame together. Raises UserError where there are not so many, or more than can be compared.
    """
    every = math.factorial(frames) * math.factorial(tiles) ** frames
    if every > MOST:
        raise UserError(
            f"{frames} frames of {tiles} tiles have {every:,} permutations, and at most {MOST:,} are compared: take fewer segments, or a smaller grid"
        )
    candidates = of_all(tiles) if frames == 1 else of_frames_and_tiles(frames, tiles)
    if not 2 <= count <= len(candidates):
        raise UserError(f"objective.permutations is {count}: {frames} frames of {tiles} tiles have 2 to {len(candidates)}")
    chosen = [int(np.random.default_rng(seed).integers(len(candidates)))]
    columns = np.ascontiguousarray(candidates.T)
    least, total = np.full(len(candidates), len(columns), np.int8), np.zeros(len(candidates), np.int32)
    while True:
        distance = np.zeros(len(candidates), np.int8)
        for column, place in zip(columns, candidates[chosen[-1]], strict=True):
            distance += column != place
        least, total = np.minimum(least, distance), total + distance
        if len(chosen) == count:
            return candidates[chosen].astype(np.int32)
        # least first, then the mean; the first of equals
        chosen.append(int(np.argmax(least.astype(np.int64) * (len(columns) * count + 1) + total)))


def digest(permutations_PxN: np.ndarray) -> np.ndarray:
    """SHA-256 of a set, uint32 [8]: by it a checkpoint says which set it was trained on."""
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(permutations_PxN, dtype="<i4").tobytes()).digest(), "<u4")


def tiles(key: jax.Array, clip_TxHxWxC: jax.Array, grid: int, tile: int) -> jax.Array:
    """The grid x grid tiles of a clip, row by row, [grid^2, T, tile, tile, C]: each at a place of its own drawn inside its cell, the same for
    all frames, so that edges do not go on from one tile to the next.
    """
    t, height, width, channels = clip_TxHxWxC.shape
    rows, columns = height // grid, width // grid
    if tile > min(rows, columns):
        raise UserError(f"tiles of {tile} pixels do not fit the cells of {rows} x {columns} pixels: raise objective.picture")
    room = jnp.array([rows - tile + 1, columns - tile + 1])
    place_Nx2 = jnp.floor(jax.random.uniform(key, (grid * grid, 2)) * room).astype(jnp.int32)
    corner_Nx2 = jnp.array([(i * rows, j * columns) for i in range(grid) for j in range(grid)]) + place_Nx2
    cut = lambda corner: jax.lax.dynamic_slice(clip_TxHxWxC, (0, corner[0], corner[1], 0), (t, tile, tile, channels))  # noqa: E731
    return jax.vmap(cut)(corner_Nx2)


def normalized(piece_TxHxWxC: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Mean 0 and deviation 1 in each channel of a piece: brightness and color do not tell which tiles are neighbors."""
    mean = jnp.mean(piece_TxHxWxC, axis=(0, 1, 2), keepdims=True)
    return (piece_TxHxWxC - mean) / (jnp.std(piece_TxHxWxC, axis=(0, 1, 2), keepdims=True) + epsilon)
