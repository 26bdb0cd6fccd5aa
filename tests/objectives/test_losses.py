"""Exact values on zero scores, identities between the losses, Sinkhorn's marginals, and what no gradient passes."""

import jax
import numpy as np
import pytest

from vssl_jax.objectives import losses

# Compiled whole: run as they are, each of their operations would be a program of its own.
info_nce, mil_nce, nt_xent = jax.jit(losses.info_nce), jax.jit(losses.mil_nce), jax.jit(losses.nt_xent)
similarity, cosine_distance, cross_entropy = jax.jit(losses.similarity), jax.jit(losses.cosine_distance), jax.jit(losses.cross_entropy)
sinkhorn, centered_softmax = jax.jit(losses.sinkhorn, static_argnums=2), jax.jit(losses.centered_softmax)
margin_ranking, fixed_partition_nce = jax.jit(losses.margin_ranking), jax.jit(losses.fixed_partition_nce)


def scores(*shape, seed=0, scale=3.0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(scale)


def vectors(*shape, seed=0):
    drawn = scores(*shape, seed=seed)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def sigmoid(score):
    return 1 / (1 + np.exp(-np.asarray(score, np.float64)))


@pytest.mark.parametrize(("negatives", "expected"), [(2048, 7.6251), (16_384, 9.7041), (65_536, 11.0904)])
def test_info_nce_of_zero_scores(negatives, expected):
    assert float(info_nce(zeros(1), zeros(1, negatives))[0]) == pytest.approx(expected, abs=5e-5)


def test_nt_xent_of_zero_vectors_is_the_logarithm_of_all_others():
    loss_B, _ = nt_xent(zeros(1024, 2, 4), 0.1)
    assert 2 * float(loss_B[0]) == pytest.approx(15.2483, abs=5e-5)  # CVRL adds both directions


@pytest.mark.parametrize(("kept", "expected"), [(6, 5.8333), (5, 6.0157)])
def test_five_mined_positives_of_a_queue_of_2048(kept, expected):
    """With and without the query's own key among them."""
    positive = np.arange(2049)[None] < kept
    assert float(mil_nce(zeros(1, 2049), positive)[0]) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("prototypes", "expected"), [(1000, 6.9078), (65_536, 11.0904)])
def test_cross_entropy_of_zero_logits_is_that_of_a_uniform_guess(prototypes, expected):
    target = np.random.default_rng(0).dirichlet(np.ones(prototypes), 1).astype(np.float32)
    assert float(cross_entropy(target, zeros(1, prototypes))[0]) == pytest.approx(expected, abs=5e-4)


def test_the_margin_of_zero_scores():
    assert float(margin_ranking(zeros(1), zeros(1), 2.0)[0]) == 2.0
    assert margin_ranking(np.float32([3.0, 1.5]), zeros(2), 2.0).tolist() == [0.0, 0.5]


def test_the_fixed_partition_is_nces_of_the_two_chances():
    """P of the data over P of the data and M draws of noise, of probability 1/n each."""
    positive, noise, n, z = scores(6, scale=1.0), scores(6, 9, seed=1, scale=1.0), 50, 30.0
    data = lambda s: np.exp(s) / z  # noqa: E731
    chance = lambda s: data(s) / (data(s) + 9 / n)  # noqa: E731
    expected = -np.log(chance(positive)) - np.log(1 - chance(noise)).sum(axis=1)
    np.testing.assert_allclose(fixed_partition_nce(positive, noise, n, z), expected, rtol=1e-5)


def test_one_positive_makes_mil_nce_info_nce_and_only_positives_make_it_0():
    score = scores(8, 12)
    first = np.broadcast_to(np.arange(12) == 0, (8, 12))
    np.testing.assert_allclose(mil_nce(score, first), info_nce(score[:, 0], score[:, 1:]), rtol=1e-6)
    np.testing.assert_allclose(mil_nce(score, np.ones((8, 12), bool)), 0, atol=1e-6)


def test_the_mean_over_positives_is_of_their_own_losses():
    score, positive = scores(8, 12), np.arange(12) < 3
    each = [info_nce(score[:, p], np.delete(score, p, axis=1)) for p in range(3)]
    np.testing.assert_allclose(losses.mean_nce(score, np.broadcast_to(positive, (8, 12))), np.mean(each, axis=0), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.mil_nce, losses.mean_nce])
def test_a_row_without_a_positive_costs_nothing_and_has_no_gradient(loss):
    positive = np.array([[True, False, False], [False, False, False]])
    value, gradient = jax.jit(jax.value_and_grad(lambda s: loss(s, positive).sum()))(scores(2, 3))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (gradient[1] == 0).all() and (gradient[0] != 0).all()


def test_the_order_of_negatives_means_nothing():
    positive, negative = scores(5), scores(5, 40, seed=1)
    np.testing.assert_allclose(info_nce(positive, negative), info_nce(positive, negative[:, ::-1]), rtol=1e-6)


def test_negatives_that_do_not_count_are_as_if_they_were_not_there():
    positive, negative = scores(5), scores(5, 8, seed=1)
    counted = np.arange(8) < 3
    some = info_nce(positive, negative, np.broadcast_to(counted, negative.shape))
    np.testing.assert_allclose(some, info_nce(positive, negative[:, :3]), rtol=1e-6)


@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_by_hand(views):
    z, t = np.asarray(vectors(5, views, 8), np.float64), 0.2
    expected = np.zeros(5)
    for b in range(5):
        for v in range(views):
            others = [z[b, v] @ z[c, w] / t for c in range(5) if c != b for w in range(views)]
            for w in set(range(views)) - {v}:
                own = z[b, v] @ z[b, w] / t
                expected[b] += (np.log(np.exp([own, *others]).sum()) - own) / (views * (views - 1))
    loss_B, _ = nt_xent(z.astype(np.float32), t)
    np.testing.assert_allclose(loss_B, expected, rtol=1e-5)


def test_nt_xent_is_the_same_for_the_views_in_another_order():
    z = vectors(5, 3, 8)
    np.testing.assert_allclose(nt_xent(z, 0.1)[0], nt_xent(z[:, ::-1], 0.1)[0], rtol=1e-5)


def test_nt_xent_knows_whose_positive_is_nearest():
    z = np.eye(4, 8, dtype=np.float32)[:, None].repeat(2, axis=1)
    assert nt_xent(z, 0.1)[1].tolist() == [1, 1, 1, 1]
    swapped = np.stack([z[:, 0], np.roll(z[:, 1], 1, axis=0)], axis=1)
    assert nt_xent(swapped, 0.1)[1].tolist() == [0, 0, 0, 0]


def test_videos_of_weight_0_are_no_negatives():
    z, weight = vectors(6, 2, 8), np.float32([1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(nt_xent(z, 0.1, weight)[0][:4], nt_xent(z[:4], 0.1)[0], rtol=1e-6)


def test_cosine_distance_is_half_the_squared_one():
    a, b = vectors(9, 8), vectors(9, 8, seed=1)
    np.testing.assert_allclose(cosine_distance(a, b), 0.5 * np.sum((a - b) ** 2, axis=1), atol=1e-6)


def test_sinkhorn_spreads_a_batch_over_the_prototypes():
    """Rows sum to 1, and all prototypes have nearly as much: after three rounds for directions that are no clusters yet, in the end for any."""
    q = sinkhorn(similarity(vectors(2048, 128), vectors(100, 128, seed=1)), 0.05, 3)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-6)
    assert float(q.sum(axis=0).max() / q.sum(axis=0).min()) <= 1.01
    clustered = sinkhorn(np.clip(scores(256, 32, scale=0.3), -1, 1), 0.05, 20)
    assert float(clustered.sum(axis=0).max() / clustered.sum(axis=0).min()) <= 1.01


def test_sinkhorn_is_the_papers_on_probabilities():
    """The scaling of exp(score / epsilon) itself, as the authors write it down."""
    score = np.clip(np.asarray(scores(20, 6, scale=0.3), np.float64), -1, 1)
    q = np.exp(score / 0.05)
    for _ in range(3):
        q = q / q.sum(axis=0, keepdims=True) / 6
        q = q / q.sum(axis=1, keepdims=True) / 20
    np.testing.assert_allclose(sinkhorn(score.astype(np.float32), 0.05, 3), q * 20, atol=1e-5)


def test_sinkhorn_of_no_row_at_all_is_finite():
    """A held-out batch may have lost all its videos: its results count nothing, but nothing times NaN is NaN."""
    found = losses.sinkhorn(np.arange(6, dtype=np.float32).reshape(2, 3), 0.05, 3, np.zeros(2, np.float32))
    assert np.isfinite(found).all()


def test_sinkhorn_leaves_out_rows_of_weight_0():
    score = scores(12, 5, scale=0.3)
    weight = np.float32([1] * 8 + [0] * 4)
    np.testing.assert_allclose(sinkhorn(score, 0.05, 3, weight)[:8], sinkhorn(score[:8], 0.05, 3), atol=1e-5)


def test_no_gradient_passes_targets():
    score = scores(8, 5)
    for target in (lambda s: losses.sinkhorn(s, 0.05, 3), lambda s: losses.centered_softmax(s, zeros(5), 0.04)):
        assert (jax.jit(jax.grad(lambda s, t=target: (t(s) * score).sum()))(score) == 0).all()


def test_a_center_takes_away_what_all_scores_have_in_common():
    score, center = scores(8, 5), scores(5, seed=2)
    np.testing.assert_allclose(centered_softmax(score + center, center, 0.04), centered_softmax(score, zeros(5), 0.04), atol=1e-5)


def test_the_mean_counts_each_row_by_its_weight():
    x = np.float32([1, 2, 6])
    assert float(losses.mean(x)) == 3 and float(losses.mean(x, np.float32([1, 1, 0]))) == 1.5 and float(losses.mean(x, zeros(3))) == 0


@pytest.mark.parametrize("queue", [2048])
def test_a_random_network_costs_as_much_as_random_directions(queue):
    """Between log(K + 1) and 1 / (2 d T^2) + .3 above it (d numbers a vector, temperature T): not log(K + 1) itself."""
    z, keys, bank = vectors(512, 128), vectors(512, 128, seed=1), vectors(queue, 128, seed=2)
    loss = info_nce(np.sum(z * keys, axis=1) / 0.07, similarity(z, bank, 0.07))
    assert np.log(queue + 1) < float(loss.mean()) < np.log(queue + 1) + 1 / (2 * 128 * 0.07**2) + 0.3
