"""Where in a clip the motion changes most and which way, and where its colors change most and least and which they are: numbers that a network
can be asked for (Wang et al. 2019, https://arxiv.org/abs/1904.03597, section 3).

The one idea: a place is a mask, so that blocks, rings and triangles are rows of one matrix and every sum over places a matrix product.

    blocks     4 x 4, row by row                      rings      4 concentric frames of one width, the innermost is 0
    triangles  8 sectors between the middle lines and the diagonals, from the one below the middle right on, clockwise

Directions are angles clockwise from the right, in steps of 45 degrees around k * 45. Colors are octants of RGB, 4 r + 2 g + b with 1 for the
upper half. The authors' numbers of triangles and colors are others, and theirs begin at 1.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.perturb.color import luma

PLACES = {"block": 16, "ring": 4, "triangle": 8}
ANGLES, COLORS = 8, 8
_STARTS = np.cumsum([0, *PLACES.values()])
# Added to the mean squared gradient: flat areas, where noise would decide, count as still.
_FLAT = 1e-4

MOTION = (
    *(f"{part} of {what}" for place in PLACES for what in ("u", "v") for part in (place, f"angle in {place}")),
    "frame of u",
    "frame of v",
)
APPEARANCE = (
    *(f"{part} of {what} colors" for place in PLACES for what in ("changing", "steady") for part in (place, f"octant in {place}")), "octant",
)  # fmt: skip
ANSWERS = MOTION + APPEARANCE


def classes(frames: int) -> tuple[int, ...]:
    """How many values each of ANSWERS has, for clips of that many frames."""
    motion = [n for count in PLACES.values() for n in (count, ANGLES) * 2]
    appearance = [n for count in PLACES.values() for n in (count, COLORS) * 2]
    return (*motion, frames - 1, frames - 1, *appearance, COLORS)


def masks(height: int, width: int) -> np.ndarray:
    """float32 [28, height * width]: 1 for the pixels of a place; blocks, then rings, then triangles, each of which cover the picture once."""
    y, x = np.mgrid[:height, :width]
    block = 4 * (4 * y // height) + 4 * x // width
    across, down = (2 * x + 1 - width) / width, (2 * y + 1 - height) / height  # pixel centers, -1 to 1
    ring = np.floor(4 * np.maximum(np.abs(across), np.abs(down)))
    turn = np.round(np.arctan2(down, across) / (np.pi / 4), 9) % 8  # rounded: the diagonals lie exactly on an edge
    numbers = (block, ring, np.floor(turn))
    return np.concatenate([n.reshape(-1) == np.arange(count)[:, None] for n, count in zip(numbers, PLACES.values(), strict=True)]).astype(
        np.float32
    )


def _box(side: int) -> np.ndarray:
    """[side, side]: means over windows of a sixteenth of the side, and at least 3 pixels."""
    radius = max(round(side / 32), 1)
    near = np.abs(np.arange(side)[:, None] - np.arange(side)) <= radius
    return (near / near.sum(1, keepdims=True)).astype(np.float32)


def flow(gray_TxHxW: jax.Array) -> jax.Array:
    """Motion from one frame to the next, pixels right (u) and down (v): float32 [T-1, H, W, 2].

    From differences of frames by least squares in small windows (Lucas and Kanade 1981), right for motions of a pixel or so and smooth pictures,
    too small where they are larger. The paper has TV-L1 flow, which is computed on the host and stored.
    """
    first, second = gray_TxHxW[:-1], gray_TxHxW[1:]
    dy, dx = jnp.gradient((first + second) / 2, axis=(1, 2))
    dt = second - first
    rows, columns = _box(gray_TxHxW.shape[1]), _box(gray_TxHxW.shape[2])

    def mean(z):
        return jnp.einsum("yY,tYX,xX->tyx", rows, z, columns, precision=jax.lax.Precision.HIGHEST)

    xx, yy, xy, xt, yt = mean(dx * dx) + _FLAT, mean(dy * dy) + _FLAT, mean(dx * dy), mean(dx * dt), mean(dy * dt)
    determinant = xx * yy - xy * xy
    return jnp.stack([xy * yt - yy * xt, xy * xt - xx * yt], axis=-1) / determinant[..., None]


def _in_each(values_28: jax.Array, pick) -> list[jax.Array]:
    """`pick` (argmax or argmin) among the places of each kind."""
    return [pick(values_28[start:stop]).astype(jnp.int32) for start, stop in itertools.pairwise(_STARTS)]


def motion_numbers(flow_TxHxWx2: jax.Array) -> jax.Array:
    """int32 [14], in the order of MOTION. Motion boundaries, the gradients of u and of v, are added up over time: which place has the largest on
    average, and which angle most of it has; and in which frame they are largest. -1 where nothing moves.
    """
    weights_28xN = masks(*flow_TxHxWx2.shape[1:3])
    found, frames = [], []
    for component in (0, 1):
        down, right = jnp.gradient(flow_TxHxWx2[..., component], axis=(1, 2))
        size_T = jnp.mean(jnp.hypot(right, down), axis=(1, 2))
        right_N, down_N = jnp.sum(right, axis=0).reshape(-1), jnp.sum(down, axis=0).reshape(-1)
        size_N = jnp.hypot(right_N, down_N)
        turn_N = jnp.arctan2(down_N, right_N) / (2 * jnp.pi / ANGLES)
        apart_NxA = jnp.abs(turn_N[:, None] - jnp.arange(ANGLES)) % ANGLES
        votes_NxA = size_N[:, None] * jnp.maximum(1 - jnp.minimum(apart_NxA, ANGLES - apart_NxA), 0)  # shared by the two nearest angles
        votes_28xA = jnp.matmul(weights_28xN, votes_NxA, precision=jax.lax.Precision.HIGHEST)
        size_28 = jnp.matmul(weights_28xN, size_N, precision=jax.lax.Precision.HIGHEST) / weights_28xN.sum(1)
        moves = jnp.max(size_N) > 0
        places = [
            (place, jnp.argmax(votes_28xA[start + place])) for start, place in zip(_STARTS, _in_each(size_28, jnp.argmax), strict=False)
        ]
        found.append([jnp.where(moves, n, -1) for pair in places for n in pair])
        frames.append(jnp.where(jnp.max(size_T) > 0, jnp.argmax(size_T), -1))
    u, v = found
    by_place = [n for i in range(0, len(u), 2) for n in (*u[i : i + 2], *v[i : i + 2])]
    return jnp.stack([*by_place, *frames]).astype(jnp.int32)


def overlap(rgb_TxHxWx3: jax.Array, bins: int) -> jax.Array:
    """How alike the colors of a place are in all frames, float32 [28]: histograms of red, green and blue, of `bins` each; the sum of their smallest
    values over time by that of the largest; the mean of the three.
    """
    t, h, w, _ = rgb_TxHxWx3.shape
    weights_28xN = masks(h, w)
    bin_TxNx3 = jnp.clip(jnp.floor(rgb_TxHxWx3 * bins), 0, bins - 1).reshape(t, h * w, 3)

    def add(sums, number):  # one bin at a time: all of them at once would be `bins` clips
        counts_TxCx28 = jnp.einsum("tnc,gn->tcg", (bin_TxNx3 == number).astype(jnp.float32), weights_28xN)
        return (sums[0] + counts_TxCx28.min(0), sums[1] + counts_TxCx28.max(0)), None

    (common, all_of_it), _ = jax.lax.scan(add, (jnp.zeros((3, len(weights_28xN))),) * 2, jnp.arange(bins))
    return jnp.mean(common / all_of_it, axis=0)


def appearance_numbers(rgb_TxHxWx3: jax.Array, bins: int) -> jax.Array:
    """int32 [13], in the order of APPEARANCE: the place whose colors change most over time and its fullest octant, the place whose colors change
    least and its; and the whole clip's. -1 for places where all are as steady as each other.
    """
    t, h, w, _ = rgb_TxHxWx3.shape
    weights_28xN = masks(h, w)
    octant_TxN = jnp.sum((rgb_TxHxWx3 >= 0.5) * jnp.array([4, 2, 1]), axis=-1).reshape(t, h * w)
    counts_NxC = jnp.sum(octant_TxN[..., None] == jnp.arange(COLORS), axis=0).astype(jnp.float32)
    counts_28xC = jnp.matmul(weights_28xN, counts_NxC, precision=jax.lax.Precision.HIGHEST)
    steady_28 = overlap(rgb_TxHxWx3, bins)
    found = []
    for start, stop, low, high in zip(_STARTS, _STARTS[1:], _in_each(steady_28, jnp.argmin), _in_each(steady_28, jnp.argmax), strict=False):
        differ = jnp.ptp(steady_28[start:stop]) > 0
        found += [jnp.where(differ, n, -1) for place in (low, high) for n in (place, jnp.argmax(counts_28xC[start + place]))]
    return jnp.stack([*found, jnp.argmax(jnp.sum(counts_NxC, axis=0))]).astype(jnp.int32)


def numbers(rgb_TxHxWx3: jax.Array, bins: int = 32) -> jax.Array:
    """int32 [27], in the order of ANSWERS, of a clip in [0, 1] of 2 or more frames; -1 where there is no answer."""
    return jnp.concatenate([motion_numbers(flow(luma(rgb_TxHxWx3)[..., 0])), appearance_numbers(rgb_TxHxWx3, bins)])
