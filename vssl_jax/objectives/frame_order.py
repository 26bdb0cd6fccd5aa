"""Frame sorting (OPN; Lee et al. 2017, https://arxiv.org/abs/1708.01246, section 3): which order are four frames in, forward or backward?

An order and its reverse are one class, since many actions look alike both ways: n! / 2 classes, 12 for four frames. Guards of the paper: frames
equally far apart in a window with motion, a box that shakes from frame to frame (`view.shift`), one color channel in place of all (`one_channel`).

Every piece is one frame, shown as long as the encoder's clip is.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import between, check_limits
from vssl_jax.models.piece_heads import PairsHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.checks import check_range


def classes_up_to_reversal(n: int) -> np.ndarray:
    """The orders of n things whose first is below their last, int32 [n!/2, n]: with their reverses, all there are."""
    orders = pieces_lib.permutations(n)
    return orders[orders[:, 0] < orders[:, -1]]


@dataclass(frozen=True)
class FrameOrder(Pretext):
    """`count` frames; `gaps`: fewest and most frames from one of them to the next."""

    count: int = 4
    gaps: tuple[int, int] = (4, 8)
    by_motion: bool = True

    def __post_init__(self):
        check_limits("objective", count=(self.count, between(2, 5)))
        check_range("objective.gaps", self.gaps, 1, whole=True)

    @property
    def pieces(self):
        return self.count

    @property
    def span(self) -> int:
        return (self.count - 1) * self.gaps[1] + 1

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"{self.count} frames {self.gaps[1]} apart")
        clips, length = pieces_lib.available(batch)
        pieces_lib.check_room(self.by_motion, length, self.span)
        orders = jnp.asarray(classes_up_to_reversal(self.count))

        def draw(key, motion_T):
            start_key, gap_key, order_key, turn_key = jax.random.split(key, 4)
            gap = jax.random.randint(gap_key, (), self.gaps[0], self.gaps[1] + 1)
            start = pieces_lib.start(start_key, length - self.span + 1, motion_T if self.by_motion else None, (self.count - 1) * gap + 1)
            which = jax.random.randint(order_key, (), 0, len(orders), jnp.int32)
            order = jnp.where(jax.random.bernoulli(turn_key), orders[which][::-1], orders[which])
            return (start + gap * order)[:, None], which

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        frames_BxKxPxT, which_BxK = jax.vmap(jax.vmap(draw))(keys_BxK, pieces_lib.motion(batch))
        stills = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        view = jnp.repeat(stills, self.frames, axis=2)  # a clip of one frame
        return Question(view.reshape(-1, self.count, *view.shape[2:]), which_BxK.reshape(-1, 1))

    def caption(self, label, prediction):
        orders = classes_up_to_reversal(self.count) + 1
        right, said = ("-".join(map(str, orders[c])) for c in (label[0], prediction[0]))
        return f"Order {right} or backward, said {said}"


def from_config(config: Any) -> FrameOrder:
    """Frame order from a recipe: `objective.count`, `gaps`, `by_motion`, `hidden`, `dropout`, and what every task has."""
    c = config["objective"]
    classes = math.factorial(c["count"]) // 2
    own = {"count": c["count"], "gaps": tuple(c["gaps"]), "by_motion": c["by_motion"]}
    return FrameOrder(head=PairsHead(classes, c["hidden"], c["dropout"]), classes=(classes,), **own, **shared_fields(config))
