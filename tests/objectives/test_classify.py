"""Fine-tuning and probes: what counts, what trains, what stays."""

import dataclasses
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.nets import Means
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.models import flops
from vssl_jax.models.heads import AttentiveHead, LinearHead
from vssl_jax.models.vit import ViT
from vssl_jax.objectives.classify import FEATURE_MAP, FEATURE_POOLED, CachedProbe, Classify, Probe, smooth_one_hot
from vssl_jax.objectives.protocol import Turn
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.mix import Mix
from vssl_jax.perturb.view import EvalView, RandomView
from vssl_jax.train import state as state_lib

VIEW = RandomView(size=16, crop=WholePicture(), flip=0.0)
SPEC = batch_lib.Spec(batch_size=8, clips=1, frames=4, height=16, width=16)


def classifier(cls=Classify, **changes):
    fields = dict(encoder=Means(), head=LinearHead(3), classes=3, frames=4, view=VIEW, eval_view=EvalView(size=16))
    return cls(**(fields | changes))


@partial(jax.jit, static_argnums=0)
def started(objective):
    return objective.init(jax.random.key(0), None)


def batch(labels=None, weight=None, seed=0):
    made = dict(tiny.batches(1, SPEC, seed)[0])
    if labels is not None:
        made[batch_lib.LABEL] = np.asarray(labels, np.int32)
    if weight is not None:
        made[batch_lib.WEIGHT] = np.asarray(weight, np.float32)
    return made


@partial(jax.jit, static_argnums=0)
def loss(objective, params, memory, given, seed=0):
    return objective.loss(params, memory, given, jax.random.key(seed), objective.turns[0])


@partial(jax.jit, static_argnums=0)
def logits_of(objective, params, memory, given):
    return objective.logits(params, memory, given)


def cross_entropies(logits, labels):
    logits = np.asarray(logits, np.float64)
    return (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]).astype(np.float32)


@pytest.mark.parametrize(("smoothing", "mix"), [(0.0, {}), (0.1, {}), (0.1, {"mix": Mix()})])
def test_zero_logits_cost_the_logarithm_of_the_classes(smoothing, mix):
    objective = classifier(smoothing=smoothing, **mix)
    params, memory = started(classifier())
    params = params | {"head": jax.tree.map(np.zeros_like, params["head"])}
    value, _ = loss(objective, params, memory, batch([0, 1, 2, 0, 1, 2, 0, 1]))
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)


def test_each_micro_batch_mixes_by_draws_of_its_own():
    """As it would where each were a step."""
    keys = []

    class Seen:
        def __call__(self, key, clips, target):
            keys.append(jax.random.key_data(key))
            return clips, target

    objective = classifier(mix=Seen())
    params, memory = started(classifier())
    given = batch([0, 1, 2, 0, 1, 2, 0, 1]) | {batch_lib.SLOT: np.arange(8, dtype=np.int32)}
    for first in (0, 1):
        objective.loss(params, memory, {k: v[first::2] for k, v in given.items()}, jax.random.key(0), objective.turns[0])
    assert not np.array_equal(*keys)


def test_smooth_targets():
    np.testing.assert_allclose(smooth_one_hot(jnp.array([1]), 4, 0.2), [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)


def test_rows_without_label_or_weight_do_not_count():
    objective = classifier()
    params, memory = started(objective)
    given = batch([0, 1, 2, 0, -1, 1, -1, 2], weight=[1, 1, 1, 1, 1, 0, 0, 1])
    value, (_, metrics) = loss(objective, params, memory, given)
    logits = np.asarray(logits_of(objective, params, memory, given))[:, 0]
    rows = [0, 1, 2, 3, 7]
    np.testing.assert_allclose(value, np.mean(cross_entropies(logits, given[batch_lib.LABEL])[rows]), rtol=1e-5)
    hits = logits.argmax(-1) == given[batch_lib.LABEL]
    np.testing.assert_allclose(metrics["accuracy"], np.mean(hits[rows]), rtol=1e-6)
    changed = dict(given)
    changed[batch_lib.VIDEO] = given[batch_lib.VIDEO].copy()
    changed[batch_lib.VIDEO][4:7] //= 3
    assert float(loss(objective, params, memory, changed)[0]) == float(value)


def test_a_batch_without_any_label_costs_nothing():
    objective = classifier()
    params, memory = started(objective)
    value, (_, metrics) = loss(objective, params, memory, batch([-1] * 8))
    assert float(value) == 0.0 and float(metrics["accuracy"]) == 0.0


def test_statistics_move_in_training_and_not_in_a_probe():
    for cls, calls in ((Classify, 1), (Probe, 0)):
        objective = classifier(cls)
        params, memory = started(classifier())
        _, (memory, _) = loss(objective, params, memory, batch())
        assert int(memory["stats"]["calls"]) == calls
        assert objective.backbone(params, memory)[1] is memory["stats"]


def test_a_probe_trains_its_head_and_leaves_the_encoder_bit_for_bit():
    plan = tiny.plan(classifier(Probe), [batch(seed=i) for i in range(3)], optimizers={"head": tiny.optimizer(learning_rate=0.1)})
    states, _, _ = tiny.advance(plan)
    tiny.assert_same_bits(states[0].params["encoder"], states[-1].params["encoder"])
    tiny.assert_same_bits(states[0].memory, states[-1].memory)
    assert tiny.largest_difference(states[0].params["head"], states[-1].params["head"]) > 0.01
    assert set(states[0].opt["head"]["scale"].mu) == {"head"}


def test_a_probe_sends_no_gradient_to_the_encoder():
    objective = classifier(Probe)
    params, memory = started(classifier())
    gradient = jax.jit(jax.grad(lambda p: objective.loss(p, memory, batch(), jax.random.key(0), Turn())[0]))(params)
    assert all((x == 0).all() for x in jax.tree.leaves(gradient["encoder"]))
    assert any((x != 0).any() for x in jax.tree.leaves(gradient["head"]))


@pytest.fixture(scope="module")
def fine_tuned():
    """The states and metrics of training on dark, middling and bright videos."""
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    given = batch(labels)
    given[batch_lib.VIDEO] = np.broadcast_to((labels * 100).astype(np.uint8)[:, None, None, None, None, None], given[batch_lib.VIDEO].shape)
    plan = tiny.plan(classifier(), [given] * 60, optimizers={"main": tiny.optimizer(learning_rate=0.1, schedule="none")})
    return tiny.advance(plan)[:2]


def test_fine_tuning_trains_both(fine_tuned):
    states, _ = fine_tuned
    for part in ("encoder", "head"):
        assert tiny.largest_difference(states[0].params[part], states[1].params[part]) > 0
    assert int(states[1].memory["stats"]["calls"]) == 1


def test_training_learns(fine_tuned):
    _, metrics = fine_tuned
    assert metrics[0]["loss"] > 0.9 and metrics[-1]["loss"] < 0.2 and metrics[-1]["accuracy"] == 1.0


def test_logits_are_of_every_view_and_embeddings_their_mean():
    objective = classifier(eval_view=EvalView(size=8, crops=3, short_side=16))
    params, memory = jax.device_get(started(classifier()))
    (given,) = tiny.batches(1, dataclasses.replace(SPEC, batch_size=2, clips=2))
    logits, video = jax.jit(lambda b: (objective.logits(params, memory, b), objective.embed(params, memory, b)["video"]))(given)
    assert logits.shape == (2, 6, 3) and video.shape == (2, 4)
    linear = params["head"]["linear"]
    np.testing.assert_allclose(np.asarray(video) @ linear["kernel"] + linear["bias"], np.mean(logits, axis=1), atol=1e-5)


def test_clips_of_a_video_share_its_label():
    objective = classifier()
    params, memory = started(objective)
    single = batch([0, 1, 2, 0, 1, 2, 0, 1])
    per_clip = ("video", "extent", "time")
    double = {k: np.repeat(v, 2, axis=1) if k in per_clip else v for k, v in single.items()}
    np.testing.assert_allclose(loss(objective, params, memory, double)[0], loss(objective, params, memory, single)[0], rtol=1e-6)


def test_stochastic_depth_is_drawn_per_row_and_not_in_evaluation():
    vit = ViT(width=8, depth=2, heads=1, tubelet=(2, 8, 8), frames=4, size=16, drop_path=0.5)
    objective = classifier(encoder=vit)
    params, memory = started(objective)
    given = batch([0] * 8)
    same = {**given, batch_lib.VIDEO: np.repeat(given[batch_lib.VIDEO][:1], 8, axis=0)}
    logits = np.asarray(logits_of(objective, params, memory, same))
    assert (logits == logits[:1]).all()
    value, again = (float(loss(objective, params, memory, same, i)[0]) for i in (0, 1))
    assert value != again


def cached(head, rows=8):
    rng = np.random.default_rng(0)
    given = {
        FEATURE_MAP: rng.normal(size=(rows, 2, 2, 2, 6)).astype(np.float32),
        FEATURE_POOLED: rng.normal(size=(rows, 6)).astype(np.float32),
        batch_lib.LABEL: np.array([0, 1, 2, -1] * (rows // 4), np.int32),
    }
    return CachedProbe(head, 3), given


@pytest.mark.parametrize("head", [LinearHead(3), AttentiveHead(3, heads=2)])
def test_a_cached_probe_costs_what_the_head_says(head):
    objective, given = cached(head)
    params, memory = jax.jit(lambda: objective.init(jax.random.key(0), given))()
    assert memory == {} and set(params) == {"head"}
    value, _ = loss(objective, params, {}, given)
    logits = logits_of(objective, params, {}, given)
    labeled = given[batch_lib.LABEL] >= 0
    np.testing.assert_allclose(value, np.mean(cross_entropies(logits, given[batch_lib.LABEL])[labeled]), rtol=1e-5)


def test_a_cached_probe_trains():
    objective, given = cached(LinearHead(3))
    _, metrics, _ = tiny.advance(
        tiny.plan(objective, [given] * 30, optimizers={"main": tiny.optimizer(learning_rate=0.3, schedule="none")})
    )
    assert metrics[-1]["loss"] < 0.3 * metrics[0]["loss"]


def test_a_method_s_state_needs_no_data():
    @dataclass(frozen=True)
    class Small(Classify):
        pass

    objective = classifier(Small)
    shapes = jax.eval_shape(lambda: state_lib.init(objective, {"main": tiny.sgd()}, 0, SPEC.shapes()))
    assert set(shapes.params) == {"encoder", "head"}


def test_the_work_of_a_step_is_counted_where_the_backbone_s_is():
    """A frozen encoder goes forward only; a backbone whose work is not counted gives no figure rather than a wrong one."""
    vit = ViT(width=16, depth=2, heads=2, tubelet=(2, 8, 8), frames=4, size=16)
    whole, frozen = (tiny.classifier(kind, encoder=vit) for kind in (Classify, Probe))
    assert whole.flops(4) == 3 * 4 * flops.vit(vit) == 3 * frozen.flops(4)
    assert classifier().flops(4) is None
