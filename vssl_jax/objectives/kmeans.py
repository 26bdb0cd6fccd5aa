"""Spherical k-means (Dhillon and Modha 2001), and numbers that say what a clustering is worth.

The one idea: unit vectors are near where their product is high, and the center of a cluster is the mean of its vectors, made a unit vector.
A table of all rows against all centroids, [N, K], is never made: they are compared in blocks of centroids. Letters: N rows, K clusters, M of a block.
"""

import jax
import jax.numpy as jnp

from vssl_jax.models.projection import unit
from vssl_jax.objectives.losses import similarity
from vssl_jax.objectives.protocol import Metrics

UNKNOWN = -1  # the cluster of a row that is not known
BLOCK = 256


def nearest(rows_NxD: jax.Array, centroids_KxD: jax.Array, block: int = BLOCK) -> jax.Array:
    """int32 [N]: the centroid with the highest product, of equals the first."""
    count = len(centroids_KxD)
    block = min(block, count)
    blocks = jnp.pad(centroids_KxD, ((0, -count % block), (0, 0))).reshape(-1, block, centroids_KxD.shape[1])

    def better(best, given):
        score_N, place_N = best
        centroids_MxD, first = given
        score_NxM = jnp.where(first + jnp.arange(block) < count, similarity(rows_NxD, centroids_MxD), -jnp.inf)
        high_N = jnp.max(score_NxM, axis=1)
        found_N = first + jnp.argmax(score_NxM, axis=1).astype(jnp.int32)
        return (jnp.maximum(score_N, high_N), jnp.where(high_N > score_N, found_N, place_N)), None

    none = (jnp.full(len(rows_NxD), -jnp.inf), jnp.zeros(len(rows_NxD), jnp.int32))
    (_, place_N), _ = jax.lax.scan(better, none, (blocks, jnp.arange(len(blocks), dtype=jnp.int32) * block))
    return place_N


def move(rows_NxD: jax.Array, known_N: jax.Array, assignment_N: jax.Array, centroids_KxD: jax.Array) -> jax.Array:
    """The centroids of the known rows' clusters; an empty cluster keeps its own."""
    count = len(centroids_KxD)
    cluster_N = jnp.where(known_N, assignment_N, count)  # beyond the last: dropped
    sums_KxD = jax.ops.segment_sum(rows_NxD, cluster_N, count)
    sizes_K = jax.ops.segment_sum(jnp.ones(len(rows_NxD)), cluster_N, count)
    return jnp.where(sizes_K[:, None] > 0, unit(sums_KxD), centroids_KxD)


def cluster(
    rng: jax.Array, rows_NxD: jax.Array, known_N: jax.Array, clusters: int, iterations: int, block: int = BLOCK
) -> tuple[jax.Array, jax.Array]:
    """(centroids [K, D], the cluster of each row int32 [N], UNKNOWN where it is not known) after so many iterations from known rows drawn at random,
    different ones as far as there are.
    """
    order_N = jnp.argsort(jnp.where(known_N, jax.random.uniform(rng, known_N.shape), 2.0))  # the known ones first
    drawn_K = order_N[jnp.arange(clusters) % jnp.maximum(jnp.sum(known_N), 1)]

    def iterate(centroids_KxD, _):
        return move(rows_NxD, known_N, nearest(rows_NxD, centroids_KxD, block), centroids_KxD), None

    centroids_KxD, _ = jax.lax.scan(iterate, rows_NxD[drawn_K], length=iterations)
    return centroids_KxD, jnp.where(known_N, nearest(rows_NxD, centroids_KxD, block), UNKNOWN)


def renew(
    rng: jax.Array, rows_NxD: jax.Array, known_N: jax.Array, before_N: jax.Array, clusters: int, iterations: int
) -> tuple[jax.Array, jax.Array, Metrics]:
    """`cluster`, and how the new clusters compare with those of `before`: "clusters/agreement" and "clusters/usage"."""
    centroids_KxD, after_N = cluster(rng, rows_NxD, known_N, clusters, iterations)
    return centroids_KxD, after_N, {"clusters/agreement": agreement(before_N, after_N), "clusters/usage": usage(after_N, clusters)}


def entropy(known_N: jax.Array, *labels_N: jax.Array) -> jax.Array:
    """Of how the known rows are spread over the labels, or over the pairs of two labels, in nats. By sorting: there may be too many pairs for a table."""
    hidden_N, *sorted_N = jax.lax.sort(((~known_N).astype(jnp.int32), *labels_N), num_keys=1 + len(labels_N))
    differs_N = sum((x != jnp.roll(x, 1)).astype(jnp.int32) for x in (hidden_N, *sorted_N)) > 0
    run_N = jnp.cumsum(differs_N.at[0].set(True)) - 1
    share_N = jax.ops.segment_sum(1.0 - hidden_N, run_N, len(known_N)) / jnp.maximum(jnp.sum(known_N), 1)
    return -jnp.sum(share_N * jnp.log(jnp.maximum(share_N, 1e-12)))


def agreement(before_N: jax.Array, after_N: jax.Array) -> jax.Array:
    """Normalized mutual information of two clusterings, of the rows known to both: 1 where they group alike, whatever the clusters' numbers; 0 where one
    says nothing of the other (Caron et al. 2018, https://arxiv.org/abs/1807.05520, section 4.1).
    """
    both_N = (before_N >= 0) & (after_N >= 0)
    one, other, together = (entropy(both_N, *labels) for labels in ((before_N,), (after_N,), (before_N, after_N)))
    return (one + other - together) / jnp.maximum(jnp.sqrt(one * other), 1e-6)


def usage(assignment_N: jax.Array, clusters: int) -> jax.Array:
    """Entropy of the clusters' sizes by that of equal ones, 0 to 1."""
    return entropy(assignment_N >= 0, assignment_N) / jnp.log(clusters)
