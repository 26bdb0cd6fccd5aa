"""The map keeps clusters together and is the same every time."""

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.evals import tsne


def clusters(n=60, d=16, classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return 3 * np.eye(classes, d)[labels] + 0.1 * rng.normal(size=(n, d)), labels


def test_the_map_is_deterministic_and_keeps_clusters():
    pytest.importorskip("sklearn")
    features, labels = clusters()
    xy = tsne.embed_2d(features, seed=3)
    np.testing.assert_array_equal(tsne.embed_2d(features, seed=3), xy)
    assert xy.shape == (60, 2) and np.isfinite(xy).all()
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 1e9 * np.eye(60)
    assert (labels[distance.argmin(axis=1)] == labels).all()


def test_few_videos_and_a_collapsed_encoder():
    pytest.importorskip("sklearn")
    assert tsne.embed_2d(clusters(5)[0]).shape == (5, 2)  # a perplexity of 30 would be refused here
    with pytest.raises(UserError, match="at least 5"):
        tsne.embed_2d(np.eye(4))
    with pytest.raises(UserError, match="collapsed"):
        tsne.embed_2d(np.ones((20, 4)))


def test_chosen_videos_are_balanced_and_drawn_from_the_seed():
    labels = np.array([0] * 100 + [1] * 10 + [2] * 3)
    rows = tsne.choose(labels, 23)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 3] and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, tsne.choose(labels, 23))
    assert not np.array_equal(rows, tsne.choose(labels, 23, seed=1))
    assert len(tsne.choose(labels, 500)) == 113
