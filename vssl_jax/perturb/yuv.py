"""YUV to RGB on the device: one affine map per clip, chosen by the clip's YUV_SPACE.

From the definition y = Kr R + (1 - Kr - Kb) G + Kb B, u = (B - y) / (2 - 2 Kb), v = (R - y) / (2 - 2 Kr) (ITU-R BT.601 section 2.5, BT.709
section 3), with y in [0, 1] and u, v in [-1/2, 1/2]. 8-bit codes: limited range y = (Y - 16) / 219, u = (U - 128) / 224; full range y = Y /
255, u = (U - 128) / 255.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.batch import YUV_SPACES

LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # (Kr, Kb)


def affine(matrix: str, full_range: bool) -> tuple[np.ndarray, np.ndarray]:
    """(A, b), float64 [3,3] and [3]: RGB in [0, 1] = A @ (Y, U, V codes) + b."""
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1 - kr - kb
    to_rgb = np.array(
        [
            [1, 0, 2 - 2 * kr],
            [1, -(2 - 2 * kb) * kb / kg, -(2 - 2 * kr) * kr / kg],
            [1, 2 - 2 * kb, 0],
        ]
    )
    zero, span = (
        (np.array([0, 128, 128]), np.array([255, 255, 255])) if full_range else (np.array([16, 128, 128]), np.array([219, 224, 224]))
    )
    matrix_3x3 = to_rgb / span
    return matrix_3x3, -matrix_3x3 @ zero


def to_rgb(luma: jax.Array, chroma: jax.Array, space_BxK: jax.Array) -> jax.Array:
    """RGB in [0, 1], clipped, from 8-bit codes as floats.

    Args:
        luma: float [B, K, T, h, w, 1].
        chroma: float [B, K, T, h, w, 2], at luma's size.
        space_BxK: int32, indices into YUV_SPACES.

    Returns:
        float32 [B, K, T, h, w, 3].
    """
    maps = [affine(*space) for space in YUV_SPACES]
    matrix_BxKx3x3 = jnp.asarray(np.stack([m for m, _ in maps]), jnp.float32)[space_BxK]
    shift_BxKx3 = jnp.asarray(np.stack([b for _, b in maps]), jnp.float32)[space_BxK]
    column = matrix_BxKx3x3[
        :, :, None, None, None
    ]  # broadcast over T, h, w; written as sums because three channels don't fill a matrix unit
    rgb = luma * column[..., 0] + chroma[..., :1] * column[..., 1] + chroma[..., 1:] * column[..., 2]
    return jnp.clip(rgb + shift_BxKx3[:, :, None, None, None], 0, 1)
