"""hit@k against counting by hand, and at both ends of what can be known."""

import itertools

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.evals.knn import joined
from vssl_jax.evals.retrieval import Retrieval, _some, retrieve

KS = (1, 5, 10, 20, 50)


def drawn(seed=0, n=80, m=40, classes=4):
    """Features and labels that have nothing to do with each other: (gallery, its labels, queries, their labels)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)), rng.integers(0, classes, n), rng.normal(size=(m, 6)), rng.integers(0, classes, m)


def test_hits_are_those_of_ranking_by_hand():
    gallery, labels, queries, wanted = drawn()
    found = retrieve(gallery, labels, queries, wanted, KS)
    cosine = np.array([[q @ g / np.linalg.norm(q) / np.linalg.norm(g) for g in gallery] for q in queries])
    order = np.argsort(-cosine, axis=1)
    for k in KS:
        hits = [any(labels[i] == c for i in row[:k]) for row, c in zip(order, wanted, strict=True)]
        assert found.hits[k] == pytest.approx(np.mean(hits))
    assert found.n == 40 and 0 < found.hits[1] < 1
    assert found.numbers() == {f"hit@{k}": found.hits[k] for k in KS}


def test_more_of_the_nearest_are_never_fewer_hits():
    for seed in range(5):
        values = list(retrieve(*drawn(seed), KS).hits.values())
        assert values == sorted(values) and values[0] < values[-1]


def test_features_that_are_the_class_always_hit():
    labels, wanted = np.arange(60) % 4, np.arange(20) % 4
    assert retrieve(np.eye(4)[labels], labels, np.eye(4)[wanted], wanted, KS[:3]).hits == {1: 1.0, 5: 1.0, 10: 1.0}


def test_shuffled_labels_hit_as_often_as_chance_says():
    """Classes of other sizes, 100 galleries (the queries of one share it, and hit together), within 4 standard errors."""
    rng, ks = np.random.default_rng(1), (1, 3, 10)
    of_size = np.repeat(np.arange(4), (3, 6, 15, 36))
    features = rng.normal(size=(100, 100, 6))
    found = [retrieve(x[:60], rng.permutation(of_size), x[60:], np.arange(40) % 4, ks) for x in features]
    assert found[0].chances[1] == pytest.approx(0.25)  # the mean share of a class
    for k in ks:
        off = np.array([r.hits[k] - r.chances[k] for r in found])
        assert 0 < off.std() and abs(off.mean()) < 4 * off.std() / np.sqrt(len(off)), k


def test_chance_is_that_of_all_draws():
    right = np.array([0, 1, 2, 5, 6])
    for k in (1, 2, 4):
        all_draws = list(itertools.combinations(range(6), k))
        shares = [np.mean([any(i < r for i in draw) for draw in all_draws]) for r in right]
        np.testing.assert_allclose(_some(right, 6, k), shares, atol=1e-12)


def test_centering_each_set_by_itself_is_the_papers():
    gallery, labels, queries, wanted = drawn()
    far = np.array([100.0, 0, 0, 0, 0, 0])
    by_hand = retrieve(gallery - gallery.mean(0), labels, queries - queries.mean(0), wanted, KS)
    centered, moved = joined([(gallery + far, queries - far)], "each")
    assert retrieve(centered, labels, moved, wanted, KS).hits == by_hand.hits
    assert retrieve(gallery + far, labels, queries - far, wanted, KS).hits != by_hand.hits


def test_twice_is_the_same():
    assert retrieve(*drawn(3), KS) == retrieve(*drawn(3), KS)


def test_what_cannot_be_ranked_is_refused():
    gallery, labels, queries, wanted = drawn(n=20)
    with pytest.raises(UserError, match=r"retrieval with k=50 needs at least k training videos .*there are 20"):
        retrieve(gallery, labels, queries, wanted, KS)
    with pytest.raises(ValueError, match="a label for each"):
        retrieve(gallery, labels, queries, wanted - 4, (1,))
    unlabeled = np.full_like(labels, -1)
    assert retrieve(gallery, unlabeled, queries, wanted, (1, 20)) == Retrieval(40, {1: 0.0, 20: 0.0}, {1: 0.0, 20: 0.0})
