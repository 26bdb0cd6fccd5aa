"""The blur's matrix: the Gaussian itself, the mean kept, constants kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import blur


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_matrix_is_symmetric_and_doubly_stochastic(sigma):
    matrix = np.asarray(jax.jit(lambda s: blur.blur_matrix(17, s, 6))(sigma))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-7)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)
    assert (matrix >= 0).all()


def test_delta_gives_the_kernel():
    delta = jnp.zeros((1, 15, 15, 1)).at[0, 7, 7, 0].set(1)
    distance = np.arange(-7, 8)
    kernel = np.where(np.abs(distance) <= 5, np.exp(-(distance**2) / (2 * 1.3**2)), 0)
    kernel /= kernel.sum()
    np.testing.assert_allclose(blur.gaussian_blur(delta, 1.3, 5)[0, ..., 0], np.outer(kernel, kernel), atol=1e-6)


def test_mean_and_constants_are_kept(rng):
    clip = jax.random.uniform(rng, (2, 9, 12, 3))
    out = blur.gaussian_blur(clip, 1.5, 5)
    np.testing.assert_allclose(out.mean((1, 2)), clip.mean((1, 2)), atol=1e-6)
    assert float(out.std()) < 0.5 * float(clip.std())
    np.testing.assert_allclose(blur.gaussian_blur(jnp.full((1, 9, 12, 3), 0.3), 1.5, 5), 0.3, atol=1e-6)


def test_border_is_mirrored(rng):
    clip = np.asarray(jax.random.uniform(rng, (1, 8, 8, 1)))
    padded = np.pad(clip, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="symmetric")
    inner = np.asarray(blur.gaussian_blur(jnp.asarray(padded), 1.0, 3))[:, 4:-4, 4:-4]
    np.testing.assert_allclose(blur.gaussian_blur(jnp.asarray(clip), 1.0, 3), inner, atol=1e-6)


def test_sigma_is_drawn_per_key(rng):
    delta = jnp.zeros((1, 15, 15, 3)).at[0, 7, 7].set(1)
    peaks = jax.jit(jax.vmap(lambda key: blur.GaussianBlur(1.0, (0.5, 2.0))(key, delta)[0, 7, 7, 0]))(jax.random.split(rng, 200))
    expected = [float(blur.gaussian_blur(delta, s, 6)[0, 7, 7, 0]) for s in (2.0, 0.5)]
    np.testing.assert_allclose([peaks.min(), peaks.max()], expected, rtol=0.05)
    np.testing.assert_array_equal(blur.GaussianBlur(0.0)(rng, delta), delta)


def test_errors_name_the_setting():
    with pytest.raises(UserError, match="sigma"):
        blur.GaussianBlur(sigma=(0.0, 1.0))
