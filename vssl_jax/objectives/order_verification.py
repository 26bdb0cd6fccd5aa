"""Order verification (Shuffle and Learn; Misra et al. 2016, https://arxiv.org/abs/1603.08561, section 3): are three frames in order?

Of five frames a < b < c < d < e, (b, c, d) is in order, and (b, a, d) and (b, e, d) are not; each may be reversed, which changes nothing. So the
first and the last frame are the same in every case and tell nothing: only where the middle one lies does. The five are equally far apart, by a
number of frames that is drawn; a window with more motion is more likely where `by_motion` is on.

Every piece is one frame, shown as long as the encoder's clip is.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax.errors import Limit, check_limits
from vssl_jax.models.piece_heads import BinaryHead, ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb.checks import check_range

MIDDLE = (0, 2, 4)  # a, c, e: the middle frame of the two wrong questions and of the right one
WRONG, RIGHT = 0, 1


@dataclass(frozen=True)
class OrderVerification(Pretext):
    """`gaps`: fewest and most frames from one of the five to the next. `positive`: the share of questions in order."""

    gaps: tuple[int, int] = (4, 8)
    positive: float = 0.5
    by_motion: bool = True

    pieces: ClassVar[int] = 3

    def __post_init__(self):
        check_range("objective.gaps", self.gaps, 1, whole=True)
        check_limits("objective", positive=(self.positive, Limit("above 0 and below 1", lambda value: 0 < value < 1)))

    @property
    def span(self) -> int:
        return 4 * self.gaps[1] + 1

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"five frames {self.gaps[1]} apart")
        clips, length = pieces_lib.available(batch)
        pieces_lib.check_room(self.by_motion, length, self.span)

        def draw(key, motion_T):
            start_key, gap_key, right_key, which_key, turn_key = jax.random.split(key, 5)
            gap = jax.random.randint(gap_key, (), self.gaps[0], self.gaps[1] + 1)
            start = pieces_lib.start(start_key, length - self.span + 1, motion_T if self.by_motion else None, 4 * gap + 1)
            right = jax.random.bernoulli(right_key, self.positive)
            wrong = jax.random.choice(which_key, jnp.array([MIDDLE[0], MIDDLE[2]]))
            three = jnp.stack([1, jnp.where(right, MIDDLE[1], wrong), 3])
            three = jnp.where(jax.random.bernoulli(turn_key), three[::-1], three)
            return (start + gap * three)[:, None], right.astype(jnp.int32)

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        frames_BxKxPxT, right_BxK = jax.vmap(jax.vmap(draw))(keys_BxK, pieces_lib.motion(batch))
        stills = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxPxT))
        view = jnp.repeat(stills, self.frames, axis=2)  # a clip of one frame
        return Question(view.reshape(-1, 3, *view.shape[2:]), right_BxK.reshape(-1, 1))

    def caption(self, label, prediction):
        word = {RIGHT: "in order", WRONG: "not in order"}
        return f"{word[label[0]].capitalize()}, said {word[prediction[0]]}"


def from_config(config: Any) -> OrderVerification:
    """Order verification from a recipe: `objective.gaps`, `positive`, `by_motion`, `hidden`, `dropout`, and what every task has."""
    c = config["objective"]
    head = BinaryHead(ConcatHead(1, c["hidden"], c["dropout"]))
    own = {"gaps": tuple(c["gaps"]), "positive": c["positive"], "by_motion": c["by_motion"]}
    return OrderVerification(head=head, classes=(2,), **own, **shared_fields(config))
