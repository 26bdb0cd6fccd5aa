"""The color matrices against exact values, and a round trip."""

import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.batch import YUV_SPACES
from vssl_jax.perturb import yuv

# RGB from limited-range codes as the standards' printed coefficients (ITU-R BT.601-7, BT.709-6), four digits.
PRINTED = {"bt601": (1.402, 0.344136, 0.714136, 1.772), "bt709": (1.5748, 0.187324, 0.468124, 1.8556)}


def convert(code, space):
    code = jnp.asarray(code, jnp.float32)[None, None, None, None, None]
    return np.asarray(yuv.to_rgb(code[..., :1], code[..., 1:], jnp.full((1, 1), space, jnp.int32)))[0, 0, 0, 0, 0]


@pytest.mark.parametrize("space", range(4))
def test_black_white_and_gray(space):
    low, high = (0, 255) if YUV_SPACES[space][1] else (16, 235)
    np.testing.assert_allclose(convert([low, 128, 128], space), [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(convert([high, 128, 128], space), [1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(convert([(low + high) / 2, 128, 128], space), [0.5] * 3, atol=1e-6)


@pytest.mark.parametrize("space", range(4))
def test_printed_coefficients(space):
    name, full = YUV_SPACES[space]
    red_v, green_u, green_v, blue_u = PRINTED[name]
    luma, u, v = (120 / 255, 20 / 255, -30 / 255) if full else (104 / 219, 20 / 224, -30 / 224)
    expected = [luma + red_v * v, luma - green_u * u - green_v * v, luma + blue_u * u]
    np.testing.assert_allclose(convert([120, 148, 98], space), expected, atol=1e-5)


@pytest.mark.parametrize("space", range(4))
def test_round_trip(space):
    name, full = YUV_SPACES[space]
    kr, kb = yuv.LUMA_WEIGHTS[name]
    red, green, blue = rgb = np.random.default_rng(0).uniform(size=3)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    code = [255 * y, 128 + 255 * u, 128 + 255 * v] if full else [16 + 219 * y, 128 + 224 * u, 128 + 224 * v]
    np.testing.assert_allclose(convert(code, space), rgb, atol=1e-5)


def test_out_of_range_codes_are_clipped_and_spaces_are_per_clip():
    assert (convert([255, 255, 255], 0) <= 1).all() and (convert([0, 0, 0], 0) >= 0).all()
    luma, chroma = jnp.full((1, 4, 1, 1, 1, 1), 120.0), jnp.broadcast_to(jnp.array([148.0, 98.0]), (1, 4, 1, 1, 1, 2))
    together = np.asarray(yuv.to_rgb(luma, chroma, jnp.arange(4)[None]))[0, :, 0, 0, 0]
    for space in range(4):
        np.testing.assert_allclose(together[space], convert([120, 148, 98], space), atol=1e-6)
