"""Clip order prediction (VCOP; Xu et al. 2019, CVPR, section 3): a few clips of a video in a random order; which of the n! orders is it?

Class c is row c of the lexicographic list of orders: piece i of a question is the clip that came `order[c][i]`-th. Between two clips `gap` frames are
left out, so that no motion goes on from one to the next; every clip is cropped by itself, so that they cannot be registered.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax.errors import at_least, between, check_limits
from vssl_jax.models.piece_heads import PairsHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib


@dataclass(frozen=True)
class ClipOrder(Pretext):
    """`count` clips of `frames` frames, `gap` frames apart. The batch's clips are dense, `span` frames or more."""

    count: int = 3
    gap: int = 8

    def __post_init__(self):
        check_limits("objective", count=(self.count, between(2, 5)), gap=(self.gap, at_least(0)))

    @property
    def pieces(self):
        return self.count

    @property
    def span(self) -> int:
        return self.count * self.frames + (self.count - 1) * self.gap

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"{self.count} clips of {self.frames} frames with gaps of {self.gap}")
        clips, length = pieces_lib.available(batch)
        orders = jnp.asarray(pieces_lib.permutations(self.count))

        def draw(key):
            order_key, start_key = jax.random.split(key)
            which = jax.random.randint(order_key, (), 0, len(orders), jnp.int32)
            start = jax.random.randint(start_key, (), 0, length - self.span + 1)
            starts_P = start + orders[which] * (self.frames + self.gap)
            return starts_P[:, None] + jnp.arange(self.frames), which

        keys_B = keys_lib.example_keys(rng, batch, keys_lib.TASK)
        frames_BxKxPxT, which_BxK = jax.vmap(jax.vmap(draw))(keys_lib.unit_keys(keys_B, clips))
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        return Question(view.reshape(-1, self.count, *view.shape[2:]), which_BxK.reshape(-1, 1))

    def caption(self, label, prediction):
        orders = pieces_lib.permutations(self.count) + 1
        right, said = ("-".join(map(str, orders[c])) for c in (label[0], prediction[0]))
        return f"Order {right}, said {said}"


def from_config(config: Any) -> ClipOrder:
    """Clip order from a recipe: `objective.count`, `gap`, `hidden`, `dropout`, and what every task has."""
    c = config["objective"]
    classes = math.factorial(c["count"])
    head = PairsHead(classes, c["hidden"], c["dropout"])
    return ClipOrder(head=head, classes=(classes,), count=c["count"], gap=c["gap"], **shared_fields(config))
