"""UberNCE (Han, Xie, Zisserman 2020, https://arxiv.org/abs/2010.09709, section 3.1): MoCo whose positives are all keys of the same class. It is told what
CoCLR has to find out, and so says how far that could get. The loss is the mean over the positives' own, as in the authors' code.

Letters as in joint.py, and K entries of the queue.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError, above, at_least, check_limits
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.joint import Taught, taught_fields
from vssl_jax.objectives.protocol import ACCURACY

CLASS = "queue_class"


@dataclass(frozen=True)
class UberNCE(Taught):
    """Two views: the first asks, the average makes the second a key. Memory besides that of `Taught`: the queue's, and "queue_class" int32 [size]. A video
    without a class has its own key as its only positive.
    """

    needs: ClassVar[tuple[str, ...]] = (batch_lib.VIDEO, batch_lib.LABEL)

    size: int = 2048
    temperature: float = 0.07

    def __post_init__(self):
        super().__post_init__()
        if len(self.views) != 2:
            raise UserError(f"UberNCE compares two views, objective.views has {len(self.views)}")
        check_limits("objective", queue=(self.size, at_least(1)), temperature=(self.temperature, above(0)))

    def init(self, rng, batch):
        base_rng, queue_rng = jax.random.split(rng)
        params, memory = super().init(base_rng, batch)
        return params, memory | queue_lib.start(queue_rng, self.size, self.head.dim) | {CLASS: jnp.full((self.size,), -1, jnp.int32)}

    def compare(self, params, memory, batch, rng, train):
        query_BxAxD, said, keys_BxGxD, memory = self.exchange(params, memory, batch, rng, train, (0,), (1,))
        label_B, weight = batch[batch_lib.LABEL], batch[batch_lib.WEIGHT]
        own_Bx1 = jnp.sum(said[:, 0] * keys_BxGxD[:, 0], axis=1, keepdims=True) / self.temperature
        queue_BxK = losses.similarity(said[:, 0], jax.lax.stop_gradient(memory[queue_lib.QUEUE]), self.temperature)
        same_BxK = (label_B[:, None] == memory[CLASS]) & (label_B >= 0)[:, None]
        positive = jnp.concatenate([jnp.ones_like(same_BxK[:, :1]), same_BxK], axis=1)
        scores = jnp.concatenate([own_Bx1, queue_BxK], axis=1)
        best_B = jnp.take_along_axis(positive, jnp.argmax(scores, axis=1)[:, None], axis=1)[:, 0]
        metrics = {ACCURACY: losses.mean(best_B.astype(jnp.float32), weight)} | collapse.monitor(query_BxAxD[:, 0], weight)
        if train:
            memory = memory | queue_lib.push(memory, keys_BxGxD[:, 0], **{CLASS: label_B})
        return losses.mean(losses.mean_nce(scores, positive), weight), metrics, memory

    @property
    def passes(self):
        return 4.0


def from_config(config: Any) -> UberNCE:
    """`objective.queue` (its length), `temperature`, and what every taught method has (objectives/joint.py)."""
    c = config["objective"]
    return UberNCE(size=c["queue"], temperature=c["temperature"], **taught_fields(config))
