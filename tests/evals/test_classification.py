"""The metrics on outputs whose scores are known, and against scikit-learn."""

import warnings

import numpy as np
import pytest

from vssl_jax.evals.classification import average_views, binomial_stderr, classify, seed_stderr


def test_perfect_and_perfectly_wrong():
    labels = np.arange(12) % 6
    good = classify(np.eye(6)[labels], labels)
    assert good.numbers() == {"top1": 1.0, "top5": 1.0, "macro_precision": 1.0, "macro_recall": 1.0}
    np.testing.assert_array_equal(good.confusion_CxC, 2 * np.eye(6))
    bad = classify(-np.eye(6)[labels], labels)
    assert bad.numbers() == {"top1": 0.0, "top5": 0.0, "macro_precision": 0.0, "macro_recall": 0.0}


def test_a_constant_output_scores_chance_and_not_one():
    labels = np.arange(80) % 8
    result = classify(np.full((80, 8), 1 / 8), labels)
    assert (result.top1, result.top5, result.macro_recall) == (1 / 8, 5 / 8, 1 / 8)
    assert result.chance() == {"top1": 1 / 8, "top5": 5 / 8}
    assert result.macro_precision == pytest.approx(1 / 64)


def test_top5_is_left_out_where_it_cannot_be_missed():
    result = classify(np.eye(5), np.arange(5)[::-1])
    assert result.top5 is None and "top5" not in result.numbers()


@pytest.mark.parametrize("n,c", [(200, 7), (50, 30), (3, 9)])
def test_equal_to_scikit_learn(n, c):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(c)
    labels, scores = rng.integers(0, c, n), rng.random((n, c))
    scores[np.arange(n), labels] += rng.random(n) * 0.7
    result, predicted = classify(scores, labels), scores.argmax(axis=1)
    assert result.n == n and result.top1 == pytest.approx(sk.accuracy_score(labels, predicted))
    assert result.top5 == pytest.approx(sk.top_k_accuracy_score(labels, scores, k=5, labels=np.arange(c)))
    assert result.macro_precision == pytest.approx(sk.precision_score(labels, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.macro_recall == pytest.approx(sk.recall_score(labels, predicted, average="macro", zero_division=0))
    np.testing.assert_array_equal(result.confusion_CxC, sk.confusion_matrix(labels, predicted, labels=np.arange(c)))


def test_what_cannot_be_scored_is_refused():
    for scores, labels in [(np.full((2, 3), np.nan), [0, 1]), (np.eye(3), [0, 1, -1]), (np.eye(3), [0, 1, 3]), (np.zeros((0, 3)), [])]:
        with pytest.raises(ValueError):
            classify(scores, np.array(labels, int))


def test_views_are_averaged_as_probabilities():
    # One view is sure of class 1, two lean to class 0: probabilities vote 0, logits vote 1.
    logits = np.array([[[2.0, 0.0], [2.0, 0.0], [0.0, 9.0]]])
    p = 1 / (1 + np.exp(-2.0))
    expected = (2 * p + 1 / (1 + np.exp(9.0))) / 3
    np.testing.assert_allclose(average_views(logits), [[expected, 1 - expected]], atol=1e-12)
    assert average_views(logits).argmax() == 0 and logits.mean(axis=1).argmax() == 1
    np.testing.assert_allclose(average_views(logits + 1e4), average_views(logits), atol=1e-9)
    np.testing.assert_allclose(average_views(logits[:, ::-1]), average_views(logits), atol=1e-12)


def test_standard_errors():
    assert binomial_stderr(0.5, 100) == 0.05 and binomial_stderr(1.0, 7) == 0.0
    assert seed_stderr([0.1, 0.3]) == pytest.approx(0.1) and seed_stderr([0.4]) is None
    rng = np.random.default_rng(0)
    means = rng.binomial(200, 0.3, 20000) / 200
    assert means.std() == pytest.approx(binomial_stderr(0.3, 200), rel=0.03)
