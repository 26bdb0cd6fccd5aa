"""One step: the same on any mesh and in any split into micro-batches, and a turn that touches its own parts only."""

import dataclasses
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.objectives.protocol import COUNT
from vssl_jax.objectives.videomae import VideoMAE
from vssl_jax.train import sharding
from vssl_jax.train.loop import compile_plan
from vssl_jax.train.step import micro_batches

STEPS = 3
# seq over 2 devices moves heads about, over 4, more than there are heads, it gathers keys and values
MESHES = (
    {"data": 8},
    {"data": 1, "fsdp": 8},
    {"data": 2, "fsdp": 2, "model": 2},
    pytest.param({"data": 2, "seq": 4}, marks=pytest.mark.slow),
    pytest.param({"data": 1, "fsdp": 2, "seq": 2, "model": 2}, marks=pytest.mark.slow),  # tests/objectives/test_meshes.py has such a one
)


@dataclass(frozen=True)
class Watched(VideoMAE):
    """VideoMAE that notes, at each row's place in the global batch, which tokens were masked."""

    def init(self, rng, batch):
        params, memory = super().init(rng, batch)
        rows = batch[batch_lib.VIDEO].shape[0]
        return params, memory | {"masked": jnp.zeros((rows, self.mask.counts(self.encoder.grid)[1]), jnp.int32)}

    def loss(self, params, memory, batch, rng, turn):
        loss, (memory, metrics) = super().loss(params, memory, batch, rng, turn)
        ids = self._clips_and_ids(batch, rng)[1].masked_BxM
        return loss, ({**memory, "masked": memory["masked"].at[batch[batch_lib.SLOT]].set(ids)}, metrics)


@pytest.fixture(scope="module")
def alone():
    """VideoMAE on one device: states and metrics."""
    states, metrics, _ = tiny.advance(tiny.plan(tiny.videomae(Watched), tiny.batches(STEPS)))
    return states, metrics


def gradient(states):
    """Of the first step: SGD's trace, which starts from zero."""
    return states[1].opt["main"]["momentum"]


def assert_same_run(run, other):
    (states, metrics), (other_states, other_metrics) = run, other
    losses, other_losses = ([m["loss"] for m in x] for x in (metrics, other_metrics))
    np.testing.assert_allclose(losses, other_losses, rtol=0, atol=1e-5)
    assert max(float(np.max(np.abs(g))) for g in jax.tree.leaves(gradient(states))) > 1e-3
    assert tiny.largest_difference(gradient(states), gradient(other_states)) <= 1e-5
    assert tiny.largest_difference(states[-1].params, other_states[-1].params) <= 1e-5


@pytest.mark.parametrize("mesh", MESHES, ids=lambda m: "x".join(str(m.get(a, 1)) for a in sharding.AXES))
def test_eight_devices_are_one_device(alone, mesh, monkeypatch):
    monkeypatch.setattr(sharding, "FSDP_MIN_SIZE", 64)
    plan = tiny.plan(tiny.videomae(Watched), tiny.batches(STEPS), mesh)
    states, metrics, program = tiny.advance(plan)
    assert_same_run((states, metrics), alone)
    for own, other in zip(states, alone[0], strict=True):
        np.testing.assert_array_equal(own.memory["masked"], other.memory["masked"])
    axes = {axis for leaf in jax.tree.leaves(program.state_shapes) for axis in leaf.sharding.spec if axis}
    assert axes == {axis for axis, size in mesh.items() if size > 1 and axis in ("fsdp", "model")}  # they do split something


def test_masks_differ_by_row_and_step(alone):
    masked = [s.memory["masked"] for s in alone[0][1:]]
    assert len({row.tobytes() for row in masked[0]}) > 4
    assert not np.array_equal(masked[0], masked[1])


def test_accumulation_is_the_large_batch(alone):
    states, metrics, _ = tiny.advance(tiny.plan(tiny.videomae(Watched), tiny.batches(STEPS), accumulation=2))
    assert_same_run((states, metrics), alone)
    for own, other in zip(states, alone[0], strict=True):
        np.testing.assert_array_equal(own.memory["masked"], other.memory["masked"])


def test_micro_batches_count_by_their_rows_that_count():
    """Of eight rows one of the first micro-batch has a label, all four of the second, and of the third step none."""
    given = tiny.batches(3)
    for batch, labels in zip(given, ([0, 1, -1, 1, -1, 0, -1, 0], [0, 1] * 4, [-1] * 8), strict=True):
        batch["label"] = np.array(labels, np.int32)
    alone, parts = (tiny.advance(tiny.plan(tiny.classifier(), given, accumulation=count)) for count in (1, 2))
    assert_same_run(alone[:2], parts[:2])
    assert all("count" not in line for line in parts[1] + alone[1]) and alone[1][2]["loss"] == parts[1][2]["loss"] == 0


class Uncounted(tiny.Regression):
    """Nothing of it counts."""

    def loss(self, params, memory, batch, rng, turn):
        value, (memory, metrics) = super().loss(params, memory, batch, rng, turn)
        return 0.0 * value, (memory, metrics | {"five": jnp.float32(5), COUNT: jnp.float32(0)})


def test_a_step_in_which_nothing_counts_has_its_metrics():
    states, metrics, _ = tiny.advance(tiny.plan(Uncounted(), tiny.rows(1), accumulation=2))
    assert metrics[0]["five"] == pytest.approx(5) and metrics[0]["loss"] == metrics[0]["grad_norm"] == 0
    tiny.assert_same_bits(states[0].params, states[1].params)


def test_a_classifier_with_convolutions_on_eight_devices_and_accumulated():
    # 16 rows: two micro-batches of one row per device.
    given = tiny.batches(2, dataclasses.replace(tiny.SPEC, batch_size=16))
    alone = tiny.advance(tiny.plan(tiny.classifier(), given))
    spread = tiny.advance(tiny.plan(tiny.classifier(), given, {"data": 8}, accumulation=2))
    assert_same_run(alone[:2], spread[:2])
    np.testing.assert_allclose([m["accuracy"] for m in alone[1]], [m["accuracy"] for m in spread[1]], atol=1e-6)


def test_micro_batches_hold_every_row_once_and_keep_devices_rows():
    x = np.arange(24)
    micros = micro_batches({"x": jnp.asarray(x)}, 3)["x"]
    assert micros.shape == (3, 8) and sorted(np.asarray(micros).ravel()) == list(x)
    for device in range(4):  # each of 4 devices holds rows 6d .. 6d+5
        assert sorted(np.asarray(micros[:, 2 * device : 2 * device + 2]).ravel()) == list(range(6 * device, 6 * device + 6))


def test_a_turn_leaves_the_other_parts_and_their_optimizer_alone():
    states, _, _ = tiny.advance(tiny.plan(tiny.Adversaries(), tiny.rows(6)))
    for step, turn in enumerate(("disc", "disc", "gen", "disc", "disc", "gen")):
        before, after, other = states[step], states[step + 1], {"disc": "gen", "gen": "disc"}[turn]
        tiny.assert_same_bits(before.params[other], after.params[other])
        tiny.assert_same_bits(before.opt[other], after.opt[other])
        tiny.assert_same_bits(before.guard[other], after.guard[other])
        assert not np.array_equal(before.params[turn]["kernel"], after.params[turn]["kernel"])
        assert int(after.guard[turn].accepted) == int(before.guard[turn].accepted) + 1


def test_a_step_that_does_not_move_leaves_parameters_and_optimizer_and_takes_the_memory():
    """The first two steps only count; weight decay and momentum stand still too."""

    class Waiting(tiny.Regression):
        def moves(self, memory, turn):
            return memory["updates"] >= 2

    optimizers = {"main": tiny.optimizer(learning_rate=0.1, schedule="none", weight_decay=0.5)}
    states, metrics, _ = tiny.advance(tiny.plan(Waiting(), tiny.rows(4), optimizers=optimizers))
    for before, after in itertools.pairwise(states[:3]):
        tiny.assert_same_bits((before.params, before.opt), (after.params, after.opt))
        assert after.memory["updates"] == before.memory["updates"] + 1 and after.step == before.step + 1
    assert tiny.largest_difference(states[2].params, states[3].params) > 1e-3 and metrics[0]["grad_norm"] > 0


def test_memory_follows_the_updated_parameters():
    states, _, _ = tiny.advance(tiny.plan(tiny.Regression(), tiny.rows(2)))
    np.testing.assert_allclose(states[1].memory["ema"]["kernel"], 0.1 * states[1].params["model"]["kernel"], rtol=1e-6)
    assert int(states[2].memory["updates"]) == 2


def test_the_rng_never_advances_and_the_step_counts():
    states, _, _ = tiny.advance(tiny.plan(tiny.Regression(), tiny.rows(3)))
    assert [int(s.step) for s in states] == [0, 1, 2, 3]
    tiny.assert_same_bits(states[0].rng, states[3].rng)


def test_the_gradient_is_the_gradient():
    """Least squares by hand."""
    given = tiny.rows(1)
    states, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), given))
    x, y, w = given[0]["x"], given[0]["y"], states[0].params["model"]["kernel"]
    error = x @ w - y
    np.testing.assert_allclose(metrics[0]["loss"], np.mean(error**2), rtol=1e-6)
    np.testing.assert_allclose(states[1].params["model"]["kernel"], w - 0.1 * 2 * x.T @ error / len(y), rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["grad_norm"], np.linalg.norm(2 * x.T @ error / len(y)), rtol=1e-5)


def test_the_state_is_donated():
    plan = tiny.plan(tiny.Regression(), tiny.rows(1))
    program = compile_plan(plan)
    state = tiny.fresh(plan)
    program.steps["main"](state, sharding.global_batch(tiny.rows(1)[0], plan.mesh))
    assert state.params["model"]["kernel"].is_deleted()
