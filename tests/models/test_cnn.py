import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.noise import normal
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone
from vssl_jax.models.cnn import Conv2Plus1D, space_to_depth


def init(model, rng, shape):
    params, stats = jax.jit(lambda key: backbone.init(model, key, shape)[:2])(rng)
    assert stats == {}
    return params


def test_space_to_depth_order():
    x = np.arange(2 * 8 * 8 * 3).reshape(1, 2, 8, 8, 3)
    out = np.asarray(space_to_depth(jnp.asarray(x), 4))
    assert out.shape == (1, 2, 2, 2, 48)
    np.testing.assert_array_equal(out[0, 1, 1, 0], x[0, 1, 4:8, 0:4].reshape(-1))


def test_temporal_taps_are_a_convolution_in_time(rng):
    """An impulse in one frame reaches that frame and its two neighbors, and the kernel's three taps in order."""
    layer = Conv2Plus1D(4, 1)
    x = normal(1, 6, 4, 4, 3)
    params = jax.jit(layer.init)(rng, x)["params"]

    def before_norm(x):
        _, state = jax.jit(lambda x: layer.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"]))(x)
        return state["intermediates"]["spatial_norm"]["__call__"][0], state["intermediates"]["temporal"]["__call__"][0]

    spatial, temporal = before_norm(x)
    taps = params["temporal"]["kernel"].reshape(3, 4, 4)
    padded = np.pad(np.maximum(np.asarray(spatial), 0), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    expected = sum(padded[:, i : i + 6] @ taps[i] for i in range(3))
    np.testing.assert_allclose(temporal, expected, atol=1e-5)


def test_features_do_not_depend_on_the_batch(rng):
    model = models.build({"name": "cnn_small"})
    x = normal(3, 4, 16, 16, 3)
    params = init(model, rng, x.shape)
    stats = {}
    together, alone = (jax.jit(lambda y: backbone.apply(model, params, stats, y, train=True, method="features")[0])(y) for y in (x, x[1:2]))
    assert together.map_BxTxHxWxD.shape == (3, 4, 1, 1, 64)
    np.testing.assert_allclose(together.pooled_BxD[1:2], alone.pooled_BxD, atol=1e-5)


def test_order_of_frames_is_visible_to_it(rng):
    model = models.build({"name": "cnn_small"})
    x = normal(1, 4, 16, 16, 3)
    params = init(model, rng, x.shape)
    run = jax.jit(lambda y: backbone.apply(model, params, {}, y, train=False)[0].pooled_BxD)
    forward, reverse = run(x), run(x[:, ::-1])
    assert float(jnp.abs(forward - reverse).max()) > 1e-3


def test_sides_must_fit_the_stem(rng):
    with pytest.raises(UserError, match="multiples of 4"):
        backbone.init(models.build({"name": "cnn_small"}), rng, (1, 4, 18, 16, 3))
