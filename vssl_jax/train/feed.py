"""The next batch, on the device before it is asked for.

A thread takes batches from the host's input and starts their transfer, so decoding, transfer and the step overlap. What the step still
waits is counted: it is the first number to look at when a run is slow.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from vssl_jax import batch as batch_lib

_END = object()
AHEAD = 2  # batches that wait on the device
MOST_PLACED = AHEAD + 1  # with the one that the thread holds until there is room for it


class Feed:
    """Iterates over device batches. Use as a context manager: leaving it stops the thread and closes the input.

    Args:
      batches: host batches (numpy dicts), of which the first is checked against the contract (batch.py).
      place: host batch -> global device batch (train/sharding.py).
      ahead: how many batches may wait on the device.
    """

    def __init__(
        self,
        batches: Iterator[Mapping[str, np.ndarray]],
        place: Callable[[Mapping[str, np.ndarray]], dict[str, jax.Array]],
        ahead: int = AHEAD,
    ):
        self._batches = batches
        self._place = place
        self._queue: queue.Queue = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._last: BaseException | object | None = None  # how the input ended
        self.waited = 0.0  # seconds spent in __next__ so far

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            for number, batch in enumerate(self._batches):
                if number == 0:  # the others are made in the same way
                    batch_lib.check(batch)
                if not self._put(self._place(batch)):
                    return
            self._put(_END)
        except BaseException as error:
            self._put(error)

    def _put(self, item) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, jax.Array]:
        start = time.monotonic()
        item = self._queue.get() if self._last is None else self._last
        self.waited += time.monotonic() - start
        if item is _END or isinstance(item, BaseException):
            self._last = item  # the thread is gone: asked again, the answer is the same
            raise StopIteration if item is _END else item
        return item

    def __exit__(self, *exc) -> None:
        self._stop.set()
        self._thread.join()
        if hasattr(self._batches, "close"):
            self._batches.close()
