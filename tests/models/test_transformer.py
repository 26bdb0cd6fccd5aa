"""What transformer.py computes by hand is what JAX and Flax compute: values, and gradients by automatic differentiation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.models import transformer
from vssl_jax.models.transformer import LN_EPS, BlockConfig, LayerNorm, block_stack, gelu

X = np.concatenate([np.linspace(-12, 12, 4001), [-1e4, -40.0, 0.0, 40.0, 1e4]]).astype(np.float32)


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GELU and its derivative in float64."""
    with jax.enable_x64(True):
        x = jnp.asarray(x, jnp.float64)
        value = lambda x: x * jax.scipy.stats.norm.cdf(x)  # noqa: E731
        return np.asarray(value(x)), np.asarray(jax.vmap(jax.grad(value))(x))


def test_gelu_is_exact_in_float32():
    value, slope = exact(X)
    np.testing.assert_allclose(gelu(jnp.asarray(X)), value, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(jnp.asarray(X)), slope, atol=2e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gelu_of_half_precision_is_the_exact_one_rounded(dtype):
    x = jnp.asarray(X[np.abs(X) < 50], dtype)
    value, slope = exact(np.asarray(x, np.float32))
    half_step = float(jnp.finfo(dtype).eps) / 2
    for made, wanted in ((gelu(x), value), (jax.vmap(jax.grad(gelu))(x), slope)):
        assert made.dtype == dtype
        np.testing.assert_allclose(np.asarray(made, np.float32), wanted, rtol=half_step * 1.01, atol=2e-6)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_layer_norm_and_its_gradients_are_flax_s(rng, offset):
    keys = jax.random.split(rng, 4)
    x, dy = (jax.random.normal(key, (3, 5, 24)) for key in keys[:2])
    x += offset
    params = {"scale": jax.random.normal(keys[2], (24,)), "bias": jax.random.normal(keys[3], (24,))}

    def both(layer):
        return jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)

    (ours, back), (theirs, their_back) = both(LayerNorm("float32")), both(nn.LayerNorm(epsilon=LN_EPS, use_fast_variance=False))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 if offset else 2e-5), back(dy), their_back(dy))


def test_layer_norm_of_half_precision_keeps_statistics_in_float32(rng):
    x = (100 + jax.random.normal(rng, (4, 32))).astype(jnp.bfloat16)
    layer = LayerNorm("bfloat16")
    params = layer.init(rng, x)
    wanted = nn.LayerNorm(epsilon=LN_EPS, use_fast_variance=False).apply(params, x.astype(jnp.float32))
    made = layer.apply(params, x)
    assert made.dtype == jnp.bfloat16 and params["params"]["scale"].dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(made, np.float32), wanted, rtol=4e-3, atol=1e-6)

    def slope(layer, x):
        return jax.grad(lambda x: jnp.sum(layer.apply(params, x).astype(jnp.float32)[:, ::3]))(x)

    gradient, wanted = slope(layer, x), slope(LayerNorm("float32"), x.astype(jnp.float32))
    assert gradient.dtype == jnp.bfloat16 and float(jnp.abs(wanted).max()) > 0.1
    np.testing.assert_allclose(np.asarray(gradient, np.float32), wanted, rtol=4e-3, atol=1e-6)


@pytest.mark.parametrize(("unroll", "depth", "expected"), [(1, 4, 1), (3, 4, 3), (99, 4, 4), (3, 12, 3)])
@pytest.mark.parametrize("kind", ["cpu", "gpu", "tpu"])
def test_layers_per_iteration_that_are_set(unroll, depth, expected, kind, monkeypatch):
    monkeypatch.setattr(transformer, "platform", lambda: kind)
    assert BlockConfig(unroll=unroll).unrolled(depth) == expected


@pytest.mark.parametrize(("kind", "four", "twelve"), [("cpu", 4, 1), ("gpu", 4, 12), ("tpu", 1, 1)])
def test_layers_per_iteration_that_suit_a_device(kind, four, twelve, monkeypatch):
    monkeypatch.setattr(transformer, "platform", lambda: kind)
    assert (BlockConfig().unrolled(4), BlockConfig().unrolled(12)) == (four, twelve)


@pytest.mark.parametrize(
    ("remat", "expected"), [("auto", {"cpu": "none", "gpu": "none", "tpu": "dots"}), ("none", dict.fromkeys(("cpu", "gpu", "tpu"), "none"))]
)
def test_what_blocks_keep_on_a_device(remat, expected, monkeypatch):
    """What `block_stack` hands to nn.remat, where it does."""
    for kind, wanted in expected.items():
        asked = []
        monkeypatch.setattr(transformer, "platform", lambda kind=kind: kind)
        monkeypatch.setattr(transformer.nn, "remat", lambda block, policy, prevent_cse: asked.append(policy) or block)  # noqa: B023
        block_stack(4, 2, 16, BlockConfig(remat=remat))
        assert asked == ([] if wanted == "none" else [transformer.REMAT[wanted]])


@pytest.mark.parametrize(("depth", "unroll", "inlined"), [(4, 1, 0), (4, 2, 0), (5, 2, 0), (4, 3, 1), (4, 4, 1), (1, 1, 1)])
def test_what_is_made_anew_is_not_found_again(depth, unroll, inlined, monkeypatch):
    """A loop of one turn is inlined, where the compiler would take the forward pass's results for those of the backward pass; a loop hides them."""
    asked = []
    monkeypatch.setattr(transformer.nn, "remat", lambda block, policy, prevent_cse: asked.append(prevent_cse) or block)
    block_stack(depth, 2, 16, BlockConfig(unroll=unroll, remat="full"))
    assert asked == [bool(inlined)]


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(UserError, match=r"model\.unroll is -1"):
        BlockConfig(unroll=-1)
