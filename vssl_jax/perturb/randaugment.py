"""RandAugment (Cubuk et al. 2020) on one clip: a few operations drawn from fifteen, each the same for all frames.

The idea: every operation is a setting of the same three passes, one affine warp, one table of 256 values, one blend with a gray or smoothed
picture. Only small matrices and tables depend on which operation was drawn, so a batch whose clips drew different operations does the work
of one, not of fifteen.

Operations and magnitudes are those of timm's "increasing" set, which VideoMAE fine-tunes with as rand-m7-n4-mstd0.5-inc1, on 8-bit values
as Pillow has them. What differs from there: the warp is bilinear (theirs bicubic), and it comes after the crop (theirs before it).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import at_least, between, check_limits
from vssl_jax.perturb.checks import check_probability
from vssl_jax.perturb.color import luma

TABLES = ("auto_contrast", "equalize", "invert", "posterize", "solarize", "solarize_add", "contrast", "brightness")
BLENDS = ("color", "sharpness")
WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*TABLES, *BLENDS, *WARPS)
MOST = 10.0  # the strongest magnitude
FILL = 128.0  # what a warp shows from outside the picture


def affine(op: jax.Array, level: jax.Array, sign: jax.Array, size: tuple[int, int]) -> jax.Array:
    """(a, b, c, d, e, f): the output pixel at (x, y) shows the input at (a x + b y + c, d x + e y + f), pixel centers at halves.

    `level` is from 0 to 1, `sign` -1 or 1: up to 30 degrees, a shear of 0.3, a shift of 0.45 of the side. Identity where `op` is no warp.
    """
    rows, columns = size
    angle = jnp.deg2rad(30.0 * level * sign)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shear, shift = 0.3 * level * sign, 0.45 * level * sign
    center_x, center_y = columns / 2, rows / 2
    zero, one = jnp.zeros(()), jnp.ones(())
    matrices = jnp.stack(
        [
            jnp.stack([one, zero, zero, zero, one, zero]),
            jnp.stack([cos, -sin, center_x - cos * center_x + sin * center_y, sin, cos, center_y - sin * center_x - cos * center_y]),
            jnp.stack([one, shear, zero, zero, one, zero]),
            jnp.stack([one, zero, zero, shear, one, zero]),
            jnp.stack([one, zero, shift * columns, zero, one, zero]),
            jnp.stack([one, zero, zero, zero, one, shift * rows]),
        ]
    )
    return matrices[jnp.maximum(op - len(TABLES) - len(BLENDS) + 1, 0)]


def warp(x_TxHxWx3: jax.Array, matrix_6: jax.Array) -> jax.Array:
    """Every frame resampled bilinearly through `matrix_6` (see affine); FILL where it shows the outside. The identity is exact."""
    t, rows, columns, channels = x_TxHxWx3.shape
    y_Hx1, x_W = jnp.arange(rows)[:, None] + 0.5, jnp.arange(columns) + 0.5
    a, b, c, d, e, f = matrix_6
    at_x, at_y = a * x_W + b * y_Hx1 + c, d * x_W + e * y_Hx1 + f
    inside = (at_x >= 0) & (at_x < columns) & (at_y >= 0) & (at_y < rows)
    left, top = jnp.floor(at_x - 0.5), jnp.floor(at_y - 0.5)
    right_part, lower_part = at_x - 0.5 - left, at_y - 0.5 - top
    flat = x_TxHxWx3.reshape(t, rows * columns, channels)

    def take(row, column):
        place = jnp.clip(row, 0, rows - 1).astype(jnp.int32) * columns + jnp.clip(column, 0, columns - 1).astype(jnp.int32)
        return flat[:, place.reshape(-1)].reshape(x_TxHxWx3.shape)

    across = right_part[..., None]
    upper = take(top, left) * (1 - across) + take(top, left + 1) * across
    lower = take(top + 1, left) * (1 - across) + take(top + 1, left + 1) * across
    mixed = upper * (1 - lower_part[..., None]) + lower * lower_part[..., None]
    return jnp.where(inside[..., None], mixed, FILL)


def histogram(values_TxHxWx3: jax.Array) -> jax.Array:
    """How often each of the values 0..255 (int32) occurs in each frame and channel: float32 [T, 3, 256].

    A product of one-hot digits, a frame at a time: exact, and free of the collisions that a scatter has.
    """

    def frame(values_HxWx3):
        values_3xN = jnp.moveaxis(values_HxWx3, -1, 0).reshape(3, -1)
        high, low = jax.nn.one_hot(values_3xN // 16, 16), jax.nn.one_hot(values_3xN % 16, 16)
        return jnp.einsum("cnh,cnl->chl", high, low, preferred_element_type=jnp.float32).reshape(3, 256)

    return jax.lax.map(frame, values_TxHxWx3)


def table(op: jax.Array, level: jax.Array, sign: jax.Array, counts_Tx3x256: jax.Array) -> jax.Array:
    """What each value 0..255 becomes, float32 [T, 3, 256] of whole numbers; itself where `op` is no operation on values.

    `level` from 0 to 1, `sign` -1 or 1. Contrast and brightness scale by 1 + 0.9 sign level.
    """
    value = jnp.broadcast_to(jnp.arange(256, dtype=jnp.float32), counts_Tx3x256.shape)
    factor = 1 + 0.9 * level * sign
    there = counts_Tx3x256 > 0
    low = jnp.argmax(there, -1, keepdims=True).astype(jnp.float32)
    high = 255.0 - jnp.argmax(there[..., ::-1], -1, keepdims=True)
    stretched = jnp.floor((value - low) * 255 / jnp.maximum(high - low, 1) + 1e-3)
    total = counts_Tx3x256.sum(-1, keepdims=True)
    brightest = jnp.take_along_axis(counts_Tx3x256, high.astype(jnp.int32), -1)
    step = jnp.floor((total - brightest) / 255)
    before = jnp.cumsum(counts_Tx3x256, -1) - counts_Tx3x256
    equalized = jnp.floor((jnp.floor(step / 2) + before) / jnp.maximum(step, 1))
    kept = 2.0 ** (8 - (4 - jnp.floor(4 * level)))  # values in steps of 2^(8 - bits)
    mean_gray = luma((counts_Tx3x256 * value).sum(-1) / jnp.maximum(total[..., 0], 1))  # [T, 1]: luma is linear
    gray = jnp.floor(mean_gray + 0.5)[..., None]
    choices = [
        jnp.where(high > low, stretched, value),
        jnp.where(step > 0, equalized, value),
        255 - value,
        jnp.floor(value / kept) * kept,
        jnp.where(value < 256 - jnp.floor(256 * level), value, 255 - value),
        jnp.where(value < 128, value + jnp.floor(110 * level), value),
        jnp.trunc(gray + factor * (value - gray)),
        jnp.trunc(factor * value),
        value,
    ]
    return jnp.clip(jnp.stack(choices)[jnp.minimum(op, len(TABLES))], 0, 255)


def smooth(x_TxHxWx3: jax.Array) -> jax.Array:
    """Each pixel's mean with its eight neighbors, itself counted five times; the border stays (Pillow's SMOOTH)."""
    rows, columns = x_TxHxWx3.shape[1:3]
    if min(rows, columns) < 3:
        return x_TxHxWx3
    total = sum(x_TxHxWx3[:, i : rows - 2 + i, j : columns - 2 + j] for i in range(3) for j in range(3))
    inner = (total + 4 * x_TxHxWx3[:, 1:-1, 1:-1]) / 13
    return x_TxHxWx3.at[:, 1:-1, 1:-1].set(inner)


def apply(op: jax.Array, level: jax.Array, sign: jax.Array, x_TxHxWx3: jax.Array) -> jax.Array:
    """The operation numbered `op` in OPERATIONS on values from 0 to 255; any number past the end leaves the clip as it is.

    `level` is the magnitude over MOST; `sign` -1 or 1 for operations that have two directions.
    """
    op = jnp.asarray(op)
    past_tables = jnp.where(op < len(OPERATIONS), op, len(TABLES))  # the blend of an unused number is switched off below
    warped = warp(x_TxHxWx3, affine(past_tables, level, sign, x_TxHxWx3.shape[1:3]))
    values = jnp.round(warped).astype(jnp.int32)
    lookup_Tx3x256 = table(op, level, sign, histogram(values))
    by_channel = jnp.moveaxis(values, -1, 1).reshape(*lookup_Tx3x256.shape[:2], -1)
    looked_up = jnp.take_along_axis(lookup_Tx3x256, by_channel, axis=-1).reshape(values.shape[0], 3, *values.shape[1:3])
    mapped = jnp.where(op < len(TABLES), jnp.moveaxis(looked_up, 1, -1), warped)
    color, sharpness = (OPERATIONS.index(name) for name in BLENDS)
    partner = jnp.where(op == color, luma(mapped), smooth(mapped))
    factor = jnp.where((op == color) | (op == sharpness), 1 + 0.9 * level * sign, 1.0)
    return jnp.clip(jnp.where(factor == 1.0, mapped, partner + factor * (mapped - partner)), 0, 255)


@dataclass(frozen=True)
class RandAugment:
    """`layers` operations in a row, each drawn from all fifteen and done with probability `prob`; rand-m7-n4-mstd0.5-inc1 by default.

    Every operation draws its own magnitude, normal around `magnitude` with deviation `magnitude_std`, cut to 0..10, and its own direction.
    Statistics (auto contrast, equalize, contrast) are each frame's own, as where the operations are done frame by frame.
    """

    layers: int = 4
    magnitude: float = 7.0
    magnitude_std: float = 0.5
    prob: float = 0.5

    def __post_init__(self):
        check_probability("randaugment", self.prob)
        check_limits(
            "randaugment",
            layers=(self.layers, at_least(1)),
            magnitude=(self.magnitude, between(0, MOST)),
            magnitude_std=(self.magnitude_std, at_least(0)),
        )

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        """rgb_TxHxWx3 in [0, 1] -> the same, float32."""
        op_key, on_key, level_key, sign_key = jax.random.split(key, 4)
        op_N = jax.random.randint(op_key, (self.layers,), 0, len(OPERATIONS))
        on_N = jax.random.bernoulli(on_key, float(self.prob), (self.layers,))
        level_N = self.magnitude + self.magnitude_std * jax.random.normal(level_key, (self.layers,))
        level_N = jnp.clip(level_N, 0, MOST) / MOST
        sign_N = jnp.where(jax.random.bernoulli(sign_key, 0.5, (self.layers,)), 1.0, -1.0)
        drawn = (jnp.where(on_N, op_N, len(OPERATIONS)), level_N, sign_N)
        # A scan, so that the program holds one layer.
        out, _ = jax.lax.scan(lambda x, layer: (apply(*layer, x), None), 255.0 * rgb, drawn)
        return out / 255.0
