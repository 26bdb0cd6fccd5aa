"""Frozen features of a whole source, one row per video, computed once for all protocols that train nothing in the backbone."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.evals.devices import spread
from vssl_jax.evals.knn import joined
from vssl_jax.evals.subject import Subject
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.perturb.view import EvalView

log = logging.getLogger(__name__)

HOST_KEYS = (batch_lib.LABEL, batch_lib.INDEX, batch_lib.WEIGHT)


class Table(NamedTuple):
    """Features of N videos: pooled and map are means over a video's views; rows that do not count (`counting`) are gone."""

    pooled_NxD: np.ndarray
    map_NxTxHxWxD: np.ndarray | None
    labels_N: np.ndarray
    index_N: np.ndarray


Tables = tuple[Table, Table]  # one frozen feature of the training and the test videos


def side_by_side(found: Sequence[Tables], center: str) -> tuple[np.ndarray, np.ndarray]:
    """(training [N,D], test [M,D]): the pooled features of several networks as one, see `joined`."""
    return joined([(train.pooled_NxD, test.pooled_NxD) for train, test in found], center)


def counting(batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """(which rows an evaluation of labels is of, [B]: neither broken nor padding nor without a label; how many lack nothing but the label)."""
    real_B, labels_B = np.asarray(batch[batch_lib.WEIGHT]) > 0, np.asarray(batch[batch_lib.LABEL])
    counts_B = real_B & (labels_B >= 0)
    return counts_B, int(real_B.sum() - counts_B.sum())


def check_some(labels_N: np.ndarray, unlabeled: int = 0, what: str = "videos") -> None:
    """Says how many of the videos (`what` they are) were left out for want of a label. Raises UserError where none was left to measure."""
    if not len(labels_N):
        why = f"{unlabeled} have no label; of others, if any, " if unlabeled else ""
        raise UserError(f"not one of the {what} could be used: {why}broken_videos*.jsonl in the workdir says why")
    if unlabeled:
        _say_unlabeled(unlabeled, what)


@functools.cache
def _say_unlabeled(unlabeled: int, what: str) -> None:
    """Once, however many networks and seeds read them."""
    log.warning("%d of the %s have no label: they are left out", unlabeled, what)


@functools.lru_cache(maxsize=8)
def _reader(seen: tuple[tuple[nn.Module, EvalView], ...], keep_map: bool) -> Callable:
    """One function for all weights and data that such networks are evaluated with: it is compiled once."""

    def pooled_and_map(weights, batch):
        found = []
        for (module, own_view), own in zip(seen, weights, strict=True):
            made = backbone_lib.frozen(module, *own, own_view(batch))
            found.append((made.pooled_BxD, made.map_BxTxHxWxD if keep_map else None))
        return found

    return pooled_and_map


def extract(
    subjects: Sequence[Subject],
    view: Mapping[str, Any],
    batches: Iterator[Mapping[str, np.ndarray]],
    keep_map: bool = False,
    what: str = "videos",
) -> tuple[Table, ...]:
    """Runs the frozen backbones, in evaluation mode, over one pass of the data: a table each, of the same rows, those that count. `view` is the config
    of an evaluation view; `what` says which videos they are. Raises UserError as `check_some`, which says how many have no label.
    """
    seen = tuple((subject.module(), subject.eval_view(view)) for subject in subjects)
    features = spread(_reader(seen, keep_map), tuple((subject.params, subject.stats) for subject in subjects))
    rows, labels, indices, left_out = [[] for _ in subjects], [], [], 0
    for batch in batches:
        counts, unlabeled = counting(batch)
        left_out += unlabeled
        for own, (pooled, maps) in zip(rows, features({k: v for k, v in batch.items() if k not in HOST_KEYS}), strict=True):
            own.append((np.asarray(pooled)[counts], np.asarray(maps)[counts] if keep_map else None))
        labels.append(np.asarray(batch[batch_lib.LABEL])[counts])
        indices.append(np.asarray(batch[batch_lib.INDEX])[counts])
    labels_N, index_N = np.concatenate(labels), np.concatenate(indices)
    check_some(labels_N, left_out, what)
    tables = []
    for own in rows:
        pooled, maps = zip(*own, strict=True)
        tables.append(Table(np.concatenate(pooled), np.concatenate(maps) if keep_map else None, labels_N, index_N))
    return tuple(tables)
