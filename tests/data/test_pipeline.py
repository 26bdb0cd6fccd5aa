"""A batch is a pure function of (seed, step): resuming, workers and hosts change no byte. And nothing hangs."""

import gc
import subprocess
import sys
import threading
import weakref
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.data.array_source import ArraySource
from tests.data.inputs import assert_same, make_input, take
from vssl_jax import batch as batch_lib
from vssl_jax.data.pipeline import batches, epoch
from vssl_jax.data.sample import Dense, Views
from vssl_jax.data.stream import Stream, rows_a_call
from vssl_jax.data.synthetic import synthetic_source
from vssl_jax.errors import UserError


@pytest.mark.parametrize("layout", ["rgb", "yuv420"])
def test_a_batch_keeps_the_contract_and_shows_the_frames_that_its_times_say(layout):
    spec = batch_lib.Spec(4, 2, 3, 8, 8, layout)
    for batch in take(batches(make_input(spec=spec)), 3):
        batch_lib.check(batch)
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            key: (s.shape, s.dtype) for key, s in spec.shapes().items()
        }
        frames_BxKxT = np.round(batch["time"] * 5.0).astype(int)
        pixel_BxKxT = batch["video"][..., 3, 5, 0] if layout == "rgb" else batch["luma"][..., 3, 5]
        assert (pixel_BxKxT == 10 * batch["index"][:, None, None] + frames_BxKxT).all()
        assert (np.diff(frames_BxKxT) == 2).all()
        assert (batch["label"] == batch["index"] % 3).all() and (batch["weight"] == 1).all() and (batch["extent"] == (4, 6)).all()


@pytest.mark.parametrize("source", [ArraySource(10, broken={2: "corrupt", 5: "empty"}), synthetic_source(videos=10)])
@pytest.mark.parametrize("k", [0, 1, 6])
def test_resuming_at_step_k_gives_the_same_bytes(source, k):
    whole = take(batches(make_input(source)), 10)
    assert_same(take(batches(make_input(source), start_step=k), 4), whole[k : k + 4])


@pytest.mark.parametrize(("share", "workers", "expected"), [(16, 2, 8), (16, 1, 16), (10, 4, 2), (7, 2, 1), (2, 8, 1), (32, 16, 2)])
def test_rows_are_made_a_few_at_a_time_and_every_worker_has_some_of_a_batch(share, workers, expected):
    assert rows_a_call(share, workers) == expected


def test_workers_change_nothing():
    one, four = (take(batches(make_input(workers=n)), 8) for n in (1, 4))
    assert_same(four, one)


@pytest.mark.parametrize("source", [ArraySource(10), synthetic_source(videos=10)])
@pytest.mark.parametrize("reader", [batches, epoch])
def test_the_shares_of_two_hosts_are_the_batch_of_one(source, reader):
    input = make_input(source)
    one, a, b = (take(reader(input, process_index=p, process_count=n), 3) for p, n in ((0, 1), (0, 2), (1, 2)))
    assert_same([{key: np.concatenate([x[key], y[key]]) for key in x} for x, y in zip(a, b, strict=True)], one)
    assert all(len(x["index"]) == 2 for x in a)


def test_a_batch_that_does_not_divide_by_the_hosts_is_refused():
    with pytest.raises(UserError, match="4 does not divide by 3 hosts"):
        batches(make_input(), process_index=0, process_count=3)


@pytest.mark.parametrize("source", [ArraySource(10), synthetic_source(videos=10)])
def test_every_epoch_visits_every_video_once_in_another_order(source):
    order = np.concatenate([batch["index"] for batch in take(batches(make_input(source, seed=3)), 5)])
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10].tolist() != order[10:].tolist()
    other = np.concatenate([batch["index"] for batch in take(batches(make_input(source, seed=4)), 5)])
    assert other.tolist() != order.tolist()
    plain = np.concatenate([batch["index"] for batch in take(batches(make_input(source, shuffle=False)), 5)])
    assert plain.tolist() == list(range(10)) * 2


def test_a_video_met_again_shows_other_frames():
    source = ArraySource(1, num_frames=200)
    times = np.concatenate([batch["time"][:, :, 0].ravel() for batch in take(batches(make_input(source)), 2)])
    assert len(set(times.tolist())) > 12  # 16 draws of 196 starts


@pytest.mark.parametrize("source", [ArraySource(10), synthetic_source(videos=10)])
def test_an_evaluation_pass_is_in_order_and_its_padding_has_no_weight(source):
    found = take(epoch(make_input(source, sampler=Views(3, 2, 2))), 9)
    assert np.concatenate([batch["index"] for batch in found]).tolist() == [*range(10), -1, -1]
    assert np.concatenate([batch["weight"] for batch in found]).tolist() == [1] * 10 + [0] * 2
    assert np.concatenate([batch["label"] for batch in found]).tolist()[-2:] == [-1, -1]
    assert (found[-1]["extent"][2:] == (8, 8)).all()


def test_a_sampler_of_another_shape_than_the_batch_is_refused():
    with pytest.raises(ValueError, match="1 clips of 3 frames"):
        make_input(sampler=Dense(3))


def test_an_error_in_a_thread_comes_out_as_it_was_raised():
    def fail(i):
        raise ZeroDivisionError(f"at video {i}")

    iterator = batches(make_input(ArraySource(4, on_read=fail)))
    with pytest.raises(ZeroDivisionError, match="at video"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_row_that_lacks_a_key_is_such_an_error():
    spec = batch_lib.Spec(batch_size=2, clips=1, frames=2, height=4, width=6)
    with pytest.raises(KeyError):
        next(Stream(spec, range(4), 2, lambda number: {"index": np.int64(number)}))


@pytest.mark.timeout(60)
def test_closing_while_threads_work_ends_them():
    reading, go_on, count = threading.Event(), threading.Event(), []

    def on_read(i):
        count.append(i)
        reading.set()
        assert go_on.wait(30)

    iterator = batches(make_input(ArraySource(10, on_read=on_read), workers=2))
    reader = threading.Thread(target=lambda: list(islice(iterator, 1)))
    reader.start()
    assert reading.wait(30)
    threading.Timer(0.2, go_on.set).start()
    iterator.close()
    reader.join(30)
    assert not reader.is_alive()
    done = len(count)
    assert list(iterator) == [] and len(count) == done <= 3


@pytest.mark.parametrize("end", ["closed", "dropped", "finished"])
def test_an_iterator_that_has_ended_holds_no_source(end):
    """A source may keep gigabytes of frames; TensorFlow keeps the functions of a dataset for as long as the process lives."""
    source = ArraySource(4)
    alive = weakref.ref(source)
    iterator = epoch(make_input(source)) if end == "finished" else batches(make_input(source))
    next(iterator)
    if end == "finished":
        assert list(iterator) == []
    elif end == "closed":
        iterator.close()
    del iterator, source
    gc.collect()
    assert alive() is None


def test_a_process_may_end_with_an_open_iterator():
    """Without closing at exit the interpreter waits for threads that wait for it."""
    program = """
import sys, threading; sys.path.insert(0, sys.argv[1])
from tests.data.array_source import ArraySource
from vssl_jax import batch
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.pipeline import Input, batches
from vssl_jax.data.sample import Dense
pause = threading.Event()
source = ArraySource(10, on_read=lambda i: pause.wait(0.2))
iterator = batches(Input(source, batch.Spec(2, 1, 2, 8, 8), Dense(2), BrokenRecord(1.0), workers=2))
next(iterator)
raise SystemExit(7)
"""
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", program, root], timeout=120, capture_output=True).returncode == 7
