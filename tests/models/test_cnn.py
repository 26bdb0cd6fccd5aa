import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone
from vssl_jax.models.cnn import Conv2Plus1D, space_to_depth


def test_space_to_depth_order():
    x = np.arange(2 * 8 * 8 * 3).reshape(1, 2, 8, 8, 3)
    out = np.asarray(space_to_depth(jnp.asarray(x), 4))
    assert out.shape == (1, 2, 2, 2, 48)
    np.testing.assert_array_equal(out[0, 1, 1, 0], x[0, 1, 4:8, 0:4].reshape(-1))


def test_temporal_taps_are_a_convolution_in_time(rng):
    """An impulse in one frame reaches that frame and its two neighbors, and the kernel's three taps in order."""
    layer = Conv2Plus1D(4, 1, "float32")
    x = jax.random.normal(rng, (1, 6, 4, 4, 3))
    params = layer.init(rng, x)["params"]

    def before_norm(x):
        _, state = layer.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"])
        return state["intermediates"]["spatial_norm"]["__call__"][0], state["intermediates"]["temporal"]["__call__"][0]

    spatial, temporal = before_norm(x)
    taps = params["temporal"]["kernel"].reshape(3, 4, 4)
    padded = np.pad(np.maximum(np.asarray(spatial), 0), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    expected = sum(padded[:, i : i + 6] @ taps[i] for i in range(3))
    np.testing.assert_allclose(temporal, expected, atol=1e-5)


def test_features_do_not_depend_on_the_batch(rng):
    model = models.build({"name": "cnn_small"})
    x = jax.random.normal(rng, (3, 4, 16, 16, 3))
    params, stats = backbone.init(model, rng, x.shape)
    assert stats == {}
    together, _ = backbone.apply(model, params, stats, x, train=True, method="features")
    alone, _ = backbone.apply(model, params, stats, x[1:2], train=False, method="features")
    assert together.map_BxTxHxWxD.shape == (3, 4, 1, 1, 64)
    np.testing.assert_allclose(together.pooled_BxD[1:2], alone.pooled_BxD, atol=1e-5)


def test_order_of_frames_is_visible_to_it(rng):
    model = models.build({"name": "cnn_small"})
    x = jax.random.normal(rng, (1, 4, 16, 16, 3))
    params, _ = backbone.init(model, rng, x.shape)
    forward, reverse = (backbone.apply(model, params, {}, y, train=False)[0].pooled_BxD for y in (x, x[:, ::-1]))
    assert float(jnp.abs(forward - reverse).max()) > 1e-3


def test_sides_must_fit_the_stem(rng):
    with pytest.raises(UserError, match="multiples of 4"):
        backbone.init(models.build({"name": "cnn_small"}), rng, (1, 4, 18, 16, 3))
