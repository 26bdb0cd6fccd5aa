"""Weighted nearest neighbors on frozen features: what the features tell apart with nothing trained on top.

The idea: everything is one matrix product and a top-k, so it runs in chunks of test rows on the accelerator, and nothing grows with train x
test. Protocol of DINO (Caron et al. 2021, section 4.1 and appendix; after Wu et al. 2018): cosine similarity, the k nearest training videos
vote for their class with weight exp(similarity / temperature).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import UserError

CENTERING = ("none", "train", "each")
_CHUNK = 256  # test rows at a time: 256 x 240,000 training videos (Kinetics-400) take 0.25 GB


def weighted_knn(
    train_features_NxD: np.ndarray,
    train_labels_N: np.ndarray,
    test_features_MxD: np.ndarray,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Class scores of each test row, float32 [M, num_classes]: the neighbors' votes as shares, so each row sums to 1. Among equally similar training rows
    the earlier one is nearer.

    Raises UserError where k exceeds the training rows, a label is outside [0, num_classes), or a feature is not finite.
    """
    labels_N = np.asarray(train_labels_N)
    if labels_N.shape != (len(train_features_NxD),):
        raise ValueError(f"{len(train_features_NxD)} training rows have labels of shape {labels_N.shape}")
    if len(labels_N) and not (0 <= labels_N.min() and labels_N.max() < num_classes):
        raise UserError(f"kNN needs a label from 0 to {num_classes - 1} for every training video, got {labels_N.min()} to {labels_N.max()}")
    index_MxK, cosine_MxK = nearest(train_features_NxD, test_features_MxD, k)
    return np.asarray(_vote(jnp.asarray(cosine_MxK), jnp.asarray(labels_N[index_MxK]), num_classes, temperature))


def check_neighbors(k: int, videos: int, what: str = "kNN") -> None:
    """Raises UserError, about `what`, where k of that many training videos cannot be had."""
    if not 1 <= k <= videos:
        raise UserError(f"{what} with k={k} needs at least k training videos and k >= 1, there are {videos}: set k lower")


def check_centering(center: str) -> None:
    """Raises UserError for one that is not known."""
    if center not in CENTERING:
        raise UserError(f"unknown centering {center!r}: use one of {', '.join(CENTERING)}")


def nearest(
    gallery_NxD: np.ndarray, queries_MxD: np.ndarray, k: int, chunk: int = _CHUNK, what: str = "kNN"
) -> tuple[np.ndarray, np.ndarray]:
    """The k gallery rows most similar to each query, nearest first: (int32 index [M, k], float32 cosine [M, k]). Arguments as in
    `weighted_knn`; `what` asks, for the error where k exceeds the gallery.
    """
    check_neighbors(k, len(gallery_NxD), what)
    gallery_NxD, queries_MxD = _unit(jnp.asarray(_checked(gallery_NxD))), _checked(queries_MxD)
    index, cosine = [np.zeros((0, k), np.int32)], [np.zeros((0, k), np.float32)]
    for start in range(0, len(queries_MxD), chunk):
        rows = queries_MxD[start : start + chunk]
        padded = np.pad(rows, ((0, min(chunk, len(queries_MxD)) - len(rows)), (0, 0)))  # one shape, one compilation
        cosine_CxK, index_CxK = _top(gallery_NxD, jnp.asarray(padded), k)
        index.append(np.asarray(index_CxK[: len(rows)]))
        cosine.append(np.asarray(cosine_CxK[: len(rows)]))
    return np.concatenate(index), np.concatenate(cosine)


@partial(jax.jit, static_argnames="k")
def _top(gallery_NxD: jax.Array, queries_CxD: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    # HIGHEST: by default an accelerator rounds the factors to bfloat16 or TF32, and close neighbors change places.
    cosine_CxN = jnp.einsum("cd,nd->cn", _unit(queries_CxD), gallery_NxD, precision=jax.lax.Precision.HIGHEST)
    return jax.lax.top_k(cosine_CxN, k)


@partial(jax.jit, static_argnames="num_classes")
def _vote(cosine_MxK: jax.Array, labels_MxK: jax.Array, num_classes: int, temperature: float) -> jax.Array:
    weight_MxK = jax.nn.softmax(cosine_MxK / temperature, axis=-1)  # exp(cosine / temperature) as shares: safe for any temperature
    one_hot_MxKxC = jax.nn.one_hot(labels_MxK, num_classes, dtype=jnp.float32)
    return jnp.einsum("mk,mkc->mc", weight_MxK, one_hot_MxKxC, precision=jax.lax.Precision.HIGHEST)


def _unit(x_NxD: jax.Array) -> jax.Array:
    return x_NxD / jnp.maximum(jnp.linalg.norm(x_NxD, axis=-1, keepdims=True), 1e-12)


def _checked(features_NxD: np.ndarray) -> np.ndarray:
    features_NxD = np.asarray(features_NxD, np.float32)
    if features_NxD.ndim != 2:
        raise ValueError(f"features have shape {features_NxD.shape}: one row per video is needed")
    bad = int((~np.isfinite(features_NxD)).any(axis=1).sum())
    if bad:
        raise UserError(f"{bad} of {len(features_NxD)} feature rows hold NaN or infinity: the checkpoint has diverged, use an earlier one")
    return features_NxD


def joined(pairs: Sequence[tuple[np.ndarray, np.ndarray]], center: str = "none") -> tuple[np.ndarray, np.ndarray]:
    """Several features of the same videos, each as (gallery [N, D], queries [M, D]), as one whose cosine is the mean of theirs: each is centered by
    itself and of unit length, and then they stand side by side (CoCLR's two-stream retrieval adds the two similarities). A single one is only centered.

    `center` is the mean that is taken away: "none"; "train": the gallery's from both sets; "each": each set's own (CoCLR, Han et al. 2020, video
    retrieval).

    Raises UserError where the centering is not known or a feature is not finite.
    """
    made = [_centered(_checked(gallery_NxD), _checked(queries_MxD), center) for gallery_NxD, queries_MxD in pairs]
    if len(made) == 1:
        return made[0]
    gallery_NxD, queries_MxD = (np.concatenate([_unit(rows) for rows in side], axis=1) for side in zip(*made, strict=True))
    return gallery_NxD, queries_MxD


def _centered(train_NxD: np.ndarray, test_MxD: np.ndarray, center: str) -> tuple[np.ndarray, np.ndarray]:
    check_centering(center)
    if center == "none":
        return train_NxD, test_MxD
    if center == "train":
        mean_D = train_NxD.mean(axis=0)
        return train_NxD - mean_D, test_MxD - mean_D
    return train_NxD - train_NxD.mean(axis=0), test_MxD - test_MxD.mean(axis=0)
