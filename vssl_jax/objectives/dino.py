"""DINO for video (Caron et al. 2021, https://arxiv.org/abs/2104.14294; for video SVT, Ranasinghe et al. 2022, https://arxiv.org/abs/2112.01514): the
network tells from any view, however small or short, which prototypes its moving average sees in the large ones.

Two things keep the average from seeing the same in every video: a running center is taken from its scores, against one prototype for all, and they
are sharpened by a low temperature, against all prototypes alike.

What is exported and evaluated is the average, the teacher, as the authors of both do; with its head and its prototypes.

Letters as in joint.py, and K prototypes.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError, above, at_least, between, check_limits
from vssl_jax.models import projection
from vssl_jax.models.projection import Prototypes
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.encoder import HEAD
from vssl_jax.objectives.joint import EMA, Taught, taught_fields
from vssl_jax.objectives.protocol import ENCODER, STATS, VIDEO

PROTOTYPES, CENTER, STEP = "prototypes", "center", "step"


@dataclass(frozen=True)
class DINO(Taught):
    """Parts: "encoder", "head" (its vectors are the bottleneck, of unit length), "prototypes" (the weight-normalized last layer). Memory besides:
    "center" float32 [K], "step"; and the prototypes' average in "average".

    The average sees the first `large` views. The center moves by 1 - `center_decay` of the batch's mean; 1 keeps it at 0. With gradient accumulation it
    moves in each micro-batch: `chunk` saves as much memory and leaves it the batch's. The prototypes get no
    gradient in the first `frozen` steps; that weight decay makes them shorter changes no score (Adam's, through its gradients, would turn them).
    """

    prototypes: int = 65_536
    large: int = 2
    temperature: float = 0.1
    sharp: float = 0.04
    center_decay: float = 0.9
    frozen: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.predictor:
            raise UserError("DINO foretells nothing: leave objective.predictor out")
        check_limits(
            "objective",
            prototypes=(self.prototypes, at_least(2)),
            temperature=(self.temperature, above(0)),
            sharp=(self.sharp, above(0)),
            center_decay=(self.center_decay, between(0, 1)),
            large=(self.large, between(1, len(self.views))),
        )

    def init(self, rng, batch):
        base_rng, own_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        params[PROTOTYPES], _ = projection.start(Prototypes(self.prototypes), own_rng, self.head.dim)
        memory[EMA] |= {PROTOTYPES: jax.tree.map(jnp.copy, params[PROTOTYPES])}
        return params, memory | {CENTER: jnp.zeros(self.prototypes), STEP: jnp.zeros((), jnp.int32)}

    def backbone(self, params, memory, feature=VIDEO):
        return memory[EMA][ENCODER], memory[EMA][STATS]

    def exported(self, params, memory):
        return params | {part: memory[EMA][part] for part in (HEAD, PROTOTYPES)}

    def compare(self, params, memory, batch, rng, train):
        views = range(len(self.views))
        z_BxVxD, _, target_BxGxD, memory = self.exchange(params, memory, batch, rng, train, views, views[: self.large])
        moving = memory[STEP] >= self.frozen
        kernels = jax.tree.map(lambda x: jnp.where(moving, x, jax.lax.stop_gradient(x)), params[PROTOTYPES])
        score_BxVxK = Prototypes(self.prototypes).apply({"params": kernels}, z_BxVxD)
        taught_BxGxK = jax.lax.stop_gradient(Prototypes(self.prototypes).apply({"params": memory[EMA][PROTOTYPES]}, target_BxGxD))
        target_BxGxK = losses.centered_softmax(taught_BxGxK, memory[CENTER], self.sharp)
        weight = batch[batch_lib.WEIGHT]
        pairs = [(g, v) for g in range(self.large) for v in views if g != v]
        each = [losses.cross_entropy(target_BxGxK[:, g], score_BxVxK[:, v] / self.temperature) for g, v in pairs]
        nearest_BxK = jax.nn.one_hot(jnp.argmax(target_BxGxK[:, 0], axis=-1), self.prototypes)
        metrics = collapse.monitor(z_BxVxD[:, 0], weight, nearest_BxK)
        mean_K = jnp.matmul(weight, jnp.mean(taught_BxGxK, axis=1), precision=losses.PRECISION)
        center = self.center_decay * memory[CENTER] + (1 - self.center_decay) * mean_K / jnp.maximum(jnp.sum(weight), 1.0)
        return sum(losses.mean(x, weight) for x in each) / len(each), metrics, memory | {CENTER: center}

    def after_update(self, params, memory, step):
        followed = self.average.follow(memory[EMA][PROTOTYPES], params[PROTOTYPES], step)
        memory = super().after_update(params, memory, step)
        return memory | {EMA: memory[EMA] | {PROTOTYPES: followed}, STEP: step + 1}

    @property
    def passes(self):
        return 3.0 * len(self.views) + self.large


def from_config(config: Any) -> DINO:
    """`objective.prototypes` (their number), `large`, `temperature`, `sharp`, `center_decay`, `frozen`, and what every taught method has
    (objectives/joint.py).
    """
    c = config["objective"]
    own = {name: c[name] for name in ("large", "temperature", "sharp", "center_decay", "frozen")}
    return DINO(prototypes=c["prototypes"], **own, **taught_fields(config))
