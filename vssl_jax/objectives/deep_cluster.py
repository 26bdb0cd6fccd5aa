"""DeepCluster-v2 (Caron et al. 2020, https://arxiv.org/abs/2006.09882, appendix; DeepCluster: Caron et al. 2018, https://arxiv.org/abs/1807.05520):
every so often all videos are clustered by what the network makes of them, and until the next time each view says which cluster its video is in.

    Step 1) scores of every view with the centroids, which stand still
    Step 2) cross-entropy against the cluster that the video was put in, the mean over views and heads
    Step 3) the views that are clustered go into the bank, as they are: no pass over the data is made for that
    Refresh) spherical k-means of the bank, for each head by itself

Nothing is learned before the first clustering: the steps until then fill the bank.

Letters as in joint.py, and N places of the bank, A views that are clustered, H heads, K clusters.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import above, at_least, between, check_limits
from vssl_jax.models.projection import unit
from vssl_jax.objectives import bank as bank_lib
from vssl_jax.objectives import collapse, kmeans, losses
from vssl_jax.objectives.joint import JointEmbedding, shared_fields
from vssl_jax.objectives.protocol import ACCURACY, COUNT, Memory

CENTROIDS, ASSIGNMENT = "centroids", "assignment"


@dataclass(frozen=True)
class DeepCluster(JointEmbedding):
    """Parts: "encoder", "head". Memory besides its statistics: the bank's (objectives/bank.py), of the first `assigned` views, [A, N, D]; "centroids"
    float32 [H, K, D] (random ones until there are clusters) and "assignment" int32 [H, N], -1 for a video that was not known.

    `heads` clusterings of `prototypes` clusters each, head h of view h modulo `assigned`, by `iterations` of k-means.
    """

    videos: int = 1
    prototypes: int = 3000
    heads: int = 3
    temperature: float = 0.1
    iterations: int = 10
    assigned: int = 2
    refresh_every: int = 1

    def __post_init__(self):
        super().__post_init__()
        check_limits(
            "objective",
            prototypes=(self.prototypes, at_least(2)),
            temperature=(self.temperature, above(0)),
            assigned=(self.assigned, between(1, len(self.views))),
            **{name: (getattr(self, name), at_least(1)) for name in ("videos", "heads", "iterations", "refresh_every")},
        )

    def init(self, rng, batch):
        base_rng, bank_rng, own_rng = jax.random.split(rng, 3)
        params, memory = super().init(base_rng, batch)
        memory |= bank_lib.start(bank_rng, self.videos, self.head.dim, (self.assigned,))
        memory[CENTROIDS] = unit(jax.random.normal(own_rng, (self.heads, self.prototypes, self.head.dim)))
        memory[ASSIGNMENT] = jnp.full((self.heads, *memory[bank_lib.KNOWN].shape), kmeans.UNKNOWN, jnp.int32)
        return params, memory

    def places(self):
        return self.videos

    def check_run(self, videos, steps, sampler):
        bank_lib.check_run(self.videos, self.prototypes, "objective.prototypes", videos)

    def scores(self, z_BxVxD: jax.Array, memory: Memory) -> jax.Array:
        """Step 1: [B, V, H, K]."""
        centroids_HxKxD = jax.lax.stop_gradient(memory[CENTROIDS])
        return jnp.einsum("bvd,hkd->bvhk", z_BxVxD, centroids_HxKxD, precision=losses.PRECISION) / self.temperature

    def compare(self, params, memory, batch, rng, train):
        """In training against the video's clusters. A held-out video has none: each of its views says which prototypes the one before it is nearest to."""
        z_BxVxD, running = self.look(params, memory, batch, rng, train)
        score_BxVxHxK, weight = self.scores(z_BxVxD, memory), batch[batch_lib.WEIGHT]
        best_BxVxH = jnp.argmax(score_BxVxHxK, axis=-1)
        if train:
            own_BxH = memory[ASSIGNMENT][:, batch[batch_lib.INDEX]].T
            target_BxVxH = jnp.broadcast_to(own_BxH[:, None], best_BxVxH.shape)
        else:
            target_BxVxH = jnp.roll(best_BxVxH, 1, axis=1)
        # Step 2. One-hot of -1 is 0 everywhere.
        cost_BxVxH = losses.cross_entropy(jax.nn.one_hot(target_BxVxH, self.prototypes), score_BxVxHxK)
        counts_B = weight * (target_BxVxH[:, 0, 0] >= 0)
        right_B = jnp.mean(best_BxVxH == target_BxVxH, axis=(1, 2))
        metrics = {ACCURACY: losses.mean(right_B, counts_B)}
        metrics |= collapse.monitor(z_BxVxD[:, 0], weight, jax.nn.one_hot(best_BxVxH[:, 0, 0], self.prototypes))
        metrics[collapse.ALARM] *= self._clustered(memory)  # a random network raises it, and stays one until then
        if train:  # step 3
            metrics[COUNT] = jnp.sum(counts_B)
            rows_AxBxD = jnp.swapaxes(z_BxVxD[:, : self.assigned], 0, 1)
            memory = memory | bank_lib.write(memory, batch[batch_lib.INDEX], rows_AxBxD, weight)
        return losses.mean(jnp.mean(cost_BxVxH, axis=(1, 2)), counts_B), metrics, memory | running

    def _clustered(self, memory: Memory) -> jax.Array:
        return jnp.any(memory[ASSIGNMENT] >= 0)

    def moves(self, memory, turn):
        return self._clustered(memory)

    def refresh(self, params, memory, rng):
        rows_AxNxD, known_N = memory[bank_lib.BANK], memory[bank_lib.KNOWN]

        def one(given):
            key, view, before_N = given
            return kmeans.renew(key, rows_AxNxD[view], known_N, before_N, self.prototypes, self.iterations)

        views_H = jnp.arange(self.heads) % self.assigned
        centroids, assignment, metrics_H = jax.lax.map(one, (jax.random.split(rng, self.heads), views_H, memory[ASSIGNMENT]))
        return memory | {CENTROIDS: centroids, ASSIGNMENT: assignment}, jax.tree.map(jnp.mean, metrics_H)


def from_config(config: Any) -> DeepCluster:
    """`objective.videos` (places for them: at least as many as the data have), `prototypes` (their number), `heads`, `temperature`, `iterations`,
    `assigned`, `refresh_every` (steps), and what every joint embedding has (objectives/joint.py).
    """
    c = config["objective"]
    own = {name: c[name] for name in ("videos", "prototypes", "heads", "temperature", "iterations", "assigned", "refresh_every")}
    return DeepCluster(**own, **shared_fields(config))
