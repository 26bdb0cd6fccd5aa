"""Frozen features of a whole source, one row per video, computed once for all protocols that train nothing in the backbone."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.evals.devices import spread
from vssl_jax.evals.subject import Subject
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.perturb.view import EvalView

HOST_KEYS = (batch_lib.LABEL, batch_lib.INDEX, batch_lib.WEIGHT)


class Table(NamedTuple):
    """Features of N videos: pooled and map are means over a video's views; broken and padding rows are gone."""

    pooled_NxD: np.ndarray
    map_NxTxHxWxD: np.ndarray | None
    labels_N: np.ndarray
    index_N: np.ndarray


def check_some(labels_N: np.ndarray) -> None:
    """Raises UserError where no video was left to measure."""
    if not len(labels_N):
        raise UserError("not one of the videos could be used: broken_videos.jsonl in the workdir says why")


@functools.lru_cache(maxsize=8)
def _reader(seen: tuple[tuple[nn.Module, EvalView], ...], keep_map: bool) -> Callable:
    """One function for all weights and data that such networks are evaluated with: it is compiled once."""

    def pooled_and_map(weights, batch):
        found = []
        for (module, own_view), own in zip(seen, weights, strict=True):
            views = own_view(batch)
            clips = views.reshape(-1, *views.shape[2:])
            out, _ = backbone_lib.apply(module, *own, clips, train=False, method="features")
            pooled, maps = out.pooled_BxD.reshape(*views.shape[:2], -1).mean(axis=1), None
            if keep_map:
                maps = out.map_BxTxHxWxD.reshape(*views.shape[:2], *out.map_BxTxHxWxD.shape[1:]).astype(jnp.float32).mean(axis=1)
            found.append((pooled, maps))
        return found

    return pooled_and_map


def extract(
    subjects: Sequence[Subject], view: Mapping[str, Any], batches: Iterator[Mapping[str, np.ndarray]], keep_map: bool = False
) -> tuple[Table, ...]:
    """Runs the frozen backbones, in evaluation mode, over one pass of the data: a table each, of the same rows. `view` is the config of an
    evaluation view.
    """
    seen = tuple((subject.module(), subject.eval_view(view)) for subject in subjects)
    features = spread(_reader(seen, keep_map), tuple((subject.params, subject.stats) for subject in subjects))
    rows, labels, indices = [[] for _ in subjects], [], []
    for batch in batches:
        real = np.asarray(batch[batch_lib.WEIGHT]) > 0
        for own, (pooled, maps) in zip(rows, features({k: v for k, v in batch.items() if k not in HOST_KEYS}), strict=True):
            own.append((np.asarray(pooled)[real], np.asarray(maps)[real] if keep_map else None))
        labels.append(np.asarray(batch[batch_lib.LABEL])[real])
        indices.append(np.asarray(batch[batch_lib.INDEX])[real])
    labels_N, index_N = np.concatenate(labels), np.concatenate(indices)
    check_some(labels_N)
    tables = []
    for own in rows:
        pooled, maps = zip(*own, strict=True)
        tables.append(Table(np.concatenate(pooled), np.concatenate(maps) if keep_map else None, labels_N, index_N))
    return tuple(tables)
