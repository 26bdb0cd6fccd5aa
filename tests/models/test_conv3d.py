"""All forms of a 3-D convolution are one, gradients too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.noise import normal
from vssl_jax.errors import UserError
from vssl_jax.models import conv3d

# kernel, strides, input [B,T,H,W,C], outputs: every kernel of the networks, even and odd sides, each stride on both
CASES = {
    "3x3x3": ((3, 3, 3), (1, 1, 1), (2, 4, 5, 6, 3), 4),
    "3x3x3 by 2, odd": ((3, 3, 3), (2, 2, 2), (1, 5, 7, 9, 3), 4),
    "3x3x3 on one frame": ((3, 3, 3), (2, 2, 2), (2, 1, 1, 2, 3), 4),
    "1x3x3 by 2": ((1, 3, 3), (1, 2, 2), (2, 3, 6, 5, 3), 5),
    "3x7x7 by 1, 2, 2": ((3, 7, 7), (1, 2, 2), (1, 3, 10, 9, 3), 4),
    "5x7x7 by 2": ((5, 7, 7), (2, 2, 2), (1, 6, 8, 9, 3), 4),
    "3x1x1, fewer outputs": ((3, 1, 1), (1, 1, 1), (2, 5, 3, 4, 4), 2),
    "3x1x1 by 2, 1, 1": ((3, 1, 1), (2, 1, 1), (2, 5, 3, 4, 3), 4),
    "1x1x1 by 2": ((1, 1, 1), (2, 2, 2), (2, 5, 4, 5, 3), 4),
}


def output_and_gradients(impl, x, kernel, strides):
    @jax.jit
    def run(x, kernel):
        y, pull = jax.vjp(functools.partial(conv3d.conv3d, strides=strides, impl=impl), x, kernel)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return run(x, kernel)


@pytest.mark.parametrize("case", CASES)
def test_all_forms_are_one(case):
    size, strides, shape, outputs = CASES[case]
    x, kernel = normal(*shape), normal(*size, shape[-1], outputs, seed=2) / np.sqrt(np.prod(size))
    expected = output_and_gradients("direct", x, kernel, strides)
    sides = tuple(conv3d.length(n, k, s) for n, k, s in zip(shape[1:4], size, strides, strict=True))
    assert expected[0].shape == (shape[0], *sides, outputs)
    for impl in set(conv3d.IMPLEMENTATIONS) - {"direct"}:
        for a, b in zip(output_and_gradients(impl, x, kernel, strides), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5, err_msg=impl)


@pytest.mark.parametrize(("frames", "dilation", "sides"), [(4, 2, (3, 3, 3)), (5, 2, (3, 3, 3)), (7, 3, (3, 1, 1)), (2, 3, (3, 3, 3))])
@pytest.mark.parametrize("impl", conv3d.IMPLEMENTATIONS)
def test_dilation_in_time(frames, dilation, sides, impl):
    """As XLA's dilated convolution, with its gradients."""
    x, kernel = normal(2, frames, 4, 5, 3), normal(*sides, 3, 4, seed=2) / 5
    padding = [(dilation * (sides[0] // 2),) * 2, *((k // 2, k // 2) for k in sides[1:])]
    layout = {"rhs_dilation": (dilation, 1, 1), "dimension_numbers": ("NDHWC", "DHWIO", "NDHWC")}

    def run(f):
        y, pull = jax.vjp(f, x, kernel)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    made = jax.jit(lambda: run(lambda x, k: conv3d.conv3d(x, k, (1, 2, 1), impl, dilation)))()
    expected = jax.jit(lambda: run(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 2, 1), padding, **layout)))()
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="stride in time"):
        conv3d.conv3d(x, kernel, (2, 1, 1), impl, dilation)


def test_padding_is_half_the_kernel_at_both_ends():
    """An impulse on the first pixel meets the tap in the middle; XLA's SAME would pad an even side with stride 2 behind only."""
    x, kernel = jnp.zeros((1, 4, 4, 4, 1)).at[0, 0, 0, 0].set(1.0), jnp.arange(27.0).reshape(3, 3, 3, 1, 1)
    for impl in conv3d.IMPLEMENTATIONS:
        assert conv3d.conv3d(x, kernel, (2, 2, 2), impl)[0, 0, 0, 0, 0] == 13.0


@pytest.mark.parametrize("form", ["pieces", "products"])
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_s_derivative_in_pieces_and_by_products(case, form, monkeypatch):
    """Pieces that do not divide the frames, too."""
    monkeypatch.setattr(conv3d, "PLACES", 50)
    monkeypatch.setattr(conv3d, "PRODUCT_CHANNELS", 1 if form == "products" else 1000)
    monkeypatch.setattr(conv3d, "PRODUCT_SIDES", 1)
    size, strides, shape, outputs = CASES[case]
    x, kernel = normal(*shape), normal(*size, shape[-1], outputs, seed=2) / np.sqrt(np.prod(size))
    expected = output_and_gradients("direct", x, kernel, strides)
    for impl in ("taps", "channels"):
        for a, b in zip(output_and_gradients(impl, x, kernel, strides), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5, err_msg=impl)


def test_where_channels_and_places_are_many_products_make_the_derivative(monkeypatch):
    used = []
    monkeypatch.setattr(conv3d, "_kernel_by_products", lambda x, kernel, strides, g: used.append(kernel.shape) or kernel)
    for channels, side, h in ((64, 14, 3), (63, 14, 3), (64, 13, 3), (3, 2, 1)):
        x, kernel = normal(1, 2, side, side, channels), normal(1, h, h, channels, 64)
        jax.eval_shape(lambda x, k: output_and_gradients("taps", x, k, (1, 1, 1)), x, kernel)
    assert used == [(1, 3, 3, 64, 64), (1, 1, 1, 3, 64)]


def test_the_form_that_is_chosen():
    for size, strides, shape, outputs in CASES.values():
        kernel = (*size, shape[-1], outputs)
        assert conv3d.choose("gpu", kernel, strides) == conv3d.choose("tpu", kernel, strides) == "direct"
    assert conv3d.choose("cpu", (3, 7, 7, 3, 64), (1, 2, 2)) == "channels"
    assert conv3d.choose("cpu", (3, 3, 3, 64, 64)) == conv3d.choose("cpu", (3, 1, 1, 144, 64)) == "taps"
    assert conv3d.choose("cpu", (3, 1, 1, 45, 64)) == "channels"


def test_an_unknown_form_is_refused():
    with pytest.raises(UserError, match="unknown convolution 'chanels': did you mean 'channels'"):
        conv3d.conv3d(jnp.zeros((1, 1, 1, 1, 1)), jnp.zeros((1, 1, 1, 1, 1)), impl="chanels")
