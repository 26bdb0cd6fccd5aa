"""Which rows a host makes: step s of a run is rows s*B .. (s+1)*B - 1, and host p of P makes the p-th share of each.

Every row is a pure function of (seed, its number), so no iterator is ever saved: a run that is resumed, or has other workers or other
hosts, sees the same bytes.
"""

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vssl_jax.data.order import index_at
from vssl_jax.data.row import Input, evaluation_row, training_row
from vssl_jax.data.stream import Stream
from vssl_jax.data.synthetic import Synthetic
from vssl_jax.errors import UserError

__all__ = ["Input", "batches", "epoch"]

Batch = dict[str, np.ndarray | jax.Array]


def batches(input: Input, start_step: int = 0, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """This host's rows of the global batches of steps start_step, start_step + 1, ...: never ends. Close it (`.close()`) to stop the
    threads.

    Raises UserError where more videos are broken than `input.broken` allows, or the batch does not divide by the hosts.
    """
    share = _share(input, process_count)
    position = functools.partial(_position, share=share, process_index=process_index, batch_size=input.spec.batch_size)
    if isinstance(input.source, Synthetic):
        return _made(
            input, itertools.count(start_step), share, lambda row: index_at(position(row), len(input.source), input.seed, input.shuffle)
        )
    first = start_step * share
    return Stream(input.spec, range(first, first + 2**62), share, lambda row: training_row(input, position(row)), input.workers)


def epoch(input: Input, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
    """This host's rows of one pass over the whole source, in order. Broken videos and what fills up the last batch have WEIGHT 0; every
    host gets the same number of batches. Raises as `batches` does."""
    share = _share(input, process_count)
    position = functools.partial(_position, share=share, process_index=process_index, batch_size=input.spec.batch_size)
    videos = len(input.source)
    steps = -(-videos // input.spec.batch_size)
    if isinstance(input.source, Synthetic):
        return _made(input, range(steps), share, lambda row: position(row) if position(row) < videos else -1)
    return Stream(input.spec, range(steps * share), share, lambda row: evaluation_row(input, position(row)), input.workers)


def _share(input: Input, process_count: int) -> int:
    """Rows of a global batch that each host makes."""
    if input.spec.batch_size % process_count:
        raise UserError(
            f"the batch size {input.spec.batch_size} does not divide by {process_count} hosts: choose a multiple of {process_count}"
        )
    return input.spec.batch_size // process_count


def _position(row: int, share: int, process_index: int, batch_size: int) -> int:
    """This host's rows counted from 0 -> positions in the whole run."""
    step, place = divmod(row, share)
    return step * batch_size + process_index * share + place


def _made(input: Input, steps: Iterator[int] | range, share: int, index: Callable[[int], int]) -> Iterator[Batch]:
    for step in steps:
        yield input.source.make(np.array([index(row) for row in range(step * share, (step + 1) * share)], np.int32), input.spec)
