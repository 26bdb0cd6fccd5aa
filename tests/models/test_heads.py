import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.backbone import Features
from vssl_jax.models.heads import AttentiveHead, FcNormHead, LinearHead


def features(rng, width=16):
    tokens = 3 + 2 * jax.random.normal(rng, (4, 2, 3, 3, width))
    return Features(tokens, tokens.mean((1, 2, 3)))


def test_fc_norm_starts_a_thousand_times_smaller(rng):
    x = features(rng, 512)
    params = FcNormHead(100).init(rng, x)["params"]
    assert float(jnp.std(params["linear"]["kernel"])) == pytest.approx(2e-5, rel=0.02)
    assert float(jnp.abs(FcNormHead(100).apply({"params": params}, x)).max()) < 5e-3


def test_fc_norm_normalizes_the_pooled_features(rng):
    x = features(rng)
    head = FcNormHead(5, init_scale=1.0)
    params = head.init(rng, x)["params"]
    shifted = Features(x.map_BxTxHxWxD, 7 * x.pooled_BxD + 3)
    np.testing.assert_allclose(head.apply({"params": params}, x), head.apply({"params": params}, shifted), atol=1e-5)


def test_dropout_is_per_example_and_in_training_only(rng):
    x = features(rng)
    head = FcNormHead(5, dropout=0.5, init_scale=1.0)
    params = head.init(rng, x)["params"]
    keys = jax.random.split(rng, 4)
    train = head.apply({"params": params}, x, train=True, rng=keys)
    assert not np.allclose(train, head.apply({"params": params}, x))
    part = head.apply({"params": params}, Features(x.map_BxTxHxWxD[2:], x.pooled_BxD[2:]), train=True, rng=keys[2:])
    np.testing.assert_allclose(train[2:], part, atol=1e-6)
    with pytest.raises(ValueError, match="rng"):
        head.apply({"params": params}, x, train=True)


def test_linear_head_sees_the_pooled_features_only(rng):
    x = features(rng)
    params = LinearHead(3).init(rng, x)["params"]
    expected = x.pooled_BxD @ params["linear"]["kernel"] + params["linear"]["bias"]
    np.testing.assert_allclose(LinearHead(3).apply({"params": params}, Features(0 * x.map_BxTxHxWxD, x.pooled_BxD)), expected, atol=1e-5)


def test_attentive_head_reads_all_tokens_as_a_set(rng):
    x = features(rng)
    head = AttentiveHead(3, heads=4)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(rng, p.shape), head.init(rng, x)["params"])
    out = head.apply({"params": params}, x)
    turned = head.apply({"params": params}, Features(x.map_BxTxHxWxD[:, ::-1, :, ::-1], 0 * x.pooled_BxD))
    np.testing.assert_allclose(out, turned, atol=1e-5)
    grad = jax.grad(lambda tokens: head.apply({"params": params}, Features(tokens, None)).sum())(x.map_BxTxHxWxD)
    assert (np.abs(np.asarray(grad)).max(-1) > 0).all()
