"""What a run's time went into, on made-up clocks: every second is counted once."""

import json

import pytest

from vssl_jax.train import goodput
from vssl_jax.train.goodput import Recorder, account


def write(workdir, *lines):
    (workdir / goodput.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def begin(step, started, time):
    return {"event": "begin", "step": step, "time": time, "started": started, "compile": 1.0}


def moment(event, step, time, data=0.0, saving=0.0, jobs=0.0):
    return {"event": event, "step": step, "time": time, "data": data, "saving": saving, "jobs": jobs}


def test_a_run_without_a_stop(tmp_path):
    write(tmp_path, begin(0, 100.0, 110.0), moment("save", 50, 160.0, 1.0, 2.0, 3.0), moment("save", 100, 212.0, 2.0, 4.0, 6.0))
    out = account(tmp_path)
    assert (out.kept, out.starting, out.data, out.saving, out.jobs, out.again, out.away) == (90.0, 10.0, 2.0, 4.0, 6.0, 0.0, 0.0)
    assert out.total == 112.0 and out.goodput == 90 / 112


def test_steps_after_the_checkpoint_that_a_later_start_goes_on_from_are_lost(tmp_path):
    first = [begin(0, 0.0, 10.0), moment("save", 50, 60.0), moment("seen", 80, 90.0)]
    second = [begin(50, 100.0, 105.0), moment("save", 100, 155.0)]
    write(tmp_path, *first, *second)
    out = account(tmp_path)
    assert (out.starts, out.kept, out.again, out.starting, out.away) == (2, 100.0, 30.0, 15.0, 10.0)
    assert out.total == 155.0


def test_a_damaged_checkpoint_undoes_steps_of_an_earlier_start(tmp_path):
    write(
        tmp_path, begin(0, 0.0, 0.0), moment("save", 10, 10.0), moment("save", 20, 20.0), begin(20, 20.0, 20.0), moment("save", 30, 30.0),
        begin(10, 30.0, 30.0), moment("save", 40, 60.0),
    )  # fmt: skip
    out = account(tmp_path)
    assert (out.kept, out.again, out.total) == (10.0 + 0.0 + 30.0, 10.0 + 10.0, 60.0)


def test_what_saw_no_step_and_what_is_half_written(tmp_path):
    assert account(tmp_path) is None
    write(tmp_path, begin(0, 0.0, 4.0))
    with open(tmp_path / goodput.FILE, "a") as file:
        file.write('{"event": "sa')
    assert account(tmp_path).total == account(tmp_path).starting == 4.0


def test_the_recorder_notes_what_account_reads(tmp_path):
    now = [1000.0]
    recorder = Recorder(tmp_path, started=995.0, clock=lambda: now[0])
    recorder.begin(0, 3.0, lambda: 0.5)
    now[0] += 5.0
    recorder.seen(5)  # too soon after the last line
    with recorder.spent("jobs"):
        now[0] += 2.0
    with pytest.raises(KeyError), recorder.spent("sleeping"):
        pass
    now[0] += 5.0
    recorder.seen(10)
    with recorder.spent("saving"):
        now[0] += 1.0
    recorder.save(12)
    lines = (tmp_path / goodput.FILE).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["begin", "seen", "save"]
    out = account(tmp_path)
    assert (out.kept, out.starting, out.data, out.saving, out.jobs) == (9.5, 5.0, 0.5, 1.0, 2.0)
    assert str(out).startswith("goodput 52.8%: 0:10 of steps that were kept in 0:18 (1 start; starting 0:05, ")


def test_without_a_workdir_nothing_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorder = Recorder()
    recorder.begin(0, 1.0, lambda: 0.0)
    recorder.save(1)
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_a_process_starts_when_it_is_asked_for(tmp_path):
    now = [1000.0]
    recorder = Recorder(tmp_path, clock=lambda: now[0])
    now[0] += 4.0
    recorder.begin(0, 3.0, lambda: 0.0)
    assert account(tmp_path).total == account(tmp_path).starting == 4.0


def test_the_start_of_this_process_is_before_its_imports():
    assert 0 < goodput._IMPORTED - goodput.process_start() < 300
