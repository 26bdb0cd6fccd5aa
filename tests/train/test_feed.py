"""The feed: order kept, the input's errors in the main thread, nothing left running."""

import threading

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.train.feed import Feed

SECONDS = 20  # a watchdog, never waited for in full


def numbered(count, fail_at=None, error=None):
    for i in range(count):
        if i == fail_at:
            raise error
        yield {"x": np.array([i])}


def place(batch):
    return batch


def test_order_is_kept_and_the_end_stays_the_end():
    with Feed(numbered(20), place) as feed:
        assert [int(b["x"][0]) for b in feed] == list(range(20))
        assert next(feed, "end") == "end"  # asked again: no hang
    assert not feed._thread.is_alive()


def test_a_first_batch_that_breaks_the_contract_is_refused():
    with Feed(iter([{"video": np.zeros((2, 1, 2, 4, 4, 3), np.float32)}]), place) as feed:
        with pytest.raises(ValueError, match=r"batch\['video'\] is float32: it must be uint8"):
            next(feed)


def test_an_error_of_the_input_surfaces_in_its_place_and_again():
    error = UserError("too many broken videos")
    with Feed(numbered(5, fail_at=3, error=error), place) as feed:
        assert [int(next(feed)["x"][0]) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(UserError) as caught:
                next(feed)
            assert caught.value is error


def test_an_error_of_placing_surfaces():
    def refuse(batch):
        raise ValueError("does not divide")

    with Feed(numbered(3), refuse) as feed, pytest.raises(ValueError, match="does not divide"):
        next(feed)


def test_leaving_stops_the_thread_and_closes_an_endless_input():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield {"x": np.zeros(1)}
        finally:
            closed.set()

    with pytest.raises(KeyboardInterrupt), Feed(endless(), place) as feed:
        next(feed)
        raise KeyboardInterrupt
    assert not feed._thread.is_alive() and closed.wait(SECONDS)


def test_it_runs_ahead_by_so_many_and_no_more():
    taken = threading.Semaphore(0)

    def counted():
        for i in range(100):
            taken.release()
            yield {"x": np.array([i])}

    with Feed(counted(), place, ahead=2) as feed:
        for _ in range(3):  # two wait in the queue, one in the thread's hand
            assert taken.acquire(timeout=SECONDS)
        assert not taken.acquire(timeout=0.3)
        next(feed)
        assert taken.acquire(timeout=SECONDS)


def test_waiting_is_counted():
    go = threading.Event()

    def late():
        go.wait(SECONDS)
        yield {"x": np.zeros(1)}

    with Feed(late(), place) as feed:
        threading.Timer(0.05, go.set).start()
        next(feed)
        assert 0.02 < feed.waited < SECONDS
