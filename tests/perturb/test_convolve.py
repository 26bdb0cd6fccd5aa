"""Random convolution: the convolution itself, its random kernels, one for a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vssl_jax.errors import UserError
from vssl_jax.perturb.convolve import RandomConvolution, convolve, random_kernel
from vssl_jax.perturb.recipe import build_view
from vssl_jax.perturb.view import Pixels

SIZE = 5


@pytest.fixture(scope="module")
def kernels():
    """Of 600 keys: [600, 5, 5, 3, 3]."""
    return np.asarray(jax.jit(jax.vmap(lambda key: random_kernel(key, SIZE)))(jax.random.split(jax.random.key(0), 600)))


@pytest.fixture(scope="module")
def clip():
    return np.random.default_rng(0).uniform(size=(3, 6, 7, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def run():
    return jax.jit(convolve)


def test_one_tap_moves_the_picture_and_turns_its_channels(run, clip):
    """In the middle and from each channel to itself: the identity. Elsewhere: zeros come in."""
    identity = np.zeros((SIZE, SIZE, 3, 3), np.float32)
    identity[2, 2] = np.eye(3)
    np.testing.assert_array_equal(run(clip, identity), clip)
    moved = np.zeros_like(identity)
    moved[1, 4] = np.roll(np.eye(3), 1, axis=1)  # from channel c to c + 1; from a row above, and two columns to the right
    expected = np.zeros_like(clip)
    expected[:, 1:, :-2] = np.roll(clip, 1, axis=-1)[:, :-1, 2:]
    np.testing.assert_array_equal(run(clip, moved), expected)


def test_it_is_xlas_convolution(run, clip, kernels):
    for kernel in kernels[:5]:
        expected = lax.conv_general_dilated(clip, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        np.testing.assert_allclose(run(clip, kernel), expected, atol=1e-5)


def test_sides_are_odd_and_each_as_likely_and_the_weights_he_s(kernels):
    used = np.abs(kernels).max((3, 4)) > 0
    sides = used.any(2).sum(1)
    assert (sides == used.any(1).sum(1)).all() and set(sides) == {1, 3, 5}
    for side in (1, 3, 5):
        of = kernels[sides == side]
        assert abs(len(of) - 200) < 4 * (600 * 1 / 3 * 2 / 3) ** 0.5
        edge = (SIZE - side) // 2
        middle = of[:, edge : SIZE - edge, edge : SIZE - edge]
        assert np.abs(of).sum() == pytest.approx(np.abs(middle).sum()) and (middle != 0).all()
        std = (2 / (3 * side**2)) ** 0.5
        assert middle.std() == pytest.approx(std, rel=0.1) and abs(middle.mean()) < 5 * std / middle.size**0.5
        assert np.abs(middle).max() < 2 * std / 0.879


def test_a_clip_has_one_kernel_and_every_clip_its_own(clip):
    still = np.broadcast_to(clip[:1], clip.shape)
    op, keys = jax.jit(jax.vmap(RandomConvolution(size=3))), jax.random.split(jax.random.key(1), 2)
    one, two = np.asarray(op(keys, np.stack([still, still])))
    np.testing.assert_allclose(one, np.broadcast_to(one[:1], one.shape), atol=1e-6)
    assert np.abs(one - two).max() > 0.1 and one.shape == clip.shape
    alone = RandomConvolution(size=3)(keys[1], still)  # wherever the clip stands in a batch
    np.testing.assert_allclose(two, alone, atol=1e-5)


def test_probability():
    clip, keys = jnp.ones((1, 2, 2, 3)), jax.random.split(jax.random.key(2), 1000)
    changed = np.asarray(jax.jit(jax.vmap(lambda key: (RandomConvolution(0.3, 1)(key, clip) != clip).any()))(keys)).mean()
    assert abs(changed - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5
    np.testing.assert_array_equal(RandomConvolution(0.0, 1)(keys[0], clip), clip)


def test_recipes_know_it_by_name_and_it_refuses_an_even_side():
    view = build_view({"crop": {"name": "whole"}, "color": ({"name": "random_convolution", "size": 7},)}, Pixels(16))
    assert view.color == (RandomConvolution(1.0, 7),)
    with pytest.raises(UserError, match="size=4"):
        RandomConvolution(size=4)
