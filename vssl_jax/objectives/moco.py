"""MoCo for video: a view is like the moving average's vector of another view of its video, and unlike those of other videos.

With a queue (He et al. 2020, https://arxiv.org/abs/1911.05722; over several clips of a video, rho-MoCo of Feichtenhofer et al. 2021,
https://arxiv.org/abs/2104.14558) the others are keys of earlier batches; the first view asks, the others are its keys, and all of them enter the queue; with
`every` each view asks in its turn. Without one (v3, Chen et al. 2021, https://arxiv.org/abs/2104.02057) the others are the batch's, every view asks, and a
predictor stands between the asking network and the comparison.

    Step 1) keys by the average, which has followed the network's last update
    Step 2) the loss, with the queue as it is
    Step 3) the keys go into the queue

Letters as in joint.py.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import above, at_least, check_limits
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.joint import Taught, taught_fields
from vssl_jax.objectives.protocol import ACCURACY


@dataclass(frozen=True)
class MoCo(Taught):
    """Parts: "encoder", "head", and "predictor" where there is one. Memory besides that of `Taught`: the queue's (objectives/queue.py), where `size` is
    not 0. `every`: each view asks, not the first alone. `scale` multiplies the mean over the pairs of query and key.
    """

    size: int = 65_536
    temperature: float = 0.07
    every: bool = False
    scale: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_limits("objective", queue=(self.size, at_least(0)), temperature=(self.temperature, above(0)))

    def init(self, rng, batch):
        base_rng, queue_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        return params, memory | (queue_lib.start(queue_rng, self.size, self.head.dim) if self.size else {})

    def compare(self, params, memory, batch, rng, train):
        views = range(len(self.views))
        asking, giving = (views, views) if self.every else (views[:1], views[1:])
        query_BxAxD, z, keys_BxGxD, memory = self.exchange(params, memory, batch, rng, train, asking, giving)
        weight, total, right, pairs = batch[batch_lib.WEIGHT], 0.0, 0.0, 0
        other_BxB = ~jnp.eye(len(z), dtype=bool) & (weight > 0)[None, :]
        for a, view in enumerate(asking):
            for g, key in enumerate(giving):
                if view == key:
                    continue
                positive_B = jnp.sum(z[:, a] * keys_BxGxD[:, g], axis=-1) / self.temperature
                negatives = memory[queue_lib.QUEUE] if self.size else keys_BxGxD[:, g]
                scores = losses.similarity(z[:, a], jax.lax.stop_gradient(negatives), self.temperature)
                counted = None if self.size else other_BxB
                total += losses.mean(losses.info_nce(positive_B, scores, counted), weight)
                best_B = jnp.max(scores if counted is None else jnp.where(counted, scores, -jnp.inf), axis=1)
                right += losses.mean((positive_B > best_B).astype(jnp.float32), weight)
                pairs += 1
        if self.size and train:
            for g in range(len(giving)):  # view by view: a batch of videos divides the queue
                memory = memory | queue_lib.push(memory, keys_BxGxD[:, g])
        metrics = {ACCURACY: right / pairs} | collapse.monitor(query_BxAxD[:, 0], weight)
        return self.scale * total / pairs, metrics, memory

    @property
    def passes(self):
        views = len(self.views)
        return 4.0 * views if self.every else 3.0 + (views - 1)


def from_config(config: Any) -> MoCo:
    """`objective.queue` (its length, 0: none), `temperature`, `every`, `scale`, and what every taught method has (objectives/joint.py)."""
    c = config["objective"]
    own = {name: c[name] for name in ("temperature", "every", "scale")}
    return MoCo(size=c["queue"], **own, **taught_fields(config))
