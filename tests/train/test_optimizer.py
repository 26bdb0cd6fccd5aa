"""Schedules, decay by path, layer-wise rates, and each optimizer against its formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tests.train import tiny
from vssl_jax import config as config_lib
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone
from vssl_jax.models.heads import HEADS
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train.optimizer import WarmupCosine, decay_mask, layer_scales
from vssl_jax.train.sharding import path_name

RNG = np.random.default_rng(0)
PARAMS = {"encoder": {"kernel": RNG.normal(size=(4, 3)).astype(np.float32), "bias": RNG.normal(size=3).astype(np.float32)}}
GRADS = [jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), PARAMS) for _ in range(4)]


def run(optimizer, grads=GRADS, params=PARAMS):
    """Parameters after each step, and what was logged."""
    state, out, logged = optimizer.init(params), [], []
    for step, grad in enumerate(grads):
        updates, state = optimizer.update(grad, optimizer_lib.global_norm(grad), state, params, jnp.int32(step))
        params = optax.apply_updates(params, updates)
        out.append(params)
        logged.append({k: float(v) for k, v in optimizer.scalars(jnp.int32(step)).items()})
    return out, logged


def by_name(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def videomae_params():
    return jax.eval_shape(lambda: tiny.videomae().init(jax.random.key(0), None))[0]


def test_the_rate_starts_where_told_peaks_after_warm_up_and_ends_at_the_last_step():
    rate = WarmupCosine(peak=2.0, total=101, warmup=20, start=0.5, final=0.1)
    np.testing.assert_allclose([rate(0), rate(10), rate(20), rate(100)], [0.5, 1.25, 2.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rate(60), 0.1 + 0.5 * 1.9, rtol=1e-6)  # half way down
    np.testing.assert_allclose(rate(40), 0.1 + 1.9 * 0.5 * (1 + np.cos(np.pi / 4)), rtol=1e-6)
    np.testing.assert_allclose(rate(500), 0.1, rtol=1e-5)  # a run made longer afterwards


def test_a_rate_that_falls_in_steps():
    rate = WarmupCosine(peak=1.0, total=9, warmup=2, decay="steps", drops=(1 / 3, 2 / 3))
    np.testing.assert_allclose([float(rate(step)) for step in range(9)], [0, 0.5, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-6)
    for wrong in (dict(decay="steps"), dict(decay="cosine", drops=(0.5,)), dict(decay="steps", drops=(1.0,))):
        with pytest.raises(UserError, match="drops"):
            WarmupCosine(peak=1.0, total=9, **wrong)


def test_a_cosine_that_a_warm_up_ends_on():
    """PySlowFast's, where the cosine does not wait for the warm-up."""
    rate = WarmupCosine(peak=1.0, total=11, warmup=4, start=0.1, final=0.0, decay="whole_cosine")
    whole = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(11)]
    up = [0.1 + (whole[4] - 0.1) * step / 4 for step in range(4)]
    np.testing.assert_allclose([float(rate(step)) for step in range(11)], up + whole[4:], atol=1e-6)


def test_other_schedules():
    np.testing.assert_allclose(WarmupCosine(peak=2.0, total=11, final=1.0, decay="linear")(5), 1.5, rtol=1e-6)
    assert float(WarmupCosine(peak=2.0, total=11, warmup=2, decay="none")(9)) == 2.0
    assert float(WarmupCosine(peak=2.0, total=1)(0)) == 2.0
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        WarmupCosine(peak=1.0, total=2, decay="cosin")
    with pytest.raises(UserError, match="warmup_steps=5 is more than the 4 steps"):
        WarmupCosine(peak=1.0, total=4, warmup=5)


def test_rates_scale_with_the_batch():
    rates = {"learning_rate": 1.5e-4, "start_learning_rate": 1e-6, "final_learning_rate": 1e-5, "warmup_steps": 2}
    built = optimizer_lib.build(ConfigDict(config_lib.optimizer() | rates), steps=4, batch_size=2048)
    _, logged = run(built)
    np.testing.assert_allclose([logged[step]["learning_rate"] for step in (0, 2, 3)], [8e-6, 8 * 1.5e-4, 8e-5], rtol=1e-6)


def test_decay_spares_biases_norms_and_tokens_although_they_are_stacked(videomae_params):
    mask = by_name(decay_mask(videomae_params))
    ranks = {name: len(leaf.shape) for name, leaf in by_name(videomae_params).items()}
    assert mask["encoder/blocks/attn/qkv/kernel"] and mask["encoder/patch_embed/kernel"] and mask["decoder/head/kernel"]
    for name in (
        "encoder/blocks/attn/q_bias", "encoder/blocks/attn/v_bias", "encoder/blocks/attn/proj/bias", "encoder/blocks/norm1/scale",
        "encoder/blocks/norm1/bias", "encoder/blocks/mlp/fc1/bias", "decoder/mask_token", "decoder/norm/scale",
    ):  # fmt: skip
        assert not mask[name], name
    assert ranks["encoder/blocks/attn/q_bias"] == 3 and ranks["encoder/blocks/norm1/scale"] == 2  # so rank could not tell
    assert {name for name, decayed in mask.items() if decayed} == {name for name in mask if name.endswith("kernel")}


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_is_named_by_the_rules(name):
    from vssl_jax.models.backbone import Features

    head = HEADS[name](classes=2, **({"heads": 2} if name == "attentive" else {}))
    features = Features(jax.ShapeDtypeStruct((1, 1, 1, 1, 8), "float32"), jax.ShapeDtypeStruct((1, 8), "float32"))
    mask = by_name(decay_mask({"head": head.lazy_init(jax.random.key(0), features)["params"]}))
    assert {n for n, decayed in mask.items() if decayed} == {n for n in mask if n.endswith("kernel")}


def test_a_parameter_that_no_rule_names_is_an_error_at_the_start():
    with pytest.raises(ValueError, match="'encoder/gamma'"):
        tiny.optimizer().init({"encoder": {"gamma": np.ones(3)}})


def test_layer_wise_rates_are_the_table():
    params = jax.eval_shape(lambda: tiny.videomae().init(jax.random.key(0), None))[0]
    params = {"encoder": params["encoder"], "head": {"linear": {"kernel": jax.ShapeDtypeStruct((16, 2), "float32")}}}
    scales, shapes = by_name(layer_scales(params, 0.75)), by_name(params)
    for name, scale in scales.items():  # depth 2: embedding 0.75^3, blocks 0.75^2 and 0.75, norm and head 1
        if "/blocks/" in name:
            assert scale.ndim == len(shapes[name].shape)
            np.testing.assert_allclose(scale.ravel(), [0.75**2, 0.75])
        else:
            np.testing.assert_allclose(scale, 0.75**3 if "patch_embed" in name else 1.0)


def test_layer_wise_rates_look_at_the_encoder_s_blocks_only(videomae_params):
    """A decoder of another depth beside it."""
    scales = by_name(layer_scales(videomae_params, 0.5))
    assert scales["decoder/blocks/mlp/fc1/kernel"] == 1.0
    np.testing.assert_allclose(scales["encoder/blocks/mlp/fc1/bias"].ravel(), [0.25, 0.5])


def test_layer_wise_rates_of_a_second_stack_are_the_heads():
    """ViViT's over time: its token and positions come in after the last block over space."""
    model = models.build(
        {"name": "vivit", "width": 16, "depth": 2, "heads": 2, "temporal_depth": 1, "frames": 4, "size": 32, "tubelet": (2, 16, 16)}
    )
    params = {"encoder": jax.eval_shape(lambda: backbone.init(model, jax.random.key(0), (1, 4, 32, 32, 3))[0])}
    scales = by_name(layer_scales(params, 0.5))
    later = {name: scale for name, scale in scales.items() if "/time_" in name}
    assert {"encoder/time_cls_token", "encoder/time_pos_embed"} < set(later) and set(later.values()) == {1.0}
    assert scales["encoder/cls_token"] == scales["encoder/pos_embed"] == 0.5**3


def test_layer_wise_rates_need_blocks():
    with pytest.raises(UserError, match="layer_decay"):
        layer_scales(PARAMS, 0.75)


def test_layer_wise_rates_scale_the_update():
    params = {"encoder": {"blocks": {"kernel": np.ones((2, 3), np.float32)}, "patch_embed": {"kernel": np.ones(3, np.float32)}}}
    grads = jax.tree.map(np.ones_like, params)
    sgd = dict(name="sgd", momentum=0.0, learning_rate=1.0, schedule="none", weight_decay=0.0)
    after, _ = run(tiny.optimizer(**sgd, layer_decay=0.5), [grads], params)
    np.testing.assert_allclose(after[0]["encoder"]["blocks"]["kernel"], 1 - np.repeat([[0.25], [0.5]], 3, axis=1))
    np.testing.assert_allclose(after[0]["encoder"]["patch_embed"]["kernel"], 1 - 0.125)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_a_part_s_rate_is_its_factor_of_the_step(name):
    """Of the update, decay and all, whatever the optimizer divides out of gradients."""
    params = {part: PARAMS["encoder"] for part in ("encoder", "predictor")}
    grads = [{part: grad["encoder"] for part in params} for grad in GRADS[:1]]
    settings = dict(name=name, learning_rate=0.1, schedule="none", weight_decay=0.01)
    (after,), (logged,) = run(tiny.optimizer(**settings, rates={"predictor": 10.0}), grads, params)
    (plain,), _ = run(tiny.optimizer(**settings), grads, params)
    tiny.assert_same_bits(after["encoder"], plain["encoder"])
    moved, alone = (jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, x["predictor"], PARAMS["encoder"]) for x in (after, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 10 * b, rtol=1e-3, atol=1e-6), moved, alone)
    assert tiny.largest_difference(alone, jax.tree.map(np.zeros_like, alone)) > 1e-4 and logged["learning_rate"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_what_is_frozen_neither_moves_nor_decays(name):
    settings = dict(name=name, learning_rate=0.1, schedule="none", weight_decay=0.1)
    ours, plain = (run(tiny.optimizer(**settings, frozen=frozen))[0][-1]["encoder"] for frozen in (("^encoder/ker",), ()))
    tiny.assert_same_bits(ours, plain | {"kernel": PARAMS["encoder"]["kernel"]})
    assert np.all(plain["kernel"] != PARAMS["encoder"]["kernel"])


def test_adamw_is_optax_adamw():
    changes = dict(learning_rate=1e-2, schedule="none", weight_decay=0.1, b1=0.9, b2=0.95, eps=1e-8)
    ours, _ = run(tiny.optimizer(**changes))
    reference = optax.adamw(1e-2, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, mask={"encoder": {"kernel": True, "bias": False}})
    state, params = reference.init(PARAMS), PARAMS
    for grad, mine in zip(GRADS, ours, strict=True):
        updates, state = reference.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        assert tiny.largest_difference(mine, params) < 1e-6


def test_adam_has_the_decay_in_its_gradient():
    """torch.optim.Adam's, of biases too where all is decayed."""
    changes = dict(name="adam", learning_rate=1e-2, schedule="none", weight_decay=0.1, b1=0.9, b2=0.95, eps=1e-8)
    for everything in (False, True):
        ours, _ = run(tiny.optimizer(**changes, decay_all=everything))
        mask = {"encoder": {"kernel": True, "bias": everything}}
        reference = optax.chain(optax.add_decayed_weights(0.1, mask), optax.adam(1e-2, b1=0.9, b2=0.95, eps=1e-8))
        state, params = reference.init(PARAMS), PARAMS
        for grad, mine in zip(GRADS, ours, strict=True):
            updates, state = reference.update(grad, state, params)
            params = optax.apply_updates(params, updates)
            assert tiny.largest_difference(mine, params) < 1e-6


def test_clipping_is_to_the_norm_of_all_leaves_together():
    plain = dict(name="sgd", momentum=0.0, learning_rate=1.0, schedule="none", weight_decay=0.0)
    after, _ = run(tiny.optimizer(**plain, clip_norm=0.5), GRADS[:1])
    moved = jax.tree.map(lambda a, b: a - b, after[0], PARAMS)
    assert abs(float(optimizer_lib.global_norm(moved)) - 0.5) < 1e-5
    loose, _ = run(tiny.optimizer(**plain, clip_norm=1e3), GRADS[:1])
    free, _ = run(tiny.optimizer(**plain), GRADS[:1])
    tiny.assert_same_bits(loose, free)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov):
    ours, _ = run(tiny.optimizer(name="sgd", momentum=0.9, nesterov=nesterov, learning_rate=0.1, schedule="none", weight_decay=0.01))
    for key, decay in (("kernel", 0.01), ("bias", 0.0)):
        w, v = PARAMS["encoder"][key].astype(np.float64), 0.0
        for grad, mine in zip(GRADS, ours, strict=True):
            g = grad["encoder"][key] + decay * w
            v = 0.9 * v + g
            w = w - 0.1 * (g + 0.9 * v if nesterov else v)
            np.testing.assert_allclose(mine["encoder"][key], w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_its_formula(nesterov):
    """You et al. 2017: the decayed gradient scaled by 0.001 |w| / |g + decay w|; biases take plain steps."""
    settings = dict(learning_rate=2.0, schedule="none", weight_decay=0.01, momentum=0.9, trust_coefficient=0.001, nesterov=nesterov)
    ours, _ = run(tiny.optimizer(name="lars", **settings))
    w, v = PARAMS["encoder"]["kernel"].astype(np.float64), 0.0
    b, u = PARAMS["encoder"]["bias"].astype(np.float64), 0.0
    for grad, mine in zip(GRADS, ours, strict=True):
        g = grad["encoder"]["kernel"] + 0.01 * w
        g = 0.001 * np.linalg.norm(w) / np.linalg.norm(g) * g
        v = 0.9 * v + g
        w = w - 2.0 * (g + 0.9 * v if nesterov else v)
        u = 0.9 * u + grad["encoder"]["bias"]
        b = b - 2.0 * (grad["encoder"]["bias"] + 0.9 * u if nesterov else u)
        np.testing.assert_allclose(mine["encoder"]["kernel"], w, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mine["encoder"]["bias"], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["blocks", "time_blocks"])
def test_each_of_a_stack_of_blocks_has_a_trust_ratio_of_its_own(name):
    """Scanned layers are one array: each is updated as it would be alone."""
    settings = dict(name="lars", learning_rate=2.0, schedule="none", weight_decay=0.01)
    layers = [p["encoder"]["kernel"] * scale for p, scale in zip(GRADS[:3], (0.1, 1.0, 10.0), strict=True)]
    grads = [[RNG.normal(size=(4, 3)).astype(np.float32) for _ in layers] for _ in range(3)]
    tree = lambda name, kernel: {"encoder": {name: {"qkv": {"kernel": kernel}}}}  # noqa: E731
    stacked, _ = run(tiny.optimizer(**settings), [tree(name, np.stack(g)) for g in grads], tree(name, np.stack(layers)))
    for i, layer in enumerate(layers):
        alone, _ = run(tiny.optimizer(**settings), [tree("block", g[i]) for g in grads], tree("block", layer))
        np.testing.assert_allclose(
            stacked[-1]["encoder"][name]["qkv"]["kernel"][i], alone[-1]["encoder"]["block"]["qkv"]["kernel"], rtol=1e-5
        )


def test_weight_decay_follows_its_own_cosine():
    _, logged = run(tiny.optimizer(steps=4, weight_decay=0.04, weight_decay_final=0.4))
    np.testing.assert_allclose([m["weight_decay"] for m in logged], [0.04, 0.13, 0.31, 0.4], rtol=1e-5)
    _, logged = run(tiny.optimizer(steps=4, weight_decay=0.04, weight_decay_final=0.0))
    np.testing.assert_allclose(logged[-1]["weight_decay"], 0.0, atol=1e-9)
    _, logged = run(tiny.optimizer(steps=4, weight_decay=0.04))
    assert {round(m["weight_decay"], 6) for m in logged} == {0.04}


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        tiny.optimizer(name="adamww")
