"""Video retrieval: every test video ranks all training videos by the similarity of their features; is one of the first k of its class?

The idea: hit@k counts a test video once, however many of its k nearest are right, as the tables of the field do (VCOP, Xu et al. 2019; CoCLR, Han et al.
2020), some of which call it recall. Nothing is trained and nothing drawn. Numbers move by many points with the layer that is pooled, the clips of a video
and centering, so compare only those that agree in these. Few classes are easy: chance stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax.evals.knn import nearest


@dataclass(frozen=True)
class Retrieval:
    """Results on n test videos: {k: hit@k} and {k: what a random order of the training videos would give}, shares from 0 to 1."""

    n: int
    hits: dict[int, float]
    chances: dict[int, float]

    @property
    def headline(self) -> float:
        """The one number where there is place for one: hit@k of the least k."""
        return self.hits[min(self.hits)]

    @property
    def shares(self) -> tuple[str, ...]:
        """Those of `numbers` that are shares of the n videos."""
        return tuple(self.numbers())

    def numbers(self) -> dict[str, float]:
        """{"hit@1": ..., "hit@5": ..., ...}."""
        return {f"hit@{k}": hit for k, hit in self.hits.items()}

    def chance(self) -> dict[str, float]:
        """Of `numbers`, by a random order."""
        return {f"hit@{k}": chance for k, chance in self.chances.items()}


def retrieve(
    gallery_NxD: np.ndarray,
    gallery_labels_N: np.ndarray,
    queries_MxD: np.ndarray,
    query_labels_M: np.ndarray,
    ks: Sequence[int],
) -> Retrieval:
    """hit@k of every query for each k of `ks`, by cosine. A gallery video without a label (below 0) is
    never a hit. Among equally similar videos the earlier one is nearer.

    Raises UserError where a k exceeds the gallery or a feature is not finite; ValueError for a query without a label, which could not be scored.
    """
    gallery_labels_N, query_labels_M = np.asarray(gallery_labels_N), np.asarray(query_labels_M)
    if len(query_labels_M) == 0 or query_labels_M.shape != (len(queries_MxD),) or query_labels_M.min() < 0:
        raise ValueError(f"retrieval needs a label for each of at least one query, got {len(queries_MxD)} and labels {query_labels_M}")
    index_MxK, _ = nearest(gallery_NxD, queries_MxD, max(ks), what="retrieval")
    right_MxK = gallery_labels_N[index_MxK] == query_labels_M[:, None]
    hits = {k: float(right_MxK[:, :k].any(axis=1).mean()) for k in ks}
    classes_C, class_M = np.unique(query_labels_M, return_inverse=True)
    right_C = (gallery_labels_N == classes_C[:, None]).sum(axis=1)
    return Retrieval(len(query_labels_M), hits, {k: float(_some(right_C, len(gallery_labels_N), k)[class_M].mean()) for k in ks})


def _some(right_C: np.ndarray, n: int, k: int) -> np.ndarray:
    """The probability that k of n videos, drawn without replacement, hold one of the `right` ones: 1 - C(n - right, k) / C(n, k)."""
    drawn_K = np.arange(k)
    return 1.0 - np.prod(np.maximum(n - right_C[:, None] - drawn_K, 0) / (n - drawn_K), axis=1)
