"""A signal ends a run at the next step, after a save; a second one at once."""

import os
import signal
import threading

import pytest

from tests.train import tiny
from vssl_jax.train import preemption
from vssl_jax.train.checkpoint import Checkpointer
from vssl_jax.train.loop import Job, train
from vssl_jax.train.preemption import Listener, Preempted

ADAM = {"main": tiny.optimizer(learning_rate=0.1)}


def signal_at(step, number):
    def send(state, now):
        if now == step:
            signal.raise_signal(number)
        return state, {}

    return Job(1, send, changes=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_run_stops_at_the_step_saves_and_goes_on_to_the_same_bits(tmp_path, number):
    given = tiny.rows(6)
    whole = train(tiny.plan(tiny.Regression(), given, optimizers=ADAM))
    before = signal.getsignal(number)
    checkpointer = Checkpointer(tmp_path, every=0, keep=2)
    with pytest.raises(Preempted, match="stopped at step 3 of 6"):
        train(tiny.plan(tiny.Regression(), given, optimizers=ADAM, checkpointer=checkpointer, jobs=[signal_at(3, number)]))
    assert checkpointer.steps() == [3]
    assert signal.getsignal(number) is before
    resumed = train(tiny.plan(tiny.Regression(), given, optimizers=ADAM, checkpointer=checkpointer))
    checkpointer.close()
    tiny.assert_same_bits(resumed, whole)


def test_a_signal_after_the_last_step_is_not_forgotten(tmp_path):
    checkpointer = Checkpointer(tmp_path, every=0, keep=2)
    plan = tiny.plan(tiny.Regression(), tiny.rows(2), checkpointer=checkpointer, jobs=[signal_at(2, signal.SIGTERM)])
    with pytest.raises(Preempted, match="stopped at step 2 of 2"):
        train(plan)
    assert checkpointer.steps() == [2]
    checkpointer.close()


def test_what_only_reads_the_state_is_not_begun_by_a_run_that_was_told_to_stop(tmp_path):
    """A validation takes minutes, a host is given half of one. The run that goes on does it."""
    checkpointer, done = Checkpointer(tmp_path, every=0, keep=2), []
    reading = Job(2, lambda state, step: (done.append(step), (state, {}))[1])
    with pytest.raises(Preempted, match="stopped at step 2 of 5"):
        train(tiny.plan(tiny.Regression(), tiny.rows(5), checkpointer=checkpointer, jobs=[signal_at(2, signal.SIGTERM), reading]))
    assert not done
    train(tiny.plan(tiny.Regression(), tiny.rows(5), checkpointer=checkpointer, jobs=[reading]))
    assert done == [2, 4, 5]
    checkpointer.close()


def test_a_signal_in_the_last_look_at_the_state_is_not_forgotten():
    looking = Job(1, lambda state, step: (step == 2 and signal.raise_signal(signal.SIGTERM), (state, {}))[1])
    with pytest.raises(Preempted, match="stopped at step 2 of 2"):
        train(tiny.plan(tiny.Regression(), tiny.rows(2), jobs=[looking]))


def test_without_checkpoints_it_says_that_nothing_was_saved():
    with pytest.raises(Preempted, match="nothing was saved"):
        train(tiny.plan(tiny.Regression(), tiny.rows(3), jobs=[signal_at(1, signal.SIGTERM)]))


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Listener() as listener:
        assert not listener.asked(0)
        signal.raise_signal(signal.SIGTERM)
        assert listener.asked(1) and not codes
        signal.raise_signal(signal.SIGTERM)
    assert codes == [128 + signal.SIGTERM]


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="boom"), Listener():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise ValueError("boom")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def inside():
        with Listener() as listener:
            seen.append((signal.getsignal(signal.SIGTERM), listener.asked(0)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_the_exit_code_is_the_documented_one():
    assert preemption.EXIT_CODE == 42
