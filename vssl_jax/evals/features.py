"""Frozen features of a whole source, one row per video, computed once for all protocols that train nothing in the backbone."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
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


def extract(subject: Subject, view: EvalView, batches: Iterator[Mapping[str, np.ndarray]], keep_map: bool = False) -> Table:
    """Runs the frozen backbone, in evaluation mode, over one pass of the data."""
    module = subject.module()

    def pooled_and_map(weights, batch):
        views = view(batch)
        clips = views.reshape(-1, *views.shape[2:])
        out, _ = backbone_lib.apply(module, *weights, clips, train=False, method="features")
        pooled = out.pooled_BxD.reshape(*views.shape[:2], -1).mean(axis=1)
        if not keep_map:
            return pooled, None
        return pooled, out.map_BxTxHxWxD.reshape(*views.shape[:2], *out.map_BxTxHxWxD.shape[1:]).astype(jnp.float32).mean(axis=1)

    features = spread(pooled_and_map, (subject.params, subject.stats))
    pooled_rows, map_rows, labels, indices = [], [], [], []
    for batch in batches:
        real = np.asarray(batch[batch_lib.WEIGHT]) > 0
        pooled, maps = features({k: v for k, v in batch.items() if k not in HOST_KEYS})
        pooled_rows.append(np.asarray(pooled)[real])
        labels.append(np.asarray(batch[batch_lib.LABEL])[real])
        indices.append(np.asarray(batch[batch_lib.INDEX])[real])
        if keep_map:
            map_rows.append(np.asarray(maps)[real])
    return Table(
        np.concatenate(pooled_rows), np.concatenate(map_rows) if keep_map else None, np.concatenate(labels), np.concatenate(indices)
    )
