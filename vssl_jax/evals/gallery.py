"""What the report shows of a checkpoint's features: the map of the test videos, and test videos beside their nearest training videos.

The idea: pictures come from functions that read one video's clip, so only the few videos that are shown are read.
"""

import functools
import logging
import os
from collections.abc import Callable, Sequence

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.order import sample_rng
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError
from vssl_jax.evals import knn, report_data, tsne
from vssl_jax.evals.features import Table, Tables, side_by_side
from vssl_jax.perturb import view as view_lib

log = logging.getLogger(__name__)

ReadClip = Callable[[int], np.ndarray]  # a video's number in its source (Table.index_N) -> uint8 [T,H,W,3]; videos may differ in T, H and W


def show_features(workdir: str | os.PathLike, found: Sequence[Tables], inputs: tuple[Input, Input], class_names: Sequence[str]) -> None:
    """The report's map of the features, side by side, and the nearest neighbors of a few test videos. `inputs` are (training, test). Where they cannot be
    had (too few videos, no scikit-learn), a warning says why: the numbers stand without them.
    """
    readers = tuple(functools.partial(_clip_shown, i) for i in inputs)
    both = tuple(table._replace(pooled_NxD=pooled) for table, pooled in zip(found[0], side_by_side(found, "none"), strict=True))
    try:
        save_map(workdir, both[1], class_names)
        save_neighbors(workdir, both, readers, class_names)
    except (UserError, ImportError) as error:
        log.warning("the report lacks the map of the features or the nearest neighbors: %s", error)


def _clip_shown(input: Input, i: int) -> np.ndarray:
    """uint8 [T,H,W,3]: the clip of video i that evaluation looks at, without its canvas."""
    video = input.source.open(i)
    frames = input.sampler(sample_rng(input.seed, i), video.index.seconds, video.span)[0]
    arrays, (rows, columns) = video.read(frames.tolist(), input.spec.layout, (input.spec.height, input.spec.width))
    clip = {key: array[None, None] for key, array in arrays.items()}
    clip |= {batch_lib.EXTENT: np.array([[[rows, columns]]], np.int32), batch_lib.YUV_SPACE: np.array([[video.index.yuv_space]], np.int32)}
    return np.asarray(255 * view_lib.unit_rgb(clip)[0, 0, :, :rows, :columns] + 0.5).astype(np.uint8)


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
    neighbor_QxK, cosine_QxK = knn.nearest(train.pooled_NxD, test.pooled_NxD[rows], k)
    queries_of = [read[1](int(i)) for i in test.index_N[rows]]
    near_of = [read[0](int(i)) for i in train.index_N[neighbor_QxK].ravel()]
    clips = _of_one_size([*queries_of, *near_of])
    pictures = report_data.NeighborPictures(
        clips[: len(rows)],
        clips[len(rows) :].reshape(len(rows), -1, *clips.shape[1:]),
        test.labels_N[rows],
        train.labels_N[neighbor_QxK],
        cosine_QxK,
        tuple(class_names),
        "Queries are test videos, their neighbors training videos.",
    )
    report_data.save_neighbor_pictures(workdir, pictures)


def _of_one_size(clips: Sequence[np.ndarray]) -> np.ndarray:
    """[N,T,H,W,3]: every picture in the middle of a black one as large as the largest; a clip's last one stays until the longest ends."""
    length, height, width = (max(clip.shape[axis] for clip in clips) for axis in range(3))

    def framed(clip):
        over = [
            ((whole - have) // 2, whole - have - (whole - have) // 2) for whole, have in zip((height, width), clip.shape[1:3], strict=True)
        ]
        return np.pad(np.pad(clip, [(0, 0), *over, (0, 0)]), [(0, length - len(clip)), (0, 0), (0, 0), (0, 0)], mode="edge")

    return np.stack([framed(clip) for clip in clips])
