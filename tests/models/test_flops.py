import jax
import jax.numpy as jnp
import pytest

from vssl_jax import models
from vssl_jax.models import flops
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT


def compiled_flops(f, *args) -> float:
    """What XLA counts. Layers must be unrolled: it counts the body of a loop once."""
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


def test_encoder_and_decoder_agree_with_xla_within_two_percent():
    shape = jax.ShapeDtypeStruct
    model = ViT(width=384, depth=2, heads=6, frames=4, size=64, scan=False, impl="xla")
    decoder = MAEDecoder(width=256, depth=2, heads=4, out=1536, scan=False, impl="xla")
    visible, masked, rng = 12, 20, jax.random.key(0)
    ids = [shape((1, n), jnp.int32) for n in (visible, masked)]
    clip, tokens = shape((1, 4, 64, 64, 3), jnp.float32), shape((1, visible, 384), jnp.float32)
    params = jax.eval_shape(lambda: model.lazy_init(rng, clip))
    assert compiled_flops(model.apply, params, clip, ids[0]) == pytest.approx(flops.vit(model, visible), rel=0.02)
    assert compiled_flops(model.apply, params, clip) == pytest.approx(flops.vit(model), rel=0.02)
    params = jax.eval_shape(lambda: decoder.lazy_init(rng, tokens, *ids, model.grid))
    count = compiled_flops(lambda p, x, v, m: decoder.apply(p, x, v, m, model.grid), params, tokens, *ids)
    assert count == pytest.approx(flops.mae_decoder(decoder, 384, visible, masked), rel=0.02)


def test_vit_base_pretraining_needs_67_6_gflop_per_clip_forward():
    """Encoder on 160 of 1568 tokens and a decoder on all of them, by hand: 28.50 + 39.05."""
    model = models.build({"name": "vit_base"})
    decoder = MAEDecoder(out=1536, **models.MAE_DECODERS["vit_base"])
    assert flops.vit(model, 160) / 1e9 == pytest.approx(28.50, abs=0.01)
    assert flops.mae_decoder(decoder, 768, 160, 1408) / 1e9 == pytest.approx(39.05, abs=0.01)
