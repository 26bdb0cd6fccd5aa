"""Local aggregation of videos: VIE (Zhuang et al. 2020, https://arxiv.org/abs/1905.11954; local aggregation: Zhuang et al. 2019,
https://arxiv.org/abs/1903.12355). A clip is compared with a bank that holds a running mean of every video's vectors.

    turn instance       each video is told from all others: noise-contrastive estimation with draws from the bank (Wu et al. 2018,
                        https://arxiv.org/abs/1805.01978)
    turn aggregation    the nearest entries of the bank are its background; those of them that share a cluster with it are to come closer, the others
                        to go away

    Step 1) the clip's products with the bank
    Step 2) the loss of the turn
    Step 3) its vector goes into the bank, by a running mean
    Refresh) k-means of the bank, several times from different starts

A video's own entry is always in its background, and close. Aggregation learns nothing before there are clusters.

Letters as in joint.py, and N places of the bank, M of them that a video is compared with, C clusterings.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import BELOW_1, UserError, above, at_least, check_limits
from vssl_jax.objectives import bank as bank_lib
from vssl_jax.objectives import collapse, kmeans, losses
from vssl_jax.objectives.joint import JointEmbedding, shared_fields
from vssl_jax.objectives.protocol import ACCURACY, COUNT, LOSS, Memory, Turn
from vssl_jax.perturb import keys as keys_lib

INSTANCE, AGGREGATION = "instance", "aggregation"
ASSIGNMENT = "assignment"
PARTITION = 2876934.2 / 1281167  # the authors' constant for the softmax's denominator, by the number of instances


@dataclass(frozen=True)
class LocalAggregation(JointEmbedding):
    """One view. Parts: "encoder", "head". Memory besides its statistics: the bank's (objectives/bank.py), [N, D], and "assignment" int32 [C, N], -1 for a
    video that was not known.

    `noise` draws, `background` neighbors (the own entry is one of them), `clusterings` of `clusters` by `iterations` of k-means. `initial`, `learning`:
    how many steps the turns last.
    """

    least_views: ClassVar[int] = 1

    videos: int = 1
    temperature: float = 0.07
    momentum: float = 0.5
    noise: int = 4096
    background: int = 4096
    clusters: int = 10_000
    clusterings: int = 1
    iterations: int = 20
    initial: int = 1
    learning: int = 1
    refresh_every: int = 1

    def __post_init__(self):
        super().__post_init__()
        if len(self.views) != 1:
            raise UserError(f"local aggregation compares one view with its bank, objective.views has {len(self.views)}")
        counts = ("videos", "noise", "background", "clusterings", "iterations", "initial", "learning", "refresh_every")
        check_limits(
            "objective",
            clusters=(self.clusters, at_least(2)),
            temperature=(self.temperature, above(0)),
            momentum=(self.momentum, BELOW_1),
            **{name: (getattr(self, name), at_least(1)) for name in counts},
        )

    @property
    def turns(self) -> tuple[Turn, ...]:
        return (Turn(INSTANCE, steps=self.initial), Turn(AGGREGATION, steps=self.learning))

    def init(self, rng, batch):
        base_rng, bank_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        memory |= bank_lib.start(bank_rng, self.videos, self.head.dim)
        memory[ASSIGNMENT] = jnp.full((self.clusterings, *memory[bank_lib.KNOWN].shape), kmeans.UNKNOWN, jnp.int32)
        return params, memory

    def places(self):
        return self.videos

    def check_run(self, videos, steps, sampler):
        bank_lib.check_run(self.videos, self.clusters, "objective.clusters", videos)

    def tell_apart(self, score_BxN: jax.Array, batch: batch_lib.Batch, rng: jax.Array) -> jax.Array:
        """The loss of the turn "instance", [B]: a video's own entry against as many others as `noise`, drawn with repeats from all places."""
        own_Bx1 = jnp.take_along_axis(score_BxN, batch[batch_lib.INDEX][:, None], axis=1)
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.TASK)
        drawn_BxM = jax.vmap(lambda key: jax.random.randint(key, (self.noise,), 0, self.videos))(keys_B)
        noise_BxM = jnp.take_along_axis(score_BxN, drawn_BxM, axis=1)
        return losses.fixed_partition_nce(own_Bx1[:, 0], noise_BxM, self.videos, PARTITION * self.videos)

    def aggregate(self, score_BxN: jax.Array, memory: Memory, index_B: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(the loss of the turn "aggregation", [B]; how many of the background are close, [B]; which videos have clusters, bool [B])."""
        known_N, assignment_CxN = memory[bank_lib.KNOWN], memory[ASSIGNMENT]
        own_BxN = index_B[:, None] == jnp.arange(len(known_N))[None]
        ranked_BxN = jnp.where(own_BxN, jnp.inf, jnp.where(known_N, jax.lax.stop_gradient(score_BxN), -jnp.inf))
        rank_BxM, place_BxM = jax.lax.top_k(ranked_BxN, min(self.background, self.videos))  # the own entry is the first
        score_BxM = jnp.where(rank_BxM > -jnp.inf, jnp.take_along_axis(score_BxN, place_BxM, axis=1), -jnp.inf)
        own_CxBx1, near_CxBxM = assignment_CxN[:, index_B, None], assignment_CxN[:, place_BxM]
        close_BxM = jnp.any((own_CxBx1 == near_CxBxM) & (near_CxBxM >= 0), axis=0).at[:, 0].set(True)
        return losses.mil_nce(score_BxM, close_BxM), jnp.sum(close_BxM, axis=1), own_CxBx1[0, :, 0] >= 0

    def loss(self, params, memory, batch, rng, turn):
        z_Bx1xD, running = self.look(params, memory, batch, rng, True)
        z_BxD, index_B, weight = z_Bx1xD[:, 0], batch[batch_lib.INDEX], batch[batch_lib.WEIGHT]
        score_BxN = losses.similarity(z_BxD, jax.lax.stop_gradient(memory[bank_lib.BANK]), self.temperature)  # step 1
        best_B = jnp.argmax(jnp.where(memory[bank_lib.KNOWN], score_BxN, -jnp.inf), axis=1)
        metrics = {ACCURACY: losses.mean((best_B == index_B).astype(jnp.float32), weight)} | collapse.monitor(z_BxD, weight)
        if turn.name == INSTANCE:
            loss = losses.mean(self.tell_apart(score_BxN, batch, rng), weight)
        else:
            loss_B, close_B, clustered_B = self.aggregate(score_BxN, memory, index_B)
            loss = losses.mean(loss_B, weight * clustered_B)
            metrics |= {"clusters/close": losses.mean(close_B, weight * clustered_B), COUNT: jnp.sum(weight * clustered_B)}
        written = bank_lib.write(memory, index_B, z_BxD, weight, self.momentum)
        return loss, (memory | running | written, metrics)

    def moves(self, memory, turn):
        return True if turn.name == INSTANCE else jnp.any(memory[ASSIGNMENT] >= 0)

    def refresh(self, params, memory, rng):
        def one(given):
            key, before_N = given
            return kmeans.renew(key, memory[bank_lib.BANK], memory[bank_lib.KNOWN], before_N, self.clusters, self.iterations)[1:]

        assignment, metrics_C = jax.lax.map(one, (jax.random.split(rng, self.clusterings), memory[ASSIGNMENT]))
        return memory | {ASSIGNMENT: assignment}, jax.tree.map(jnp.mean, metrics_C)

    def held_out(self, params, memory, batch, rng):
        """These videos are not in the bank: does the network find a video's second view, drawn anew, among those of the batch?"""
        twice = [self.look(params, memory, batch, jax.random.fold_in(rng, i), False)[0] for i in range(2)]
        weight = batch[batch_lib.WEIGHT]
        loss_B, right_B = losses.nt_xent(jnp.concatenate(twice, axis=1), self.temperature, weight)
        return {LOSS: losses.mean(loss_B, weight), ACCURACY: losses.mean(right_B, weight)}


def from_config(config: Any) -> LocalAggregation:
    """`objective.videos` (places for them: at least as many as the data have), `temperature`, `momentum`, `noise`, `background`, `clusters`,
    `clusterings`, `iterations`, `initial` (steps of the first turn, the second has the rest of `train.steps`), `refresh_every` (steps), and what
    every joint embedding has (objectives/joint.py).
    """
    c = config["objective"]
    names = (
        "videos",
        "temperature",
        "momentum",
        "noise",
        "background",
        "clusters",
        "clusterings",
        "iterations",
        "initial",
        "refresh_every",
    )
    learning = max(1, config["train"]["steps"] - c["initial"])
    return LocalAggregation(learning=learning, **{name: c[name] for name in names}, **shared_fields(config))
