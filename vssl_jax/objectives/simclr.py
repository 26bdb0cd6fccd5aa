"""SimCLR for video (Chen et al. 2020, https://arxiv.org/abs/2002.05709), and with two clips of a video CVRL (Qian et al. 2021,
https://arxiv.org/abs/2008.03800): the views of a video are alike, and unlike all others of the batch.

The batch is the global one: every view of every video on every device is a negative.

Letters as in joint.py.
"""

from dataclasses import dataclass
from typing import Any

from vssl_jax import batch as batch_lib
from vssl_jax.errors import above, check_limits
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.joint import JointEmbedding, shared_fields
from vssl_jax.objectives.protocol import ACCURACY


@dataclass(frozen=True)
class SimCLR(JointEmbedding):
    """`scale` multiplies the mean over the ordered pairs of views; CVRL adds the two up: 2."""

    temperature: float = 0.1
    scale: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_limits("objective", temperature=(self.temperature, above(0)))

    def compare(self, params, memory, batch, rng, train):
        z_BxVxD, running = self.look(params, memory, batch, rng, train)
        weight = batch[batch_lib.WEIGHT]
        loss_B, right_B = losses.nt_xent(z_BxVxD, self.temperature, weight)
        metrics = {ACCURACY: losses.mean(right_B, weight)} | collapse.monitor(z_BxVxD[:, 0], weight)
        return self.scale * losses.mean(loss_B, weight), metrics, memory | running


def from_config(config: Any) -> SimCLR:
    """`objective.temperature`, `scale`, and what every joint embedding has (objectives/joint.py)."""
    c = config["objective"]
    return SimCLR(temperature=c["temperature"], scale=c["scale"], **shared_fields(config))
