import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.noise import noisy, normal
from tests.train import tiny
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone, timesformer
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.positions import sincos_1d
from vssl_jax.models.transformer import drop_path_keep
from vssl_jax.models.video_transformer import resized
from vssl_jax.models.vit import ViT, patchify

TINY = ViT(width=12, depth=3, heads=3, frames=4, size=32, tubelet=(2, 16, 16))
CLIP = (2, 4, 32, 32, 3)
VISIBLE = np.array([[0, 5, 6], [1, 2, 7]], np.int32)


def run(model, params, x, ids=None):
    """Tokens, compiled: op by op, the suite would spend minutes in tiny compilations."""
    return jax.jit(model.apply)({"params": params}, x, ids)


def clip():
    return normal(*CLIP)


@functools.cache
def init(model):
    return jax.jit(lambda key: backbone.init(model, key, CLIP)[0])(jax.random.key(0))


@functools.cache
def params_of(model):
    return noisy(init(model))


def count(name: str) -> int:
    """Parameters of VideoMAE pretraining at full size, from shapes alone."""
    model = models.build({"name": name})
    decoder = MAEDecoder(out=1536, **models.MAE_DECODERS[name])
    ids = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    rng = jax.random.key(0)
    encoder = jax.eval_shape(lambda x: model.init(rng, x), jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32))
    tokens = jax.ShapeDtypeStruct((1, 8, model.width), jnp.float32)
    own = jax.eval_shape(lambda x, ids: decoder.init(rng, x, ids, ids, model.grid), tokens, ids)
    return sum(x.size for x in jax.tree.leaves([encoder, own]))


def test_vit_base_pretraining_has_the_published_number_of_parameters():
    assert count("vit_base") == 94_210_944


@pytest.mark.parametrize("name, millions", [("vit_large", 343.0), ("vit_huge", 692.5)])
def test_larger_sizes(name, millions):
    assert count(name) / 1e6 == pytest.approx(millions, abs=0.1)


def test_patch_order_is_time_row_column_and_frame_row_column_channel():
    t, h, w, c = 4, 6, 8, 3
    values = np.arange(t * h * w * c).reshape(1, t, h, w, c)
    patches = np.asarray(patchify(jnp.asarray(values), (2, 3, 4)))
    assert patches.shape == (1, 2 * 2 * 2, 2 * 3 * 4 * 3)
    for n, (i, j, k) in enumerate(np.ndindex(2, 2, 2)):
        np.testing.assert_array_equal(patches[0, n], values[0, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3, 4 * k : 4 * k + 4].reshape(-1))


def test_sincos_table_is_one_axis_over_all_tokens():
    table = sincos_1d(1568, 768)
    assert table.shape == (1568, 768) and table.dtype == np.float32
    n, j = 1567, 401
    assert table[n, j] == pytest.approx(np.cos(n / 10000 ** (400 / 768)), abs=1e-6)
    assert table[n, j - 1] == pytest.approx(np.sin(n / 10000 ** (400 / 768)), abs=1e-6)
    np.testing.assert_array_equal(table[0], np.tile([0.0, 1.0], 384))


def test_masked_pixels_reach_no_visible_token():
    """The gradient of the visible tokens by a masked patch's pixels is exactly zero, by a visible patch's it is not."""
    params = params_of(TINY)

    def output(x):
        tokens, _ = backbone.apply(TINY, params, {}, x, train=True, visible_BxV=VISIBLE)
        return jnp.sum(tokens**2)

    grad = patchify(jax.jit(jax.grad(output))(clip()), TINY.tubelet)
    per_patch = np.abs(np.asarray(grad)).max(-1)
    visible = np.zeros(per_patch.shape, bool)
    np.put_along_axis(visible, VISIBLE, True, axis=1)
    assert (per_patch[~visible] == 0).all()
    assert (per_patch[visible] > 0).all()


def test_all_ids_in_order_are_no_ids():
    params, x = params_of(TINY), clip()
    ids = jnp.broadcast_to(jnp.arange(8), (2, 8))
    np.testing.assert_array_equal(run(TINY, params, x, ids), run(TINY, params, x))


def test_tokens_carry_their_positions():
    """Permuting the ids permutes the tokens and changes nothing else."""
    params, x = params_of(TINY), clip()
    forward, backward = (run(TINY, params, x, ids) for ids in (VISIBLE, VISIBLE[:, ::-1]))
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-5)


@functools.lru_cache
def value_and_grad(model):
    return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(model.apply({"params": p}, clip())))))(params_of(TINY))


@pytest.mark.parametrize(
    "change", [pytest.param({"unroll": 2}, marks=pytest.mark.slow), {"unroll": 3}, {"remat": "dots"}, {"unroll": 3, "remat": "full"}]
)
def test_unrolling_and_remat_change_no_result(change):
    scanned = dataclasses.replace(TINY, unroll=1)
    other = value_and_grad(dataclasses.replace(scanned, **change))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), value_and_grad(scanned), other)


def test_unrolling_changes_no_parameter():
    scanned, unrolled = dataclasses.replace(TINY, unroll=1), dataclasses.replace(TINY, unroll=3, remat="full")
    tiny.assert_same_bits(init(scanned), init(unrolled))


def test_initialization_is_videomaes():
    params = jax.tree.map(np.asarray, init(dataclasses.replace(TINY, width=48)))
    blocks = params["blocks"]
    limits = {
        "patch": (params["patch_embed"]["kernel"], 1536**-0.5),
        "patch bias": (params["patch_embed"]["bias"], 1536**-0.5),
        "qkv": (blocks["attn"]["qkv"]["kernel"], (6 / (4 * 48)) ** 0.5),  # one matrix 48 -> 144
        "proj": (blocks["attn"]["proj"]["kernel"], (6 / 96) ** 0.5),
        "fc1": (blocks["mlp"]["fc1"]["kernel"], (6 / (5 * 48)) ** 0.5),
    }
    for name, (x, limit) in limits.items():
        largest = np.abs(x).max()
        assert 0.9 * limit < largest <= limit, name
        if x.size > 1000:
            assert np.std(x) == pytest.approx(limit / 3**0.5, rel=0.05), name
    assert not np.any(blocks["attn"]["q_bias"]) and not np.any(blocks["mlp"]["fc1"]["bias"])
    first, second = blocks["mlp"]["fc1"]["kernel"][:2]
    assert not np.array_equal(first, second)  # each layer has its own draw


def test_no_bias_on_keys():
    params, *_ = jax.eval_shape(lambda: backbone.init(TINY, jax.random.key(0), CLIP))
    assert set(params["blocks"]["attn"]) == {"qkv", "q_bias", "v_bias", "proj"}
    assert set(params["blocks"]["attn"]["qkv"]) == {"kernel"}


def test_features_are_the_tokens_and_their_mean():
    params, x = params_of(TINY), clip()
    features, stats = jax.jit(lambda p: backbone.apply(TINY, p, {}, x, train=False, method="features"))(params)
    tokens = run(TINY, params, x)
    assert features.map_BxTxHxWxD.shape == (2, 2, 2, 2, 12) and stats == {}
    np.testing.assert_array_equal(features.map_BxTxHxWxD.reshape(2, 8, 12), tokens)
    np.testing.assert_allclose(features.pooled_BxD, tokens.mean(1), atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    low = dataclasses.replace(TINY, dtype="bfloat16")
    params, x = params_of(TINY), clip()
    fresh = jax.eval_shape(lambda: backbone.init(low, jax.random.key(0), CLIP)[0])
    assert {p.dtype for p in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    tokens = run(low, params, x)
    assert tokens.dtype == jnp.bfloat16
    np.testing.assert_allclose(tokens.astype(jnp.float32), run(TINY, params, x), atol=0.1)


def test_drop_path_rates_grow_and_keep_the_mean():
    keys = jax.random.split(jax.random.key(0), 4000)
    keep = np.asarray(drop_path_keep(keys, 0.4, 3))
    assert keep.shape == (3, 2, 4000)
    np.testing.assert_allclose((keep == 0).mean((1, 2)), [0.0, 0.2, 0.4], atol=0.02)
    np.testing.assert_allclose(keep.mean((1, 2)), 1.0, atol=0.03)
    np.testing.assert_allclose(np.unique(keep[2]), [0.0, 1 / 0.6], rtol=1e-6)
    np.testing.assert_array_equal(drop_path_keep(keys[7:9], 0.4, 3), keep[:, :, 7:9])  # a row's draw is its own


def test_the_draws_of_two_branches_are_those_of_a_key_however_many_another_block_has():
    keys = jax.random.split(jax.random.key(0), 500)
    uniform = np.stack([jax.random.uniform(key, (3, 2)) for key in keys[:4]], axis=-1)
    np.testing.assert_array_equal(drop_path_keep(keys[:4], 0.4, 3) > 0, uniform < np.float32([1.0, 0.8, 0.6])[:, None, None])
    keep = np.asarray(drop_path_keep(keys, 0.4, 3, branches=3))
    assert keep.shape == (3, 3, 500)
    np.testing.assert_allclose(np.corrcoef(keep[2]), np.eye(3), atol=0.15)  # a branch's draw is its own


def test_attention_in_time_attention_in_space_and_mlp_of_timesformer_are_dropped_apart(monkeypatch):
    """A branch that is dropped teaches its weights nothing, and the others' go on."""
    model = models.build(
        {"name": "timesformer", "width": 12, "depth": 1, "heads": 3, "patch": 8, "frames": 2, "size": 16, "drop_path": 0.5}
    )
    shape, branches = (1, 2, 16, 16, 3), ("time_attn", "attn", "mlp")
    params = noisy(jax.jit(lambda key: backbone.init(model, key, shape)[0])(jax.random.key(0)))

    @jax.jit
    def gradient(keep_1x3x1):
        monkeypatch.setattr(timesformer, "stochastic_depth", lambda *args, branches: keep_1x3x1[:, :branches])

        def loss(params):
            return jnp.sum(backbone.apply(model, params, {}, normal(*shape), train=True, method="features")[0].map_BxTxHxWxD ** 2)

        return jax.grad(loss)(params)["blocks"]

    for dropped in range(3):
        blocks = gradient(jnp.ones((1, 3, 1)).at[0, dropped].set(0.0))
        assert [any(np.any(x) for x in jax.tree.leaves(blocks[name])) for name in branches] == [i != dropped for i in range(3)]


def test_drop_path_acts_in_training_only(rng):
    model = dataclasses.replace(TINY, drop_path=0.9)
    params, x = params_of(TINY), clip()
    keys = jax.random.split(rng, 2)
    still, moved = (jax.jit(lambda p, t=train: backbone.apply(model, p, {}, x, train=t, rng=keys)[0])(params) for train in (False, True))
    np.testing.assert_array_equal(still, run(TINY, params, x))
    assert not jnp.allclose(still, moved)
    with pytest.raises(ValueError, match="rng"):
        backbone.apply(model, params, {}, x, train=True)


def test_mistakes_are_one_clear_line():
    params = params_of(TINY)
    with pytest.raises(UserError, match=r"takes clips of .* \(4, 32, 32, 3\), got \(4, 48, 48, 3\)"):
        TINY.apply({"params": params}, jnp.zeros((1, 4, 48, 48, 3)))
    with pytest.raises(UserError, match="not a multiple of its 5 heads"):
        ViT(width=12, depth=1, heads=5)
    with pytest.raises(UserError, match="no whole number"):
        ViT(width=12, depth=1, heads=3, size=40)
    with pytest.raises(UserError, match="unknown remat 'ful'"):
        dataclasses.replace(TINY, remat="ful").apply({"params": params}, clip())


def test_build_refuses_what_it_does_not_know():
    with pytest.raises(UserError, match="unknown model 'vit_bas': did you mean 'vit_base'"):
        models.build({"name": "vit_bas"})
    with pytest.raises(UserError, match="unknown field of model vit_base 'dpeth': did you mean 'depth'"):
        models.build({"name": "vit_base", "dpeth": 3})
    with pytest.raises(UserError, match="needs width, depth, heads"):
        models.build({"name": "vit"})
    assert models.build({"name": "vit_base", "tubelet": [2, 16, 16], "dtype": "auto"}) == ViT(768, 12, 12)


@pytest.mark.parametrize("name", ["vit", "timesformer", "vivit"])
def test_other_sizes_are_taken_only_if_asked(name):
    fields = {"name": name, "width": 8, "depth": 1, "heads": 2, "frames": 4, "size": 32}
    model = models.build(fields | {"any_size": True})
    strict = models.build(fields)
    own, small = normal(1, 4, 32, 32, 3), normal(1, 2, 16, 16, 3)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), own)
    params = noisy(jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes), 0.3)

    def features(model, clip):
        return jax.eval_shape(lambda p, x: model.apply(p, x, method="features"), params, clip)

    made = features(model, small)
    assert made.map_BxTxHxWxD.shape == (1, 2 // model.tubelet[0], 1, 1, 8) and made.pooled_BxD.shape == (1, 8)
    a, b = jax.jit(lambda p, x: [m.apply(p, x, method="features").pooled_BxD for m in (model, strict)])(params, own)
    np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="any_size"):
        features(strict, small)
    with pytest.raises(UserError, match="no whole number"):
        features(model, normal(1, 4, 24, 24, 3))


def test_positions_of_a_small_crop_are_as_strong_as_those_of_a_large_one():
    """By the four next ones, as DINO's code has it; averaged first, .36 of a random table's deviation is left."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=(14 * 14, 64)), jnp.float32)
    small = resized(table, (1, 14, 14), (1, 6, 6))
    assert small.shape == (36, 64) and 0.7 < float(small.std() / table.std()) < 1
    line = jnp.tile(jnp.arange(14.0)[:, None, None], (1, 14, 1)).reshape(196, 1)
    np.testing.assert_allclose(
        resized(line, (1, 14, 14), (1, 6, 6)).reshape(6, 6)[1:5, 3], (np.arange(6) + 0.5)[1:5] * 14 / 6 - 0.5, atol=1e-4
    )
