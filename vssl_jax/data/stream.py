"""Rows on threads, in order: tf.data calls a Python function for a few row numbers at a time, stacks the rows and keeps a few batches ready.

A call costs half a millisecond of a processor besides what it makes: where frames are in memory already, more than the row. Hence a few rows at a time.

Traps. TensorFlow replaces an exception of a thread with its own: the original is carried across and raised here. A process
that ends while threads still work hangs in the interpreter's shutdown, because they wait for it: an open stream therefore closes itself at
exit. TensorFlow keeps the functions it was given for ever: a closed stream therefore takes its source, which may hold gigabytes of frames,
out of its function. And a stream that TensorFlow tunes while it runs takes up to nine seconds to close, once in a while: autotuning is off, which
has nothing to tune here.
"""

import os
import threading
import weakref
from collections.abc import Callable

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.tensorflow_host import tensorflow

BATCHES_AHEAD = 2

Row = dict[str, np.ndarray]


class Stream:
    """An iterator of batches of `share` rows {key: array [share, ...]}, read-only arrays. `make(row number) -> Row` runs on `workers`
    threads (None or 0: one per processor that this process may use) and must fit `spec`; what it raises, `next` raises.

    `close()` returns when the threads have finished the rows that they are at; dropping the last reference and the end of the process close
    it too.
    """

    def __init__(self, spec: batch_lib.Spec, rows: range, share: int, make: Callable[[int], Row], workers: int | None = None):
        self._closed, self._failures = threading.Event(), []
        maker, workers = [make], workers or processors()
        together = rows_a_call(share, workers)
        dataset = _dataset(
            spec, rows, share, together, _guarded(maker, tuple(spec.shapes()), together, self._closed, self._failures), workers
        )
        self._holder = [dataset.as_numpy_iterator()]
        self.close = weakref.finalize(self, _release, self._closed, self._holder, maker)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._holder:
            raise StopIteration
        try:
            return next(self._holder[0])
        except StopIteration:
            self.close()
            raise
        except tensorflow().errors.OpError:
            stopped = self._closed.is_set()
            self.close()
            if self._failures:
                raise self._failures[0] from None
            if stopped:  # by another thread
                raise StopIteration from None
            raise


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def rows_a_call(share: int, workers: int) -> int:
    """How many rows a thread makes one after another: as many as leave each thread some of every batch, so that no more than a batch is in the making."""
    return next(n for n in range(max(share // workers, 1), 0, -1) if share % n == 0)


def _guarded(maker: list[Callable[[int], Row]], keys: tuple[str, ...], together: int, closed: threading.Event, failures: list[Exception]):
    """What `maker` holds for `together` rows from a number on, for tf.numpy_function: a list of stacked rows in the order of `keys`; exceptions are
    noted before TensorFlow swallows them; nothing more is done once closed."""

    def call(first: np.ndarray) -> list[np.ndarray]:
        held = maker[:]  # it is emptied once closed
        try:
            made = [held[0](number) for number in range(int(first), int(first) + together) if not closed.is_set()]
            if len(made) == together:
                return [np.stack([row[key] for row in made]) for key in keys]
        except Exception as error:
            failures.append(error)
            raise
        raise RuntimeError("the stream is closed")

    return call


def _dataset(spec: batch_lib.Spec, rows: range, share: int, together: int, call: Callable[[np.ndarray], list[np.ndarray]], workers: int):
    tf = tensorflow()
    shapes = {key: (s.dtype, s.shape[1:]) for key, s in spec.shapes().items()}

    @tf.autograph.experimental.do_not_convert
    def load(first):
        values = tf.numpy_function(call, [first], [dtype for dtype, _ in shapes.values()])
        return {key: tf.ensure_shape(value, (together, *shape)) for (key, (_, shape)), value in zip(shapes.items(), values, strict=True)}

    @tf.autograph.experimental.do_not_convert
    def flat(batch):
        return {key: tf.reshape(value, (share, *shapes[key][1])) for key, value in batch.items()}

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers + 1  # one for the batching
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    dataset = tf.data.Dataset.range(rows.start, rows.stop, together).map(load, num_parallel_calls=workers, deterministic=True)
    return dataset.batch(share // together, drop_remainder=True).map(flat).prefetch(BATCHES_AHEAD).with_options(options)


def _release(closed: threading.Event, holder: list, maker: list) -> None:
    closed.set()
    holder.clear()  # waits for the threads
    maker.clear()
