import jax
import jax.numpy as jnp
import pytest

from tests.models import cnn3d
from vssl_jax import models
from vssl_jax.compiled import account
from vssl_jax.models import backbone, flops
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT


def compiled_flops(f, *args) -> float:
    """What XLA counts. Layers must be unrolled: it counts the body of a loop once."""
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


def test_encoder_and_decoder_agree_with_xla_within_two_percent():
    shape = jax.ShapeDtypeStruct
    model = ViT(width=384, depth=2, heads=6, frames=4, size=64, unroll=2, impl="xla")
    decoder = MAEDecoder(width=256, depth=2, heads=4, out=1536, unroll=2, impl="xla")
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


DIRECT = {"impl": "direct"}
BOTTLENECKS = DIRECT | {"layers": (2, 1, 1, 1)}  # every kind of block: the first of a stage, with another width and stride, and the next


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cnn_small", DIRECT), ("c3d", DIRECT), ("mc3_18", DIRECT), ("r2plus1d10_vcop", DIRECT), ("s3d_g", DIRECT), ("cvrl_r3d50", BOTTLENECKS),
        ("tsm_r50", BOTTLENECKS), ("r3d18", DIRECT | {"layers": (1, 1, 1, 1), "last_time_stride": 1, "last_time_dilation": 2}),
    ],
)  # fmt: skip
def test_convolution_networks_agree_with_the_program(name, fields):
    """On clips of full size: exactly with its matrix products and convolutions, within two percent with all that XLA counts."""
    model = models.build({"name": name} | fields)
    params, stats, _ = cnn3d.shapes(model)
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), jnp.float32)
    lowered = jax.jit(lambda p, s, x: backbone.apply(model, p, s, x, train=False, method="features")).lower(params, stats, clip)
    assert account.read(lowered.compiler_ir("hlo").get_hlo_module().to_string()).flops == flops.backbone(model)
    assert lowered.cost_analysis()["flops"] == pytest.approx(flops.backbone(model), rel=0.02)


def test_r3d_18_needs_71_8_gflop_per_clip_forward():
    """torchvision states 40.70 G multiplications with those by padding, 81.4 GFLOP; without them:"""
    assert flops.backbone(models.build({"name": "r3d18"})) / 1e9 == pytest.approx(71.78, abs=0.01)


@pytest.mark.parametrize("fields", [{"name": "timesformer"}, {"name": "vivit"}, {"name": "vivit", "temporal_depth": 0}], ids=str)
def test_transformers_with_a_class_token_agree_with_the_program(fields):
    model = models.build(fields | {"frames": 4, "size": 64, "depth": 2, "unroll": 2, "impl": "xla"})
    params, stats, _ = cnn3d.shapes(model)
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), jnp.float32)
    lowered = jax.jit(lambda p, s, x: backbone.apply(model, p, s, x, train=False, method="features")).lower(params, stats, clip)
    assert account.read(lowered.compiler_ir("hlo").get_hlo_module().to_string()).flops == flops.backbone(model)
