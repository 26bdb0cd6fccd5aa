"""The record holds each step once through every kind of stop; TensorBoard never holds up a step and never fails in silence."""

import json
import math
import threading

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.train import metrics, pictures


def writer(workdir, **kw):
    return metrics.MetricsWriter(workdir, **({"enabled": True, "tensorboard": False} | kw))


def test_a_line_is_on_disk_when_write_returns(tmp_path):
    with writer(tmp_path) as w:
        w.write(10, {"loss": np.float32(0.5)})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 10, "loss": 0.5}


def test_resume_leaves_each_step_once(tmp_path):
    with writer(tmp_path) as w:
        w.resume_at(0)
        for step in (10, 20, 30):
            w.write(step, {"loss": step / 7})
    with writer(tmp_path) as w:
        w.resume_at(20)
        for step in (30, 40):
            w.write(step, {"loss": step / 7})
    lines = metrics.read_metrics(tmp_path)
    assert [(line["step"], line["loss"]) for line in lines] == [(step, step / 7) for step in (10, 20, 30, 40)]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"], "no temporary file stays behind"


def test_a_file_that_is_written_anew_may_be_read_by_who_could_before(tmp_path):
    with writer(tmp_path) as w:
        w.write(10, {"loss": 1.0})
        before = (tmp_path / "metrics.jsonl").stat().st_mode
        w.write(10, {"knn": 1.0})
    assert (tmp_path / "metrics.jsonl").stat().st_mode == before


def test_half_a_line_left_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert [line["step"] for line in metrics.read_metrics(tmp_path)] == [1]
    with writer(tmp_path) as w:
        w.resume_at(1)
        w.write(2, {"loss": 1.0})
    assert [line["step"] for line in metrics.read_metrics(tmp_path)] == [1, 2]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        metrics.read_metrics(tmp_path)


def test_not_finite_values_are_valid_json_and_come_back(tmp_path):
    with writer(tmp_path) as w:
        w.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity"}
    [line] = metrics.read_metrics(tmp_path)
    assert math.isnan(line["a"]) and line["b"] == math.inf and line["c"] == -math.inf


def test_a_step_has_one_line_whatever_the_order_of_writing(tmp_path):
    with writer(tmp_path) as w:
        for step, scalars in [
            (10, {"loss": 1.0}),
            (25, {"eval": 0.1}),
            (20, {"loss": 0.5}),
            (20, {"eval": 0.2}),
            (25, {"eval": 0.3}),
            (30, {}),
        ]:
            w.write(step, scalars)  # jobs run at their steps, the loss comes one log interval late
        expected = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5, "eval": 0.2}, {"step": 25, "eval": 0.3}, {"step": 30}]
        assert metrics.read_metrics(tmp_path) == expected
    with writer(tmp_path) as w:
        w.resume_at(25)
        w.write(25, {"eval": 0.3})  # the job of the checkpoint's step runs again
        w.write(30, {})
    assert metrics.read_metrics(tmp_path) == expected


def test_other_processes_write_nothing(tmp_path):
    with writer(tmp_path, enabled=False, tensorboard=True) as w:
        w.resume_at(0)
        w.write(1, {"loss": 1.0})
        w.write_video(1, {"x": np.zeros((1, 2, 4, 4, 3))})
        w.flush()
    assert list(tmp_path.iterdir()) == []


def read_events(folder):
    pytest.importorskip("tensorboardX")
    import struct

    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):  # TFRecord framing: length, crc of it, payload, crc of it
            (size,) = struct.unpack_from("<Q", data, at)
            events.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return events


def test_tensorboard_holds_the_scalars_and_a_moving_picture(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    import io

    clip_BxTxHxWx3 = np.random.default_rng(0).random((2, 3, 8, 8, 3)).astype(np.float32)
    with writer(tmp_path, tensorboard=True) as w:
        w.write(7, {"loss": 0.25, "mfu": 0.5})
        w.write_video(7, {"reconstruction": clip_BxTxHxWx3})
    values = [(e.step, v) for e in read_events(tmp_path / "tensorboard") for v in e.summary.value]
    assert {(step, v.tag): v.simple_value for step, v in values if not v.HasField("image")} == {(7, "loss"): 0.25, (7, "mfu"): 0.5}
    [(step, value)] = [(step, v) for step, v in values if v.HasField("image")]
    picture = Image.open(io.BytesIO(value.image.encoded_image_string))
    assert (step, value.tag, picture.n_frames, picture.size) == (7, "reconstruction", 3, (18, 8))


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    for start in (0, 20):
        with writer(tmp_path, tensorboard=True) as w:
            w.resume_at(start)
            w.write(start + 10, {"loss": 1.0})
    starts = [e.step for e in read_events(tmp_path / "tensorboard") if e.HasField("session_log")]
    assert starts == [1, 21]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2, "a restart within the same second has a file of its own"


def test_a_slow_disk_does_not_hold_up_a_step(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(metrics._Board, "scalars", lambda *_: gate.wait(60))
    w = writer(tmp_path, tensorboard=True)
    for step in range(1, 200):
        w.write(step, {"loss": 1.0})  # would never return if it waited for the gate
    assert len(metrics.read_metrics(tmp_path)) == 199
    gate.set()
    w.close()


def test_a_failure_of_the_thread_is_raised_by_the_next_call(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    w = writer(tmp_path, tensorboard=True)
    w.write(1, {"loss": 1.0})
    with pytest.raises(RuntimeError, match="TensorBoard"):
        w.flush()
    w.close()
    assert len(metrics.read_metrics(tmp_path)) == 1


def test_without_tensorboardx_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "tensorboard_installed", lambda: False)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        writer(tmp_path, tensorboard=True)


def test_pictures_round_trip_in_order_of_steps(tmp_path):
    half = np.full((6, 2, 4, 4, 3), 0.5, np.float32)
    for step in (200, 1000, 30):
        pictures.save_pictures(tmp_path, step, {"original": half, "masked": half * np.nan}, most=2)
    loaded = pictures.load_pictures(tmp_path)
    assert list(loaded) == [30, 200, 1000] and list(loaded[30]) == ["original", "masked"]
    assert loaded[30]["original"].shape == (2, 2, 4, 4, 3) and (loaded[30]["original"] == 128).all() and (loaded[30]["masked"] == 0).all()
