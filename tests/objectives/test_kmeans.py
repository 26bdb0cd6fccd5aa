"""Clusters of unit vectors: exact on constructed groups, one iteration by hand, the same on eight devices; and what is measured of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.projection import unit
from vssl_jax.objectives import kmeans
from vssl_jax.train import sharding

KEY = jax.random.key(0)


def random(*shape, seed=0):
    return unit(jax.random.normal(jax.random.key(seed), shape))


def groups(count=4, each=16, width=8, noise=0.05):
    """(rows of `count` groups around different axes, their groups), in random order."""
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(count), each))
    return unit(jnp.eye(width)[label] + noise * jax.random.normal(KEY, (count * each, width))), label


@functools.partial(jax.jit, static_argnums=(3, 4))
def cluster(key, rows, known, clusters, iterations):
    return kmeans.cluster(key, rows, known, clusters, iterations, block=4)


NEAREST, AGREEMENT = jax.jit(kmeans.nearest, static_argnums=2), jax.jit(kmeans.agreement)
USAGE = jax.jit(kmeans.usage, static_argnums=1)


@pytest.mark.parametrize("block", [4, 64])
def test_blocks_find_what_the_whole_table_does_and_of_equals_the_first(block):
    rows, centroids = random(50, 8), np.array(random(10, 8, seed=1))
    centroids[7] = centroids[2]
    found = NEAREST(rows, centroids, block)
    np.testing.assert_array_equal(found, np.argmax(np.asarray(rows) @ centroids.T, axis=1))
    assert (found == 2).any() and not (found == 7).any()


def test_the_whole_table_is_never_made():
    made = str(jax.make_jaxpr(lambda r, k: kmeans.cluster(KEY, r, k, 60, 2, block=20))(random(300, 8), jnp.ones(300, bool)))
    assert "f32[300,20]" in made and "f32[300,60]" not in made


def test_one_iteration_by_hand():
    """Rows that are not known move nothing, and a cluster that no row is in stays."""
    rows, known = random(40, 6), np.arange(40) % 5 != 0
    centroids = np.array(random(7, 6, seed=1))
    centroids[5] = centroids[2]  # never the first of the two
    assigned = NEAREST(rows, centroids, 4)
    after = jax.jit(kmeans.move)(rows, jnp.asarray(known), assigned, centroids)
    for k in range(7):
        mine = [np.asarray(row) for row, a, seen in zip(rows, assigned, known, strict=True) if a == k and seen]
        expected = np.asarray(centroids[k])
        if mine:
            expected = np.sum(mine, axis=0) / np.linalg.norm(np.sum(mine, axis=0))
        np.testing.assert_allclose(after[k], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after[5], centroids[5])


def test_groups_that_are_far_apart_are_never_mixed_and_are_found():
    rows, label = groups()
    all_known = np.ones(len(rows), bool)
    for seed in range(5):
        _, many = cluster(jax.random.key(seed), rows, all_known, 16, 10)
        assert all(len(set(label[np.asarray(many) == k])) == 1 for k in set(np.asarray(many).tolist()))
    found = [AGREEMENT(label, cluster(jax.random.key(seed), rows, all_known, 4, 10)[1]) for seed in range(20)]
    assert max(map(float, found)) == pytest.approx(1, abs=1e-5)  # of a start in each group; others share one


def test_it_starts_from_different_known_rows():
    rows, known = random(32, 8), np.arange(32) % 2 == 0
    started = [np.asarray(cluster(jax.random.key(seed), rows, known, 16, 0)[0]) for seed in range(2)]
    for centroids in started:
        which = np.argmax(centroids @ np.asarray(rows).T, axis=1)
        assert sorted(which) == list(range(0, 32, 2))
    assert not np.array_equal(*started)


def test_unknown_rows_are_in_no_cluster_and_change_none():
    rows, known = np.array(random(64, 8)), np.arange(64) < 40
    centroids, assigned = cluster(KEY, rows, known, 16, 10)
    rows[40:] = random(24, 8, seed=9)
    same, again = cluster(KEY, rows, known, 16, 10)
    np.testing.assert_array_equal(centroids, same)
    np.testing.assert_array_equal(assigned, again)
    assert (assigned[40:] == -1).all() and (assigned[:40] >= 0).all()


@pytest.mark.parametrize("known", [0, 3])
def test_fewer_known_rows_than_clusters_are_clusters_of_their_own(known):
    centroids, assigned = map(np.asarray, cluster(KEY, random(64, 8), np.arange(64) < known, 16, 10))
    assert np.isfinite(centroids).all() and len(set(assigned[:known].tolist())) == known and (assigned[known:] == -1).all()


def test_eight_devices_are_one():
    rows, known = random(512, 16), np.arange(512) < 500
    mesh = sharding.make_mesh({"data": 1, "fsdp": 8})
    by_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    with jax.set_mesh(mesh):
        eight = cluster(KEY, jax.device_put(rows, by_rows), jax.device_put(known, by_rows), 10, 6)
    one = cluster(KEY, rows, known, 10, 6)
    np.testing.assert_allclose(eight[0], one[0], atol=1e-5)
    np.testing.assert_array_equal(eight[1], one[1])


def test_entropies_are_those_of_the_table_of_pairs():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 5, 64)
    after = np.where(rng.random(64) < 0.6, (before * 2) % 7, rng.integers(0, 7, 64))
    before[50:] = -1  # not known
    table = np.zeros((5, 7))
    np.add.at(table, (before[:50], after[:50]), 1 / 50)
    plain = lambda p: -np.sum(p[p > 0] * np.log(p[p > 0]))  # noqa: E731
    one, other, both = plain(table.sum(1)), plain(table.sum(0)), plain(table)
    assert float(AGREEMENT(before, after)) == pytest.approx((one + other - both) / np.sqrt(one * other), rel=1e-4)
    assert float(USAGE(before, 5)) == pytest.approx(one / np.log(5), rel=1e-4)


def test_agreement_asks_for_groups_not_numbers():
    labels = np.arange(64) % 8
    assert float(AGREEMENT(labels, 7 - labels)) == pytest.approx(1, abs=1e-5)
    assert float(AGREEMENT(labels, np.arange(64) // 32)) == pytest.approx(0, abs=1e-5)
    assert float(AGREEMENT(labels, np.full(64, -1))) == 0
    assert float(USAGE(labels, 8)) == pytest.approx(1, abs=1e-5) and float(USAGE(np.zeros(64, int), 8)) == 0
