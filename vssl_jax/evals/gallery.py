"""What the report shows of a checkpoint's features: the map of the test videos, and test videos beside their nearest training videos.

The idea: pictures come from functions that read one video's clip, so only the few videos that are shown are read.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from vssl_jax.evals import report_data, tsne
from vssl_jax.evals.features import Table

ReadClip = Callable[[int], np.ndarray]  # a video's number in its source (Table.index_N) -> uint8 [T,H,W,3], of one size for all videos


def save_map(workdir: str | os.PathLike, test: Table, class_names: Sequence[str], most: int = 1000, seed: int = 0) -> None:
    """t-SNE of at most `most` test videos, balanced over classes, for the report."""
    rows = tsne.choose(test.labels_N, most, seed)
    xy_Nx2 = tsne.embed_2d(test.pooled_NxD[rows], seed)
    about = f"{len(rows)} of {len(test.labels_N)} test videos." if len(rows) < len(test.labels_N) else "All test videos."
    report_data.save_feature_map(workdir, report_data.FeatureMap(xy_Nx2, test.labels_N[rows], tuple(class_names), about))


def save_neighbors(
    workdir: str | os.PathLike,
    tables: tuple[Table, Table],
    read: tuple[ReadClip, ReadClip],
    class_names: Sequence[str],
    queries: int = 6,
    k: int = 5,
    seed: int = 0,
) -> None:
    """A few test videos, of different classes and drawn from the seed, beside their k nearest training videos. `tables` and `read` are
    (training, test).

    Raises UserError where there are fewer than k training videos.
    """
    train, test = tables
    rows = tsne.choose(test.labels_N, queries, seed)
    found = tsne.find_neighbors(test.pooled_NxD, train.pooled_NxD, rows, k)
    query_clips = np.stack([read[1](int(i)) for i in test.index_N[rows]])
    near_clips = np.stack([[read[0](int(i)) for i in train.index_N[row]] for row in found.neighbor_QxK])
    pictures = report_data.NeighborPictures(
        query_clips,
        near_clips,
        test.labels_N[rows],
        train.labels_N[found.neighbor_QxK],
        found.cosine_QxK,
        tuple(class_names),
        "Queries are test videos, their neighbors training videos.",
    )
    report_data.save_neighbor_pictures(workdir, pictures)
