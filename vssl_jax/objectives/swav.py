"""SwAV for video (Caron et al. 2020, https://arxiv.org/abs/2006.09882): each view says to which prototypes another view of its video belongs, and
the whole batch is spread over all prototypes alike.

The batch is the global one: Sinkhorn's sums run over every video on every device.

Letters as in joint.py, and K prototypes.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import above, at_least, between, check_limits
from vssl_jax.models import projection
from vssl_jax.models.projection import Prototypes
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.joint import JointEmbedding, shared_fields

PROTOTYPES = "prototypes"


@dataclass(frozen=True)
class SwAV(JointEmbedding):
    """Parts: "encoder", "head", "prototypes". The first `assigned` views are assigned to prototypes by `iterations` of Sinkhorn's at `epsilon`; every
    other view predicts each of their assignments.
    """

    prototypes: int = 1000
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    assigned: int = 2

    def __post_init__(self):
        super().__post_init__()
        check_limits(
            "objective",
            prototypes=(self.prototypes, at_least(2)),
            temperature=(self.temperature, above(0)),
            epsilon=(self.epsilon, above(0)),
            iterations=(self.iterations, at_least(1)),
            assigned=(self.assigned, between(1, len(self.views))),
        )

    def init(self, rng, batch):
        base_rng, own_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        params[PROTOTYPES], _ = projection.start(Prototypes(self.prototypes), own_rng, self.head.dim)
        return params, memory

    def compare(self, params, memory, batch, rng, train):
        z_BxVxD, running = self.look(params, memory, batch, rng, train)
        score_BxVxK = Prototypes(self.prototypes).apply({"params": params[PROTOTYPES]}, z_BxVxD)
        weight, views = batch[batch_lib.WEIGHT], range(len(self.views))
        loss, pairs = 0.0, 0
        for a in range(self.assigned):
            target_BxK = losses.sinkhorn(score_BxVxK[:, a], self.epsilon, self.iterations, weight)
            for b in views:
                if a != b:
                    loss += losses.mean(losses.cross_entropy(target_BxK, score_BxVxK[:, b] / self.temperature), weight)
                    pairs += 1
        nearest_BxK = jax.nn.one_hot(jnp.argmax(score_BxVxK[:, 0], axis=-1), self.prototypes)
        return loss / pairs, collapse.monitor(z_BxVxD[:, 0], weight, nearest_BxK), memory | running


def from_config(config: Any) -> SwAV:
    """`objective.prototypes` (their number), `temperature`, `epsilon`, `iterations`, `assigned`, and what every joint embedding has
    (objectives/joint.py).
    """
    c = config["objective"]
    own = {name: c[name] for name in ("temperature", "epsilon", "iterations", "assigned")}
    return SwAV(prototypes=c["prototypes"], **own, **shared_fields(config))
