"""Odd-one-out (O3N; Fernando et al. 2017, https://arxiv.org/abs/1611.06646, section 3): of several clips of a video, which has its frames in a wrong order?

All clips begin at places drawn from the whole dense clip, the odd one too, so that where a clip lies tells nothing. The wrong order is any but
the right one.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, at_least, check_limits
from vssl_jax.models.piece_heads import ConcatHead, DifferencesHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib

FUSIONS = ("concat", "differences")


@dataclass(frozen=True)
class OddOneOut(Pretext):
    """`count` clips of `frames` frames, `skip` apart."""

    count: int = 6
    skip: int = 1

    def __post_init__(self):
        check_limits("objective", count=(self.count, at_least(2)), skip=(self.skip, at_least(1)))
        check_limits("model", frames=(self.frames, at_least(2)))

    @property
    def pieces(self):
        return self.count

    @property
    def span(self) -> int:
        return (self.frames - 1) * self.skip + 1

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"clips of {self.frames} frames, {self.skip} apart")
        clips, length = pieces_lib.available(batch)

        def draw(key):
            start_key, odd_key, order_key = jax.random.split(key, 3)
            starts_P = jax.random.randint(start_key, (self.count,), 0, length - self.span + 1)
            odd = jax.random.randint(odd_key, (), 0, self.count, jnp.int32)
            right = jnp.arange(self.frames)
            order = jax.random.permutation(order_key, self.frames)
            order = jnp.where(jnp.all(order == right), jnp.roll(right, 1), order)
            order_PxT = jnp.where((jnp.arange(self.count) == odd)[:, None], order, right)
            return starts_P[:, None] + self.skip * order_PxT, odd

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        frames_BxKxPxT, odd_BxK = jax.vmap(jax.vmap(draw))(keys_BxK)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        return Question(view.reshape(-1, self.count, *view.shape[2:]), odd_BxK.reshape(-1, 1))

    def caption(self, label, prediction):
        return f"Number {label[0] + 1} is odd, said number {prediction[0] + 1}"


def from_config(config: Any) -> OddOneOut:
    """Odd one out from a recipe: `objective.count`, `skip`, `fusion`, `hidden`, `dropout`, and what every task has."""
    c = config["objective"]
    if c["fusion"] not in FUSIONS:
        raise UserError(f"objective.fusion is {c['fusion']!r}: it must be {' or '.join(FUSIONS)}")
    head = (ConcatHead if c["fusion"] == "concat" else DifferencesHead)(c["count"], c["hidden"], c["dropout"])
    return OddOneOut(head=head, classes=(c["count"],), count=c["count"], skip=c["skip"], **shared_fields(config))
