"""Crop, resize and flip as one linear map: a small weight matrix per axis and clip, applied with two matrix products.

Matrix products are what accelerators do best, need no gather, and take boxes that are traced. The convention is half-pixel centers: pixel j
covers [j, j+1). With `antialias` the triangle filter widens by the scale when it reduces (what Pillow's bilinear resize does, so what
VideoMAE's pretraining crops used); without it the two nearest pixels are blended (torch's and OpenCV's bilinear). Only pixels that the box
touches are read and their weights sum to one, as if the box had been cut out first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax.platform import platform

# On TPU: three bfloat16 passes, since one would round the weights to 8 bits, which shows in flat areas.
_PRECISION = jax.lax.Precision.HIGH


class Sampling(NamedTuple):
    """Where the samples of a plane lie on the axis of luma pixels: sample m is at pixel index stride * (m + offset)."""

    stride: int = 1
    offset: float = 0.0


FULL = Sampling()
CHROMA_ROWS = Sampling(2, 0.25)  # 4:2:0: midway between two luma rows
CHROMA_COLUMNS = Sampling(2, 0.0)  # left-sited: on the even luma columns


class Line(NamedTuple):
    """One axis of a box: the interval [start, start + length) in pixels, float [...], and whether it is read backwards, bool [...]."""

    start: jax.Array
    length: jax.Array
    flip: jax.Array


def weights(line: Line, sizes: tuple[int, int], picture: jax.Array, antialias: bool = True, sampling: Sampling = FULL) -> jax.Array:
    """The matrix that maps a plane's axis to the output's.

    Args:
        line: the interval to read, float pixels of the full-size picture, at least one pixel long.
        sizes: (out, in), samples of the output and of the plane.
        picture: how many of the plane's samples are picture, int [...]; samples past them get no weight.
        antialias: widen the filter when the axis shrinks.
        sampling: where the plane's samples lie.

    Returns:
        float32 [..., out, in]; each row is non-negative and sums to one.
    """
    out, size_in = sizes
    start, length, picture = (jnp.asarray(x, jnp.float32)[..., None, None] for x in (line.start, line.length, picture))
    i_O1 = jnp.arange(out, dtype=jnp.float32)[:, None]
    i_O1 = jnp.where(jnp.asarray(line.flip)[..., None, None], out - 1 - i_O1, i_O1)
    sample_I = jnp.arange(size_in, dtype=jnp.float32)

    def position(pixel):
        return pixel / sampling.stride - sampling.offset

    scale = length / out
    center = position(start + (i_O1 + 0.5) * scale - 0.5)
    first = jnp.clip(jnp.floor(position(start)), 0, picture - 1)
    last = jnp.clip(jnp.ceil(position(start + length - 1)), 0, picture - 1)
    support = jnp.maximum(scale / sampling.stride, 1.0) if antialias else 1.0
    weight = jnp.maximum(1 - jnp.abs(sample_I - jnp.clip(center, first, last)) / support, 0)
    weight = jnp.where((sample_I >= first) & (sample_I <= last), weight, 0)
    return weight / weight.sum(-1, keepdims=True)


def apply(rows_BxKxhxH: jax.Array, columns_BxKxwxW: jax.Array, plane_BxKxTxHxWxC: jax.Array) -> jax.Array:
    """The resampled plane, float32 [B, K, T, h, w, C], in the input's units. uint8 input is exact; on a GPU the result is good to 2^-10."""
    if platform() != "gpu":
        plane = plane_BxKxTxHxWxC.astype(jnp.float32)
        plane = jnp.einsum("bkwW,bktHWc->bktHwc", columns_BxKxwxW, plane, precision=_PRECISION)
        return jnp.einsum("bkhH,bktHwc->bkthwc", rows_BxKxhxH, plane, precision=_PRECISION)
    # A GPU's products take no strides, so the axes are put, while they are uint8, where both products read and write them as they lie. It rounds what it
    # multiplies to 11 bits (TF32), as many as float16 has, which moves half the bytes: codes of 8 bits are exact, the weights and what lies between the two
    # products are rounded; sums are float32.
    plane_BxKxHxTxCxW = jnp.transpose(plane_BxKxTxHxWxC, (0, 1, 3, 2, 5, 4)).astype(jnp.float16)
    rows, columns = rows_BxKxhxH.astype(jnp.float16), columns_BxKxwxW.astype(jnp.float16)
    plane = jnp.einsum("bkhH,bkHtcW->bkhtcW", rows, plane_BxKxHxTxCxW)
    plane = jnp.einsum("bkhtcW,bkwW->bkhtcw", plane, columns, preferred_element_type=jnp.float32)
    return jnp.transpose(plane, (0, 1, 3, 2, 5, 4))
