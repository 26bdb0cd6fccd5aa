"""Nearest neighbors against brute force in float64."""

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.evals import knn


def brute(train, labels, test, classes, k, temperature):
    train, test = train.astype(np.float64), test.astype(np.float64)
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    test /= np.linalg.norm(test, axis=1, keepdims=True)
    out = np.zeros((len(test), classes))
    for i, row in enumerate(test @ train.T):
        for j in np.argsort(-row, kind="stable")[:k]:
            out[i, labels[j]] += np.exp(row[j] / temperature)
    return out / out.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "n,m,d,classes,k,temperature", [(50, 7, 4, 3, 20, 0.07), (30, 300, 8, 5, 1, 0.07), (9, 1, 2, 2, 9, 1.0), (40, 257, 3, 4, 5, 0.02)]
)
def test_scores_equal_brute_force(n, m, d, classes, k, temperature):
    rng = np.random.default_rng(n)
    train, test, labels = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.integers(0, classes, n)
    scores = knn.weighted_knn(train, labels, test, classes, k, temperature)
    assert scores.shape == (m, classes)
    # A cosine's float32 rounding (1e-7) over the temperature is the error of a vote's exponent.
    np.testing.assert_allclose(scores, brute(train, labels, test, classes, k, temperature), atol=2e-7 / temperature + 1e-6)


def test_neighbors_do_not_depend_on_the_chunk_or_the_length_of_a_feature():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(60, 6)), rng.normal(size=(37, 6))
    index, cosine = knn.nearest(train, test, 5)
    for chunk in (1, 8, 37, 100):
        again = knn.nearest(train * 1000.0, test * rng.uniform(0.1, 9, (37, 1)), 5, chunk=chunk)
        np.testing.assert_array_equal(again[0], index)
        np.testing.assert_allclose(again[1], cosine, atol=1e-6)


def test_equal_neighbors_come_in_order():
    same = np.ones((4, 3))
    index, _ = knn.nearest(same, same[:1], 3)
    assert index.tolist() == [[0, 1, 2]]


def test_centering_removes_what_all_videos_share():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    signal = np.where(labels[:, None] == 0, 1.0, -1.0) * np.array([[1.0, 0.0]]) + 0.01 * rng.normal(size=(40, 2))
    common = np.array([0.0, 1e3])
    train, test = signal + common, signal - common
    gallery, queries = knn.joined([(train, test)], "each")
    each = knn.weighted_knn(gallery, labels, queries, 2, k=5)
    assert (each.argmax(axis=1) == labels).all()
    gallery, queries = knn.joined([(train, train)], "train")
    shifted = knn.weighted_knn(gallery, labels, queries, 2, k=5)
    assert (shifted.argmax(axis=1) == labels).all()
    by_hand = knn.weighted_knn(train - train.mean(0), labels, test - test.mean(0), 2, k=5)
    np.testing.assert_allclose(each, by_hand, atol=1e-4)


@pytest.mark.parametrize("center", ["none", "train", "each"])
def test_the_similarity_of_joined_features_is_the_mean_of_theirs(center):
    """Whatever their lengths and widths."""
    rng = np.random.default_rng(5)
    pairs = [(scale * rng.normal(size=(30, d)) + 1, scale * rng.normal(size=(7, d))) for scale, d in ((1.0, 3), (50.0, 8))]
    each = []
    for gallery, queries in pairs:
        index, cosine = knn.nearest(*knn.joined([(gallery, queries)], center), 30)
        each.append(np.take_along_axis(cosine, np.argsort(index, axis=1), axis=1))
    index, cosine = knn.nearest(*knn.joined(pairs, center), 30)
    np.testing.assert_allclose(np.take_along_axis(cosine, np.argsort(index, axis=1), axis=1), sum(each) / 2, atol=1e-5)


def test_one_feature_joined_is_itself():
    rng = np.random.default_rng(6)
    pair = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    for own, same in zip(pair, knn.joined([pair]), strict=True):
        np.testing.assert_array_equal(own, same)
    with pytest.raises(UserError, match="unknown centering 'both'"):
        knn.joined([pair], "both")
    with pytest.raises(UserError, match="1 of 9 feature rows"):
        knn.joined([pair, (np.where(np.arange(9)[:, None] == 1, np.nan, pair[0]), pair[1])], "each")


def test_a_tiny_temperature_does_not_overflow():
    rng = np.random.default_rng(2)
    scores = knn.weighted_knn(rng.normal(size=(20, 4)), np.arange(20) % 2, rng.normal(size=(3, 4)), 2, k=5, temperature=1e-3)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)


def test_mistakes_are_named():
    x, y = np.eye(3), np.array([0, 1, 1])
    with pytest.raises(UserError, match="k=20"):
        knn.weighted_knn(x, y, x, 2)
    with pytest.raises(UserError, match="label"):
        knn.weighted_knn(x, y - 1, x, 2, k=1)
    with pytest.raises(UserError, match="1 of 3 feature rows"):
        knn.weighted_knn(x, y, np.where(np.arange(3)[:, None] == 1, np.nan, x), 2, k=1)
    with pytest.raises(UserError, match="none, train, each"):
        knn.check_centering("both")
