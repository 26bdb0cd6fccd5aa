"""TCLR (Dave, Gupta, Rizve, Shah 2022, https://arxiv.org/abs/2101.07974): other times of the same video are negatives too, so that features change
along a video.

Of one stretch of a video there are a sparse clip, which spans it, and dense ones, which cover one part of it each; each of them augmented twice.

    instance      two versions of a clip, and dense clips of one video, are alike; clips of other videos are not
    local-local   two versions of a dense clip are alike; dense clips of other parts of the video are not
    global-local  the features of the sparse clip at a part's time are like that part's dense clip, and unlike the other parts'

Letters as in joint.py, and P parts, S slots: a clip as a whole and its parts, C channels of a feature.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, UserError, above, check_limits
from vssl_jax.models import projection
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.encoder import HEAD
from vssl_jax.objectives.joint import HEAD_STATS, JointEmbedding, shared_fields
from vssl_jax.objectives.protocol import ACCURACY, LOSS

SPARSE, DENSE, LOCAL, GLOBAL = "instance/sparse", "instance/dense", "local_local", "global_local"
TERMS = (SPARSE, DENSE, LOCAL, GLOBAL)


@dataclass(frozen=True)
class TCLR(JointEmbedding):
    """Views: the sparse clip twice, then each of the `parts` dense ones twice, in the order of time. `weights`: of the four TERMS, each of which is the
    mean over its pairs and over the videos. The authors' code adds pairs up, and sums local-local over the batch: for a batch of 40 and 4 parts that is
    (1, 14, 40, 16).
    """

    version = 2  # 1: the global-local term was of two of the four pairs of versions, and the head normalized what is compared with nothing
    parts: int = 4
    temperature: float = 0.1
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self):
        super().__post_init__()
        if len(self.views) != 2 * (1 + self.parts) or self.parts < 2:
            raise UserError(f"TCLR of {self.parts} parts has two sparse views and two of each part, objective.views has {len(self.views)}")
        four = Limit(f"{len(TERMS)} numbers, of {', '.join(TERMS)}", lambda value: len(value) == len(TERMS))
        check_limits("objective", temperature=(self.temperature, above(0)), weights=(self.weights, four))

    def project(self, net, features, running, train):
        """Features [N, 1 + parts, C]: of the whole clip, and at each part's time. The head is for `times`."""
        time = features.map_BxTxHxWxD.shape[1]
        if time % self.parts:
            raise UserError(
                f"TCLR of {self.parts} parts needs features of as many times, or twice as many, ...: this network gives {time} for a clip"
            )
        frames_NxTxD = jnp.mean(features.map_BxTxHxWxD, axis=(2, 3), dtype=jnp.float32)
        slots_NxPxD = jnp.mean(frames_NxTxD.reshape(len(frames_NxTxD), self.parts, -1, frames_NxTxD.shape[-1]), axis=2)
        both = jnp.concatenate([features.pooled_BxD[:, None], slots_NxPxD], axis=1)
        return both, {HEAD_STATS: running[HEAD_STATS]}

    def times(self, params, memory, batch, rng, train):
        """(vectors of the two sparse clips, each as a whole and at each part's time, [B, 2, 1 + parts, D]; of the dense clips, [B, parts, 2, D]; the new
        statistics). Dense clips' parts are no vectors: nothing is compared with them, and they would be most of what a batch's statistics are of.
        """
        seen_BxVxSxC, running = self.look(params, memory, batch, rng, train)
        videos, _, slots, width = seen_BxVxSxC.shape
        sparse, dense = seen_BxVxSxC[:, :2].reshape(videos, -1, width), seen_BxVxSxC[:, 2:, 0]
        rows = jnp.concatenate([sparse, dense], axis=1)
        z, stats = projection.apply(self.head, params[HEAD], memory[HEAD_STATS], rows.reshape(-1, width), train)
        z = z.reshape(*rows.shape[:2], -1)
        of_sparse, of_dense = z[:, : 2 * slots].reshape(videos, 2, slots, -1), z[:, 2 * slots :].reshape(videos, self.parts, 2, -1)
        return of_sparse, of_dense, running | {HEAD_STATS: stats}

    def compare(self, params, memory, batch, rng, train):
        sparse_Bx2xSxD, dense_BxPx2xD, running = self.times(params, memory, batch, rng, train)
        weight = batch[batch_lib.WEIGHT]
        mean = lambda x_B: losses.mean(x_B, weight)  # noqa: E731
        sparse_Bx2xD, slots_Bx2xPxD = sparse_Bx2xSxD[:, :, 0], sparse_Bx2xSxD[:, :, 1:]
        terms, right = {}, {}

        loss_B, right_B = losses.nt_xent(sparse_Bx2xD, self.temperature, weight)
        terms[SPARSE], right[SPARSE] = mean(loss_B), mean(right_B)

        views = dense_BxPx2xD.reshape(len(weight), 2 * self.parts, -1)
        pairs = [(a, b) for a in range(2 * self.parts) for b in range(a)]
        each = [losses.nt_xent(views[:, pair], self.temperature, weight) for pair in map(jnp.array, pairs)]
        terms[DENSE], right[DENSE] = (mean(sum(x) / len(pairs)) for x in zip(*each, strict=True))

        loss_BxP, right_BxP = jax.vmap(lambda z_Px2xD: losses.nt_xent(z_Px2xD, self.temperature))(dense_BxPx2xD)
        terms[LOCAL], right[LOCAL] = mean(jnp.mean(loss_BxP, axis=1)), mean(jnp.mean(right_BxP, axis=1))

        # Each version of the sparse clip with each of the dense ones.
        score_Bx2x2xPxP = jnp.einsum("bvpd,bqwd->bvwpq", slots_Bx2xPxD, dense_BxPx2xD, precision=losses.PRECISION) / self.temperature
        same = jnp.eye(self.parts)
        both = [losses.cross_entropy(same, score) for score in (score_Bx2x2xPxP, jnp.swapaxes(score_Bx2x2xPxP, 3, 4))]
        terms[GLOBAL] = mean(jnp.mean((both[0] + both[1]) / 2, axis=(1, 2, 3)))
        right[GLOBAL] = mean(jnp.mean(jnp.argmax(score_Bx2x2xPxP, axis=4) == jnp.arange(self.parts), axis=(1, 2, 3)))

        metrics = {f"{term}/{LOSS}": value for term, value in terms.items()} | {
            f"{term}/{ACCURACY}": value for term, value in right.items()
        }
        loss = sum(w * terms[term] for w, term in zip(self.weights, TERMS, strict=True))
        return loss, metrics | collapse.monitor(sparse_Bx2xD[:, 0], weight), memory | running


def from_config(config: Any) -> TCLR:
    """`objective.parts`, `temperature`, `weights`, and what every joint embedding has (objectives/joint.py)."""
    c = config["objective"]
    return TCLR(parts=c["parts"], temperature=c["temperature"], weights=tuple(c["weights"]), **shared_fields(config))
