import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.noise import noisy, normal
from vssl_jax.models.backbone import Features
from vssl_jax.models.heads import AttentiveHead, FcNormHead, LinearHead


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(head, params, x, train=False, rng=None):
    return head.apply({"params": params}, x, train=train, rng=rng)


def init(head, x):
    return jax.jit(head.init)(jax.random.key(0), x)["params"]


def features(width=16):
    tokens = 3 + 2 * normal(4, 2, 3, 3, width)
    return Features(tokens, tokens.mean((1, 2, 3)))


def test_fc_norm_starts_a_thousand_times_smaller():
    x = features(512)
    params = init(FcNormHead(100), x)
    assert float(jnp.std(params["linear"]["kernel"])) == pytest.approx(2e-5, rel=0.02)
    assert float(jnp.abs(run(FcNormHead(100), params, x)).max()) < 5e-3


def test_fc_norm_normalizes_the_pooled_features():
    x = features()
    head = FcNormHead(5, init_scale=1.0)
    params = init(head, x)
    shifted = Features(x.map_BxTxHxWxD, 7 * x.pooled_BxD + 3)
    np.testing.assert_allclose(run(head, params, x), run(head, params, shifted), atol=1e-5)


def test_dropout_is_per_example_and_in_training_only(rng):
    x = features()
    head = FcNormHead(5, dropout=0.5, init_scale=1.0)
    params = init(head, x)
    keys = jax.random.split(rng, 4)
    train = run(head, params, x, True, keys)
    assert not np.allclose(train, run(head, params, x))
    part = run(head, params, Features(x.map_BxTxHxWxD[2:], x.pooled_BxD[2:]), True, keys[2:])
    np.testing.assert_allclose(train[2:], part, atol=1e-6)
    with pytest.raises(ValueError, match="rng"):
        run(head, params, x, True)


def test_linear_head_sees_the_pooled_features_only():
    x = features()
    params = init(LinearHead(3), x)
    expected = x.pooled_BxD @ params["linear"]["kernel"] + params["linear"]["bias"]
    np.testing.assert_allclose(run(LinearHead(3), params, Features(0 * x.map_BxTxHxWxD, x.pooled_BxD)), expected, atol=1e-5)


def test_attentive_head_reads_all_tokens_as_a_set():
    x = features()
    head = AttentiveHead(3, heads=4)
    params = noisy(init(head, x))
    out = run(head, params, x)
    turned = run(head, params, Features(x.map_BxTxHxWxD[:, ::-1, :, ::-1], 0 * x.pooled_BxD))
    np.testing.assert_allclose(out, turned, atol=1e-5)
    grad = jax.grad(lambda tokens: run(head, params, Features(tokens, x.pooled_BxD)).sum())(x.map_BxTxHxWxD)
    assert (np.abs(np.asarray(grad)).max(-1) > 0).all()
