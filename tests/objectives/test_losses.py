"""Exact values on zero scores, identities between the losses, Sinkhorn's marginals, and what no gradient passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.projection import unit
from vssl_jax.objectives import losses


def scores(*shape, seed=0, scale=3.0):
    return jax.random.normal(jax.random.key(seed), shape) * scale


def vectors(*shape, seed=0):
    return unit(jax.random.normal(jax.random.key(seed), shape))


@pytest.mark.parametrize(("negatives", "expected"), [(2048, 7.6251), (16_384, 9.7041), (65_536, 11.0904)])
def test_info_nce_of_zero_scores(negatives, expected):
    assert float(losses.info_nce(jnp.zeros(1), jnp.zeros((1, negatives)))[0]) == pytest.approx(expected, abs=5e-5)


def test_nt_xent_of_zero_vectors_is_the_logarithm_of_all_others():
    loss_B, _ = losses.nt_xent(jnp.zeros((1024, 2, 4)), 0.1)
    assert 2 * float(loss_B[0]) == pytest.approx(15.2483, abs=5e-5)  # CVRL adds both directions


@pytest.mark.parametrize(("kept", "expected"), [(6, 5.8333), (5, 6.0157)])
def test_five_mined_positives_of_a_queue_of_2048(kept, expected):
    """With and without the query's own key among them."""
    positive = jnp.arange(2049)[None] < kept
    assert float(losses.mil_nce(jnp.zeros((1, 2049)), positive)[0]) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("prototypes", "expected"), [(1000, 6.9078), (65_536, 11.0904)])
def test_cross_entropy_of_zero_logits_is_that_of_a_uniform_guess(prototypes, expected):
    target = jax.nn.softmax(scores(1, prototypes))
    assert float(losses.cross_entropy(target, jnp.zeros((1, prototypes)))[0]) == pytest.approx(expected, abs=5e-4)


def test_pairs_and_discriminators_of_zero_scores():
    assert float(losses.pair_cross_entropy(jnp.zeros(1), jnp.ones(1))[0]) == pytest.approx(0.6931, abs=5e-5)
    assert float(losses.discriminator(jnp.zeros(1), jnp.zeros((1, 7)))[0]) == pytest.approx(2 * np.log(2))
    assert float(losses.margin_ranking(jnp.zeros(1), jnp.zeros(1), 2.0)[0]) == 2.0
    assert losses.margin_ranking(jnp.array([3.0, 1.5]), jnp.zeros(2), 2.0).tolist() == [0.0, 0.5]


def test_pairs_are_the_binary_cross_entropy_of_the_sigmoid():
    score, same = scores(50), (jnp.arange(50) % 2).astype(jnp.float32)
    p = jax.nn.sigmoid(score)
    expected = -same * jnp.log(p) - (1 - same) * jnp.log(jax.nn.sigmoid(-score))
    np.testing.assert_allclose(losses.pair_cross_entropy(score, same), expected, rtol=1e-5, atol=1e-6)


def test_the_discriminator_is_two_cross_entropies():
    positive, negative = scores(6), scores(6, 5, seed=1)
    expected = -jnp.log(jax.nn.sigmoid(positive)) - jnp.mean(jnp.log(1 - jax.nn.sigmoid(negative)), axis=1)
    np.testing.assert_allclose(losses.discriminator(positive, negative), expected, rtol=1e-5)


def test_the_fixed_partition_is_nces_of_the_two_chances():
    """P of the data over P of the data and M draws of noise, of probability 1/n each."""
    positive, noise, n, z = scores(6, scale=1.0), scores(6, 9, seed=1, scale=1.0), 50, 30.0
    data = lambda s: np.exp(s) / z  # noqa: E731
    chance = lambda s: data(s) / (data(s) + 9 / n)  # noqa: E731
    expected = -np.log(chance(positive)) - np.log(1 - chance(noise)).sum(axis=1)
    np.testing.assert_allclose(losses.fixed_partition_nce(positive, noise, n, z), expected, rtol=1e-5)


def test_one_positive_makes_mil_nce_info_nce_and_only_positives_make_it_0():
    score = scores(8, 12)
    first = jnp.broadcast_to(jnp.arange(12) == 0, (8, 12))
    np.testing.assert_allclose(losses.mil_nce(score, first), losses.info_nce(score[:, 0], score[:, 1:]), rtol=1e-6)
    np.testing.assert_allclose(losses.mil_nce(score, jnp.ones((8, 12), bool)), 0, atol=1e-6)


def test_a_row_without_a_positive_costs_nothing_and_has_no_gradient():
    positive = jnp.array([[True, False, False], [False, False, False]])
    value, gradient = jax.value_and_grad(lambda s: losses.mil_nce(s, positive).sum())(scores(2, 3))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (gradient[1] == 0).all() and (gradient[0] != 0).all()


def test_the_order_of_negatives_means_nothing():
    positive, negative = scores(5), scores(5, 40, seed=1)
    np.testing.assert_allclose(losses.info_nce(positive, negative), losses.info_nce(positive, negative[:, ::-1]), rtol=1e-6)


def test_negatives_that_do_not_count_are_as_if_they_were_not_there():
    positive, negative = scores(5), scores(5, 8, seed=1)
    counted = jnp.arange(8) < 3
    some = losses.info_nce(positive, negative, jnp.broadcast_to(counted, negative.shape))
    np.testing.assert_allclose(some, losses.info_nce(positive, negative[:, :3]), rtol=1e-6)


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
    loss_B, _ = losses.nt_xent(jnp.asarray(z, jnp.float32), t)
    np.testing.assert_allclose(loss_B, expected, rtol=1e-5)


def test_nt_xent_is_the_same_for_the_views_in_another_order():
    z = vectors(6, 3, 8)
    np.testing.assert_allclose(losses.nt_xent(z, 0.1)[0], losses.nt_xent(z[:, ::-1], 0.1)[0], rtol=1e-5)


def test_nt_xent_knows_whose_positive_is_nearest():
    z = jnp.eye(4)[:, None].repeat(2, axis=1)
    assert losses.nt_xent(z, 0.1)[1].tolist() == [1, 1, 1, 1]
    swapped = z.at[:, 1].set(jnp.roll(z[:, 1], 1, axis=0))
    assert losses.nt_xent(swapped, 0.1)[1].tolist() == [0, 0, 0, 0]


def test_videos_of_weight_0_are_no_negatives():
    z, weight = vectors(6, 2, 8), jnp.array([1.0, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(losses.nt_xent(z, 0.1, weight)[0][:4], losses.nt_xent(z[:4], 0.1)[0], rtol=1e-6)


def test_cosine_distance_is_half_the_squared_one():
    a, b = vectors(9, 8), vectors(9, 8, seed=1)
    np.testing.assert_allclose(losses.cosine_distance(a, b), 0.5 * jnp.sum((a - b) ** 2, axis=1), atol=1e-6)


def test_sinkhorn_spreads_a_batch_over_the_prototypes():
    """Rows sum to 1, and all prototypes have nearly as much: after three rounds for directions that are no clusters yet, in the end for any."""
    q = losses.sinkhorn(losses.similarity(vectors(2048, 128), vectors(100, 128, seed=1)), 0.05, 3)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-6)
    assert float(q.sum(axis=0).max() / q.sum(axis=0).min()) <= 1.01
    clustered = losses.sinkhorn(jnp.clip(scores(256, 32, scale=0.3), -1, 1), 0.05, 200)
    assert float(clustered.sum(axis=0).max() / clustered.sum(axis=0).min()) <= 1.01


def test_sinkhorn_is_the_papers_on_probabilities():
    """The scaling of exp(score / epsilon) itself, as the authors write it down."""
    score = np.clip(np.asarray(scores(20, 6, scale=0.3), np.float64), -1, 1)
    q = np.exp(score / 0.05)
    for _ in range(3):
        q = q / q.sum(axis=0, keepdims=True) / 6
        q = q / q.sum(axis=1, keepdims=True) / 20
    np.testing.assert_allclose(losses.sinkhorn(jnp.asarray(score, jnp.float32), 0.05, 3), q * 20, atol=1e-5)


def test_sinkhorn_leaves_out_rows_of_weight_0():
    score = scores(12, 5, scale=0.3)
    weight = jnp.array([1.0] * 8 + [0.0] * 4)
    np.testing.assert_allclose(losses.sinkhorn(score, 0.05, 3, weight)[:8], losses.sinkhorn(score[:8], 0.05, 3), atol=1e-5)


def test_no_gradient_passes_targets():
    score = scores(8, 5)
    for target in (lambda s: losses.sinkhorn(s, 0.05, 3), lambda s: losses.centered_softmax(s, jnp.zeros(5), 0.04)):
        assert (jax.grad(lambda s, t=target: (t(s) * score).sum())(score) == 0).all()


def test_a_center_takes_away_what_all_scores_have_in_common():
    score, center = scores(8, 5), scores(5, seed=2)
    np.testing.assert_allclose(
        losses.centered_softmax(score + center, center, 0.04), losses.centered_softmax(score, jnp.zeros(5), 0.04), atol=1e-5
    )


def test_the_mean_counts_each_row_by_its_weight():
    x = jnp.array([1.0, 2.0, 6.0])
    assert float(losses.mean(x)) == 3 and float(losses.mean(x, jnp.array([1.0, 1, 0]))) == 1.5 and float(losses.mean(x, jnp.zeros(3))) == 0


@pytest.mark.parametrize("queue", [2048])
def test_a_random_network_costs_as_much_as_random_directions(queue):
    """Between log(K + 1) and 1 / (2 d T^2) + .3 above it (d numbers a vector, temperature T): not log(K + 1) itself."""
    z, keys, bank = vectors(512, 128), vectors(512, 128, seed=1), vectors(queue, 128, seed=2)
    loss = losses.info_nce(jnp.sum(z * keys, axis=1) / 0.07, losses.similarity(z, bank, 0.07))
    assert np.log(queue + 1) < float(loss.mean()) < np.log(queue + 1) + 1 / (2 * 128 * 0.07**2) + 0.3
