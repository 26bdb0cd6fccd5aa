"""RSPNet: which clips are compared, exact losses, a queue that is read before it is written, keys that no gradient reaches, one device and eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.questions import RELATIVE_SPEED, SPEC, numbered
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models import flops
from vssl_jax.models.projection import unit
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.protocol import STATS
from vssl_jax.objectives.queue import POINTER, QUEUE
from vssl_jax.objectives.relative_speed import EMA

CLIPS = 16  # of a batch of SPEC


@functools.cache
def started():
    return jax.jit(lambda key: RELATIVE_SPEED.init(key, None))(jax.random.key(0))


@functools.cache
def compiled():
    def run(params, memory, batch, key):
        value, gradient = jax.value_and_grad(
            lambda p, e: RELATIVE_SPEED.loss(p, memory | {EMA: e}, batch, key, RELATIVE_SPEED.turns[0]), (0, 1), True, allow_int=True
        )(params, memory[EMA])
        return value, gradient, RELATIVE_SPEED._compare(params, memory, batch, key, train=True)[:3]

    return jax.jit(run)


def step(params, memory, batch=None):
    batch = tiny.batches(1, SPEC)[0] if batch is None else batch
    return jax.device_get(compiled()(params, memory, batch, jax.random.key(0)))


def test_keys_are_one_stretch_of_the_querys_video_at_both_speeds():
    batch = tiny.batches(1, batch_lib.Spec(batch_size=200, clips=2, frames=16, height=2, width=2))[0]
    video = np.arange(16, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1)
    batch = dict(batch, video=np.broadcast_to(video, batch["video"].shape))
    clips, which = jax.device_get(jax.jit(RELATIVE_SPEED.clips)(batch, jax.random.key(0)))
    query, same, other = np.rint(clips[..., 0, 0, 0] * 255).astype(int)
    own, others = np.array([1, 2])[which][:, None], np.array([1, 2])[1 - which][:, None]
    np.testing.assert_array_equal(query - query[:, :1], own * np.arange(4))
    np.testing.assert_array_equal(same - same[:, :1], own * np.arange(4))
    np.testing.assert_array_equal(other - same[:, :1], others * np.arange(4))
    for clip in (query, same):
        for speed in (0, 1):  # anywhere that the faster one fits, whichever it is
            assert set(clip[which == speed, 0]) == set(range(16 - 7 + 1))
    assert abs(which.mean() - 0.5) < 3 * 0.5 / np.sqrt(400) and abs(np.corrcoef(query[:, 0], same[:, 0])[0, 1]) < 0.2


def test_speeds_are_the_draws_alone():
    batches = [numbered(), dict(tiny.batches(1, SPEC)[0], index=np.arange(8, 16, dtype=np.int32), time=np.zeros((8, 2, 16), np.float32))]
    ask = jax.jit(lambda batch: RELATIVE_SPEED.clips(batch, jax.random.key(0))[1])
    np.testing.assert_array_equal(*[ask(batch) for batch in batches])


def test_zero_logits_cost_two_logarithms_and_the_margin():
    params, memory = started()
    params = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    (loss, (_, metrics)), *_ = step(params, memory)
    assert loss == pytest.approx(2 * np.log(48 + 1) + 2.0)
    assert metrics["appearance/loss"] == pytest.approx(2 * np.log(49)) and metrics["speed/loss"] == 2.0
    assert metrics["collapse/std"] == pytest.approx(0, abs=1e-5)


def test_the_loss_is_the_papers():
    params, memory = started()
    (loss, (_, metrics)), _, (alike, *_) = step(params, memory)
    entropy = 0
    for own in alike["appearance"].T:
        together = np.exp(np.concatenate([own[:, None], alike[QUEUE]], axis=1, dtype=np.float64))
        entropy += np.mean(-np.log(together[:, 0] / together.sum(1)))
    ahead = alike["speed"][:, 0] - alike["speed"][:, 1]
    assert np.abs(alike[QUEUE]).max() <= 1 / 0.07 + 1e-4 and np.abs(alike[QUEUE]).max() > 1
    assert loss == pytest.approx(entropy + np.mean(np.maximum(2 - ahead, 0)), rel=1e-5)
    assert metrics["speed/accuracy"] == np.mean(ahead > 0)


def test_the_queue_is_read_first_and_then_written_at_the_pointer():
    params, memory = started()
    before = jax.device_get(memory)
    (_, (after, _)), _, (alike, query, keys) = step(params, memory)
    np.testing.assert_allclose(alike[QUEUE], query @ before[QUEUE].T / 0.07, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(after[QUEUE], axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(after[QUEUE][CLIPS:], before[QUEUE][CLIPS:])
    np.testing.assert_allclose(after[QUEUE][:CLIPS], keys, atol=1e-6)
    places = [int(after[POINTER])]
    for _ in range(2):
        (_, (after, _)), *_ = step(params, after)
        places.append(int(after[POINTER]))
    assert places == [16, 32, 0]  # and from the start again


def test_the_order_of_the_queue_means_nothing():
    params, memory = started()
    turned = memory | {QUEUE: memory[QUEUE][::-1]}
    assert step(params, memory)[0][0] == pytest.approx(step(params, turned)[0][0], rel=1e-5)


def test_no_gradient_reaches_the_keys():
    params, memory = started()
    _, (of_params, of_ema), _ = step(params, memory)
    for part in ("encoder", "head"):
        assert max(np.abs(g).max() for g in jax.tree.leaves(of_params[part])) > 1e-4
        assert all((g == 0).all() for g in jax.tree.leaves(of_ema[part]))


def test_a_video_of_weight_0_does_not_count():
    params, memory = started()
    weight = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    batch = dict(tiny.batches(1, SPEC)[0], weight=weight)
    changed = dict(batch, video=np.where(weight.reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    (loss, (_, metrics)), *_ = step(params, memory, batch)
    (same, (_, same_metrics)), *_ = step(params, memory, changed)
    assert loss == pytest.approx(same, rel=1e-6) and jax.tree.map(float, metrics) == pytest.approx(
        jax.tree.map(float, same_metrics), rel=1e-5
    )


def test_the_average_starts_as_a_copy_of_loaded_weights_too_and_follows():
    params, memory = started()
    tiny.assert_same_bits({k: memory[EMA][k] for k in ("encoder", "head")}, params)
    moved = jax.tree.map(lambda x: x + 1.0, params)
    first = RELATIVE_SPEED.adopt(moved, memory | {STATS: {"calls": jnp.int32(5)}})[EMA]
    tiny.assert_same_bits({k: first[k] for k in ("encoder", "head")}, moved)
    assert first["stats"]["calls"] == 5
    later = jax.jit(RELATIVE_SPEED.after_update)(moved, memory, jnp.int32(7))[EMA]
    assert later["stats"]["calls"] == memory[EMA]["stats"]["calls"]
    for part in ("encoder", "head"):
        jax.tree.map(lambda new, old: np.testing.assert_allclose(new - old, 1e-3, rtol=1e-2), later[part], memory[EMA][part])


def test_each_encoder_has_statistics_of_its_own():
    params, memory = started()
    (_, (after, _)), *_ = step(params, memory)
    assert (after[STATS]["calls"], after[EMA]["stats"]["calls"]) == (1, 1)
    held_out = jax.eval_shape(RELATIVE_SPEED.held_out, params, memory, tiny.batches(1, SPEC)[0], jax.random.key(0))
    assert set(held_out) >= {"loss", "appearance/loss", "appearance/accuracy", "speed/loss", "speed/accuracy", "collapse/alarm"}


def test_eight_devices_are_one():
    """Two steps: the second reads the queue and the average that the first has left."""
    given = tiny.batches(2, SPEC)
    one, eight = (tiny.advance(tiny.plan(RELATIVE_SPEED, given, mesh=mesh)) for mesh in (None, {"data": 4, "fsdp": 2}))
    for a, b in zip(one[1], eight[1], strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)
    for a, b in zip(one[0], eight[0], strict=True):
        assert tiny.largest_difference((a.params, a.memory), (b.params, b.memory)) <= 1e-5
    assert int(one[0][-1].memory[POINTER]) == 2 * CLIPS


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(tmp_path):
    tiny.check_resume(RELATIVE_SPEED, tiny.batches(3, SPEC), tmp_path)


def test_the_report_shows_the_query_and_both_keys():
    params, memory = started()
    shown = jax.eval_shape(RELATIVE_SPEED.pictures, params, memory, tiny.batches(1, SPEC)[0], jax.random.key(0))
    assert all(shown[name].shape == (8, 4, 16, 16, 3) for name in ("query", "same_speed", "other_speed"))
    assert shown["label"].shape == shown["prediction"].shape == (8, 1)
    assert RELATIVE_SPEED.caption((1,), (0,)) == "Query at speed 2, more like the key at speed 1"


def test_a_batch_that_does_not_divide_the_queue_is_refused():
    params, memory = started()
    odd, memory = dataclasses.replace(RELATIVE_SPEED, size=40), memory | queue_lib.start(jax.random.key(0), 40, RELATIVE_SPEED.head.dim)
    with pytest.raises(UserError, match="queue is 40, which the 16 clips"):
        jax.eval_shape(lambda p, m, b: odd.loss(p, m, b, jax.random.key(0), odd.turns[0]), params, memory, tiny.batches(1, SPEC)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speeds": (1,)}, "two different steps"),
        ({"speeds": (2, 2)}, "two different steps"),
        ({"size": 0}, r"objective\.queue is 0: it must be 1 or more"),
        ({"temperature": 0.0}, r"objective\.temperature is 0.0: it must be above 0"),
        ({"margin": -1.0}, r"objective\.margin is -1.0: it must be 0 or more"),
        ({"weights": (1.0,)}, r"objective\.weights is \(1.0,\): it must be two numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(RELATIVE_SPEED, **change)


def test_projections_are_unit_vectors_and_zero_has_a_gradient():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert np.isfinite(jax.grad(lambda y: unit(y).sum())(x)).all()


def test_a_recipe_makes_it():
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 16, "width": 4},
        "objective": {
            "name": "relative_speed", "speeds": [1, 3], "queue": 32, "dim": 16, "temperature": 0.1, "margin": 1.0, "decay": 0.99, "weights": [1.0, 0.5],
            "view": view, "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert (made.speeds, made.size, made.head.dim, made.temperature, made.margin, made.average.decay, made.weights) == (
        (1, 3),
        32,
        16,
        0.1,
        1.0,
        0.99,
        (1.0, 0.5),
    )
    assert made.span == 10 and made.flops(3) == pytest.approx(3 * 5 * flops.backbone(made.encoder))
