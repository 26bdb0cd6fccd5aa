"""The loop: what is done when, what is written, and that a stop at any place changes nothing of it."""

import dataclasses
import json
import threading
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from vssl_jax import chips
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import Turn
from vssl_jax.train import loop
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.guard import GuardRule
from vssl_jax.train.loop import Job, train
from vssl_jax.train.metrics import MetricsWriter, read_metrics

ADAM = {"main": tiny.optimizer(learning_rate=0.1)}


class Stop(Exception):
    """Stands for a kill: raised where a job stands, nothing is saved on the way out."""


def run(workdir, given, jobs=(), keep=5, every=0, **changes):
    """A run of Regression in `workdir`, as pretrain does it."""
    checkpointer = Checkpointer(workdir / "checkpoints", every=every, keep=keep)
    with MetricsWriter(workdir, enabled=True, tensorboard=False) as writer:
        plan = tiny.plan(
            changes.pop("objective", tiny.Regression()), given, checkpointer=checkpointer, writer=writer, jobs=jobs,
            **({"optimizers": ADAM, "log_every": 1} | changes),
        )  # fmt: skip
        try:
            return train(plan)
        finally:
            checkpointer.close()


def steps_of(workdir, name=None):
    return [line["step"] for line in read_metrics(workdir) if name is None or name in line]


def test_jobs_run_at_their_steps_and_at_the_end(tmp_path):
    done = []

    def noting(name):
        return lambda state, step: (done.append((name, step, int(state.step))), (state, {f"{name}/value": step}))[1]

    jobs = [Job(3, noting("threes"), "threes"), Job(0, noting("end"), "end")]
    run(tmp_path, tiny.rows(7), jobs)
    assert done == [("threes", 3, 3), ("threes", 6, 6), ("threes", 7, 7), ("end", 7, 7)]
    assert steps_of(tmp_path, "threes/value") == [3, 6, 7]
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5, 6, 7]  # the job's numbers join the step's line


def test_metrics_come_every_so_often_and_at_the_last_step_once(tmp_path):
    _, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), tiny.rows(7), optimizers=ADAM))
    run(tmp_path, tiny.rows(7), log_every=3, host_metrics=lambda: {"data/broken/text": 2})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [3, 6, 7]
    for line in lines:
        expected = metrics[line["step"] - 1]
        np.testing.assert_allclose(line["loss"], expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(line["mean_error"], expected["mean_error"], rtol=1e-6)
        assert 0.0 <= line["data_wait"] <= 1.0 and line["clips_per_second"] > 0 and line["data/broken/text"] == 2


def test_waiting_for_data_shows(tmp_path):
    def slow(start):
        for batch in tiny.rows(4):
            threading.Event().wait(0.1)  # what a slow disk does
            yield batch

    run(tmp_path, tiny.rows(4), batches=slow)
    lines = read_metrics(tmp_path)
    # Of them all: where this thread comes late, a batch is there when it asks.
    seconds = [8 / line["clips_per_second"] for line in lines]
    assert len(lines) == 4 and sum(line["data_wait"] * s for line, s in zip(lines, seconds, strict=True)) > 0.3 * sum(seconds)
    assert sum(seconds) > 0.9 * 4 * 0.1  # the last one's too


def nudge(state, step):
    """A job that changes the state, as an offline clustering does: it must not be done twice."""
    memory = state.memory | {"updates": state.memory["updates"] * 2}
    return state.replace(memory=memory), {"nudged": float(memory["updates"])}


NUDGE = Job(2, nudge, changes=True)


@pytest.fixture(scope="module")
def nudged(tmp_path_factory):
    """A run that is not stopped: (workdir, its last state)."""
    workdir = tmp_path_factory.mktemp("nudged")
    return workdir, run(workdir, tiny.rows(6), [NUDGE], every=2)


@pytest.mark.parametrize("changes", [True, False])  # before a save, and after it
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits_and_lines(nudged, tmp_path, stop, changes):
    def stopping(state, step):
        if step == stop:
            raise Stop
        return state, {}

    given, (workdir, whole) = tiny.rows(6), nudged
    with pytest.raises(Stop):
        run(tmp_path / "cut", given, [NUDGE, Job(1, stopping, changes=changes)], every=2)
    resumed = run(tmp_path / "cut", given, [NUDGE], every=2)
    tiny.assert_same_bits(resumed, whole)
    lines, expected = read_metrics(tmp_path / "cut"), read_metrics(workdir)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for own, other in zip(lines, expected, strict=True):
        assert own["loss"] == other["loss"] and own.get("nudged") == other.get("nudged")


def test_metrics_up_to_a_checkpoint_are_on_disk_before_it(tmp_path):
    """They are read late: a stop right after the save must not lose the step's line."""
    checkpointers = []

    class Watching(Checkpointer):
        def save(self, step, state):
            checkpointers.append((step, steps_of(tmp_path)))
            super().save(step, state)

    checkpointer = Watching(tmp_path / "checkpoints", every=2, keep=3)
    with MetricsWriter(tmp_path, enabled=True, tensorboard=False) as writer:
        train(tiny.plan(tiny.Regression(), tiny.rows(5), checkpointer=checkpointer, writer=writer, log_every=1))
    checkpointer.close()
    assert checkpointers == [(2, [1, 2]), (4, [1, 2, 3, 4]), (5, [1, 2, 3, 4, 5])]


def test_weights_of_another_model_are_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    """Which takes minutes at full size."""
    run(tmp_path, tiny.rows(1))
    monkeypatch.setattr(loop.fit, "check", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(UserError, match="is a checkpoint of another model"):
        run(tmp_path, tiny.rows(2), objective=tiny.Adversaries(), optimizers={name: ADAM["main"] for name in ("gen", "disc")})
    with pytest.raises(UserError, match="is a checkpoint of another optimizer: opt/"):
        run(tmp_path, tiny.rows(2), optimizers={"main": tiny.sgd()})
    with pytest.raises(UserError, match="the given weights is of another model"):
        run(tmp_path / "new", tiny.rows(1), initial={"model": {"kernel": np.zeros(4, np.float32)}})


def test_what_fails_that_only_reads_the_state_loses_no_training(tmp_path):
    def failing(state, step):
        raise UserError("no video could be read")

    with pytest.raises(UserError, match="no video"):
        run(tmp_path, tiny.rows(3), [Job(3, failing)])
    again = run(tmp_path, tiny.rows(3))
    assert int(again.step) == 3 and steps_of(tmp_path) == [1, 2, 3]


def test_a_job_that_does_not_say_so_changes_nothing(tmp_path):
    tiny.assert_same_bits(run(tmp_path / "a", tiny.rows(3), [Job(1, nudge)]), run(tmp_path / "b", tiny.rows(3)))


def test_a_checkpoint_that_was_lost_is_noticed_at_the_next_step_and_made_up_for(tmp_path, caplog):
    """Not at the next save, thousands of steps later; and what is in hand then is kept."""

    class Losing(Checkpointer):
        def lost_one(self):
            lost, self.lost = self.lost, False
            return lost

        lost = False

        def save(self, step, state):
            super().save(step, state)
            self.lost = step == 2

    checkpointer = Losing(tmp_path / "checkpoints", every=2, keep=9)
    train(tiny.plan(tiny.Regression(), tiny.rows(5), checkpointer=checkpointer))
    checkpointer.close()
    assert checkpointer.steps() == [2, 3, 4, 5]


def test_a_finished_run_is_not_run_again(tmp_path):
    state = run(tmp_path, tiny.rows(3))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = run(tmp_path, tiny.rows(3), [Job(1, lambda state, step: pytest.fail("a job ran"))])
    tiny.assert_same_bits(state, again)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def nan_at(given, *places):
    return [{**batch, "y": batch["y"] * np.nan} if i in places else batch for i, batch in enumerate(given)]


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_too_many_refused_steps_end_the_run_whenever_it_is_noticed(tmp_path, log_every):
    given = nan_at(tiny.rows(12), 3, 4, 5)
    with pytest.raises(UserError, match="steps in a row were not finite or spiked") as caught:
        run(tmp_path, given, every=2, log_every=log_every, guard=GuardRule(max_in_a_row=3))
    assert "\n" not in str(caught.value) and "optimizer.learning_rate" in str(caught.value)
    saved = Checkpointer(tmp_path / "checkpoints", every=2, keep=5)
    assert saved.steps() == [2, 4]  # none of the state that the run was stuck in
    saved.close()


def test_fewer_refused_steps_do_not(tmp_path):
    state = run(tmp_path, nan_at(tiny.rows(8), 1, 2, 4, 5), guard=GuardRule(max_in_a_row=3))
    assert int(state.guard["main"].skipped) == 4 and int(state.step) == 8
    assert json.loads((tmp_path / "metrics.jsonl").read_text().split("\n")[1])["loss"] == "NaN"


def test_an_input_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ended at step 2 of 5"):
        run(tmp_path, tiny.rows(2), steps=5)


def test_an_error_of_the_input_ends_the_run(tmp_path):
    def failing(start):
        yield tiny.rows(1)[0]
        raise UserError("too many broken videos")

    with pytest.raises(UserError, match="too many broken"):
        run(tmp_path, tiny.rows(3), batches=failing)
    assert threading.active_count() < 50 and not any(t.name == "feed" for t in threading.enumerate())


def test_every_turn_is_logged_whichever_the_logged_step_is_of(tmp_path):
    sgd = {name: tiny.sgd() for name in ("gen", "disc")}
    run(tmp_path, tiny.rows(6), objective=tiny.Adversaries(), optimizers=sgd, log_every=3)  # steps 3 and 6 are gen's
    _, metrics, _ = tiny.advance(tiny.plan(tiny.Adversaries(), tiny.rows(6)))
    last = read_metrics(tmp_path)[-1]
    np.testing.assert_allclose([last["loss"], last["gen/loss"], last["disc/loss"]], [metrics[i]["loss"] for i in (5, 5, 4)], rtol=1e-5)


def test_given_weights_are_where_the_run_starts(tmp_path):
    kernel = np.array([1.0, -2.0, 3.0], np.float32)
    given = [{"x": b["x"], "y": b["x"] @ kernel} for b in tiny.rows(2)]
    run(tmp_path, given, initial={"model": {"kernel": kernel}})
    assert read_metrics(tmp_path)[0]["loss"] < 1e-10
    with pytest.raises(UserError, match=r"weights\.npz"):
        run(tmp_path / "other", given, initial={"model": {"kernel": np.zeros(4)}}, initial_source="weights.npz")


def test_given_statistics_are_where_the_run_starts(tmp_path):
    run(tmp_path, tiny.rows(1), initial_memory={"updates": np.array(40, np.int32)}, every=1)
    state = train(tiny.plan(tiny.Regression(), tiny.rows(1), initial_memory={"updates": np.array(40, np.int32)}))
    assert int(state.memory["updates"]) == 41
    with pytest.raises(UserError, match=r"backbone\.npz has a part 'stats'"):
        run(tmp_path / "other", tiny.rows(1), initial_memory={"stats": {}}, initial_source="backbone.npz")


def test_every_clip_of_a_video_counts_as_one():
    spec = dataclasses.replace(tiny.SPEC, clips=3)
    plan = tiny.plan(tiny.videomae(), tiny.batches(1, spec))
    assert (plan.batch_size, plan.clips) == (8, 24)
    assert tiny.plan(tiny.Regression(), tiny.rows(1)).clips == 8


def test_it_says_what_it_compiled_before_it_starts(tmp_path):
    said = []
    run(tmp_path, tiny.rows(1), on_start=said.append)
    program = said[0]
    assert program.needed_bytes > 0 and program.compile_seconds > 0 and set(program.steps) == {"main"}
    assert program.state_shapes.params["model"]["kernel"] == jax.ShapeDtypeStruct(
        (3,), jnp.float32, sharding=program.state_shapes.params["model"]["kernel"].sharding
    )


class Counting(tiny.Regression):
    """Says how often it is asked for what a run asks for once."""

    calls: ClassVar[list[str]] = []

    def init(self, rng, batch):
        self.calls.append("init")
        return super().init(rng, batch)

    def flops(self, clips):
        self.calls.append("flops")
        return 12.0 * clips


def test_weights_are_traced_and_work_is_counted_once_a_run(tmp_path):
    """Both go through a whole network, which of a deep one takes a second each time."""
    Counting.calls.clear()
    run(tmp_path, tiny.rows(3), objective=Counting())
    assert sorted(Counting.calls) == ["flops", "init"]


def test_mfu_is_the_work_over_what_the_devices_could_do(tmp_path, monkeypatch):
    """Of one step 12 FLOPs a row, of 8 rows."""
    monkeypatch.setattr(chips, "peak_flops", lambda device: 1000.0)
    run(tmp_path, tiny.rows(3), objective=Counting())
    for line in read_metrics(tmp_path):
        steps_a_second = line["clips_per_second"] / 8
        assert line["mfu"] == pytest.approx(96 * steps_a_second / (1000 * jax.device_count()), rel=1e-5)


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_given_weights_stay_the_callers(of):
    """Fine-tuning at several label budgets starts from the same arrays; the step donates its own."""
    fresh = jax.device_get(train(tiny.plan(tiny.Regression(), tiny.rows(1), optimizers=ADAM)).params)
    given = {name: jax.tree.map(of, part) for name, part in fresh.items()}
    ends = [jax.device_get(train(tiny.plan(tiny.Regression(), tiny.rows(3), optimizers=ADAM, initial=given)).params) for _ in range(2)]
    tiny.assert_same_bits(jax.device_get(given), fresh)
    tiny.assert_same_bits(*ends)
    assert tiny.largest_difference(ends[0], fresh) > 0


@dataclasses.dataclass(frozen=True)
class Alarmed(tiny.Regression):
    """Its alarm is up from the first step on; with two turns, at the last step of the first one and never again."""

    turns: ClassVar[tuple[Turn, ...]] = (Turn("early", steps=2), Turn("late", steps=100))
    always: bool = False

    def loss(self, params, memory, batch, rng, turn):
        loss, (memory, metrics) = super().loss(params, memory, batch, rng, turn)
        up = float(self.always or turn.name == "early")
        return loss, (memory, metrics | {"collapse/alarm": jnp.float32(up), "collapse/std": jnp.float32(0.25)})


def alarmed(workdir, **fields):
    method = Alarmed(**fields)
    run(workdir, tiny.rows(12), objective=method, optimizers={turn.name: ADAM["main"] for turn in method.turns})


def test_an_alarm_that_stays_up_is_said(tmp_path, caplog):
    alarmed(tmp_path, always=True)
    assert any("collapse/alarm is up at 5 logged steps in a row" in record.getMessage() for record in caplog.records)


def test_the_alarm_of_a_turn_that_has_ended_is_not_said_again(tmp_path, caplog):
    alarmed(tmp_path)
    assert not [record for record in caplog.records if "alarm" in record.getMessage()]
    assert steps_of(tmp_path, "early/collapse/alarm") == [1, 2]
