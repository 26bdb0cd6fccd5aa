"""What contrastive and clustering methods minimize.

The one idea: a loss is a pure function from scores to one number a row, float32 [N]; a method takes `mean` of the rows that count. Scores are
similarities already divided by their temperature. Letters: N rows, M the scores of a row, V views of a video, K prototypes.
"""

import jax
import jax.numpy as jnp

# Similarities of unit vectors are sums of small numbers: the accelerators' fast product of float32 (bfloat16 on a TPU) moves a logit by .1.
PRECISION = jax.lax.Precision.HIGHEST


def mean(loss_N: jax.Array, weight_N: jax.Array | None = None) -> jax.Array:
    """The mean over the rows, each counted by its weight; 0 where none counts."""
    if weight_N is None:
        return jnp.mean(loss_N)
    return jnp.sum(weight_N * loss_N) / jnp.maximum(jnp.sum(weight_N), 1.0)


def similarity(a_NxD: jax.Array, b_MxD: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Scores [N, M] of all pairs: dot products by temperature."""
    return jnp.matmul(a_NxD.astype(jnp.float32), b_MxD.astype(jnp.float32).T, precision=PRECISION) / temperature


def fixed_partition_nce(positive_N: jax.Array, noise_NxM: jax.Array, examples: int, partition: float) -> jax.Array:
    """Noise-contrastive estimation over `examples` instances with the softmax's denominator taken for a constant (Wu et al. 2018, section 3.2).

    P = exp(score) / partition, and the chance that a score is the data's and not one of M draws of uniform noise is P / (P + M / examples).
    """
    noise = jnp.log(noise_NxM.shape[1] / examples) + jnp.log(partition)
    return jax.nn.softplus(noise - positive_N) + jnp.sum(jax.nn.softplus(noise_NxM - noise), axis=1)


def info_nce(positive_N: jax.Array, negative_NxM: jax.Array, counted_NxM: jax.Array | None = None) -> jax.Array:
    """-log of the positive's share among itself and the negatives (van den Oord et al. 2018). `counted`: which negatives there are (None: all)."""
    negatives = negative_NxM if counted_NxM is None else jnp.where(counted_NxM, negative_NxM, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([positive_N[:, None], negatives], axis=1), axis=1) - positive_N


def mil_nce(score_NxM: jax.Array, positive_NxM: jax.Array) -> jax.Array:
    """-log of the positives' share of all scores (Miech et al. 2020): the log of a sum, so one good positive is enough. A row without a positive
    costs 0.
    """
    some_N = jnp.any(positive_NxM, axis=1)
    # Where there is no positive all are put in its place: a finite number, which then is not taken, keeps NaN out of the gradient.
    positives = jnp.where(positive_NxM | ~some_N[:, None], score_NxM, -jnp.inf)
    return jnp.where(some_N, jax.nn.logsumexp(score_NxM, axis=1) - jax.nn.logsumexp(positives, axis=1), 0.0)


def mean_nce(score_NxM: jax.Array, positive_NxM: jax.Array) -> jax.Array:
    """The mean over a row's positives of -log of the positive's share of all scores (UberNCE; Khosla et al. 2020, equation 2): every positive has to be near.
    A row without a positive is 0.
    """
    count_N = jnp.sum(positive_NxM, axis=1)
    return cross_entropy(positive_NxM / jnp.maximum(count_N, 1)[:, None], score_NxM)


def nt_xent(z_BxVxD: jax.Array, temperature: float, weight_B: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """SimCLR's loss (Chen et al. 2020, equation 1): of every view, each other view of its video against all views of all other videos.

    Unit vectors. Returns (the mean over ordered pairs of a video's views, [B]; the share of them whose positive scores highest, [B]).
    Videos of weight 0 are no negatives.
    """
    b, v, d = z_BxVxD.shape
    scores = similarity(z_BxVxD.reshape(b * v, d), z_BxVxD.reshape(b * v, d), temperature)
    other = ~jnp.repeat(jnp.repeat(jnp.eye(b, dtype=bool), v, axis=0), v, axis=1)
    if weight_B is not None:
        other &= jnp.repeat(weight_B > 0, v)[None, :]
    best = jnp.max(jnp.where(other, scores, -jnp.inf), axis=1).reshape(b, v)
    own = jnp.einsum("bvbw->bvw", scores.reshape(b, v, b, v))  # a video's views with each other
    total, right = 0.0, 0.0
    for step in range(1, v):
        positive = jnp.stack([own[:, i, (i + step) % v] for i in range(v)], axis=1)
        total += jnp.mean(info_nce(positive.reshape(-1), scores, other).reshape(b, v), axis=1)
        right += jnp.mean(positive > best, axis=1)
    return total / (v - 1), right / (v - 1)


def margin_ranking(positive_N: jax.Array, negative_N: jax.Array, margin: float) -> jax.Array:
    """How far the positive's score is from being `margin` above the negative's."""
    return jnp.maximum(margin - (positive_N - negative_N), 0.0)


def cosine_distance(a_NxD: jax.Array, b_NxD: jax.Array) -> jax.Array:
    """1 - cos of unit vectors: half their squared distance."""
    return 1.0 - jnp.sum(a_NxD.astype(jnp.float32) * b_NxD.astype(jnp.float32), axis=-1)


def cross_entropy(target_NxK: jax.Array, logits_NxK: jax.Array) -> jax.Array:
    """-sum of target x log softmax(logits): of Sinkhorn's assignments (SwAV), of a teacher's distribution (DINO)."""
    return -jnp.sum(target_NxK * jax.nn.log_softmax(logits_NxK.astype(jnp.float32)), axis=-1)


def sinkhorn(score_NxK: jax.Array, epsilon: float, iterations: int, weight_N: jax.Array | None = None) -> jax.Array:
    """Soft assignments [N, K] that use all prototypes alike (Caron et al. 2020, section 3.1): exp(score / epsilon), its columns and rows scaled in
    turn. Rows sum to 1, and the last scaling is theirs; rows of weight 0 take nothing from a prototype. No gradient passes.
    """
    log_NxK = jax.lax.stop_gradient(score_NxK.astype(jnp.float32)) / epsilon
    counted_Nx1 = jnp.ones((len(log_NxK), 1), bool) if weight_N is None else (weight_N > 0)[:, None]
    counted_Nx1 |= ~jnp.any(counted_Nx1)  # where no row counts, no result does
    log_NxK -= jnp.max(log_NxK)
    for _ in range(iterations):
        log_NxK -= jax.nn.logsumexp(jnp.where(counted_Nx1, log_NxK, -jnp.inf), axis=0, keepdims=True)
        log_NxK -= jax.nn.logsumexp(log_NxK, axis=1, keepdims=True)
    return jax.nn.softmax(log_NxK, axis=1)


def centered_softmax(logits_NxK: jax.Array, center_K: jax.Array, temperature: float) -> jax.Array:
    """DINO's teacher (Caron et al. 2021, section 3.1): softmax of the centered logits, sharpened by a low temperature. No gradient passes."""
    return jax.lax.stop_gradient(jax.nn.softmax((logits_NxK.astype(jnp.float32) - center_K) / temperature, axis=-1))
