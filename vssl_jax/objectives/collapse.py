"""Is the network giving all videos the same vector? Numbers that say so while a run trains; a method logs them in every step.

    collapse/std      the deviation of a unit vector's numbers over the batch, times the root of their count: about 1 for directions drawn at
                      random, 0 where all are one
    collapse/rank     how many directions are in use: (sum of s)^2 / sum of s^2 over the eigenvalues s of their covariance (the order-2 effective
                      rank, or participation ratio; RankMe's, of order 1, is never less, but needs the eigenvalues)
    collapse/cosine   the mean cosine between two different videos
    collapse/usage    entropy of how often each prototype is taken, by the largest possible: of all alike, or, where there are fewer videos than prototypes,
                      of one each; 0 to 1
    collapse/alarm    1 where std < .3, rank less than 1/20 of the way from 1 to what is possible, cosine > .9, or usage < .5

A random network raises the alarm as well, and leaves it within its first steps: the loop warns where it stays (train/alarms.py).

Letters, where they are not as in batch.py: N vectors, K prototypes.
"""

import jax
import jax.numpy as jnp

from vssl_jax.objectives.losses import PRECISION

ALARM = "collapse/alarm"
LEAST_STD, LEAST_RANK, MOST_COSINE, LEAST_USAGE = 0.3, 1 / 20, 0.9, 0.5


def monitor(unit_NxD: jax.Array, weight_N: jax.Array | None = None, taken_NxK: jax.Array | None = None) -> dict[str, jax.Array]:
    """The numbers above of unit vectors, and where there are prototypes of how much each row takes each of them."""
    z = jax.lax.stop_gradient(unit_NxD.astype(jnp.float32))
    weight = jnp.ones(len(z)) if weight_N is None else weight_N
    count, width = jnp.maximum(jnp.sum(weight), 1.0), z.shape[1]
    middle = weight @ z / count
    away = (z - middle) * jnp.sqrt(weight)[:, None]
    std = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(away), axis=0) / count)) * jnp.sqrt(width)
    # The smaller of covariance and Gram matrix: their eigenvalues are the same.
    square = jnp.matmul(away.T, away, precision=PRECISION) if len(z) >= width else jnp.matmul(away, away.T, precision=PRECISION)
    rank = jnp.square(jnp.trace(square)) / jnp.maximum(jnp.sum(jnp.square(square)), 1e-12)
    cosine = (jnp.square(count) * jnp.sum(jnp.square(middle)) - weight @ jnp.sum(jnp.square(z), axis=1)) / jnp.maximum(
        count * (count - 1), 1.0
    )
    possible = jnp.minimum(count - 1, width)
    alarm = (std < LEAST_STD) | (rank < 1 + LEAST_RANK * (possible - 1)) | (cosine > MOST_COSINE)
    made = {"collapse/std": std, "collapse/rank": rank, "collapse/cosine": cosine}
    if taken_NxK is not None:
        share_K = weight @ jax.lax.stop_gradient(taken_NxK) / count
        most = jnp.log(jnp.maximum(jnp.minimum(count, len(share_K)), 2))  # soft shares may be more even than one for each video
        made["collapse/usage"] = jnp.minimum(-jnp.sum(share_K * jnp.log(jnp.maximum(share_K, 1e-12))) / most, 1.0)
        alarm |= made["collapse/usage"] < LEAST_USAGE
    return made | {ALARM: alarm.astype(jnp.float32)}
