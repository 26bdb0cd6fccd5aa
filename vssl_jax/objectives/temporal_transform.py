"""Temporal transformations (Jenni, Meishvili, Favaro 2020, https://arxiv.org/abs/2007.10730, section 3): how was the time of a clip changed, and at which speed
does it run?

Every clip is asked about in all four forms, each with a crop of its own:

    forward    every 2^k-th frame                                periodic   forward and then back, every 2^k-th frame
    shuffled   the frames of a forward clip in a random order    warped     forward by steps drawn anew for every frame

The second answer, the speed k, is asked of the first two only. All forms begin anywhere where they fit. How far a clip reaches says something of its form all
the same: a periodic one reaches half as far as a forward one, and a warped one, whose steps are drawn one by one, about as far as any other warped one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax.errors import at_least, check_limits
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib

FORMS = ("forward", "periodic", "shuffled", "warped")


@dataclass(frozen=True)
class TemporalTransform(Pretext):
    """`speeds` of them: 1, 2, 4, ... frames from one to the next."""

    speeds: int = 4

    answers: ClassVar[tuple[str, ...]] = ("form", "speed")

    def __post_init__(self):
        check_limits("objective", speeds=(self.speeds, at_least(2)))
        check_limits("model", frames=(self.frames, at_least(3)))

    @property
    def questions_per_clip(self):
        return len(FORMS)

    @property
    def span(self) -> int:
        return (self.frames - 1) * 2 ** (self.speeds - 1) + 1

    def _offsets(self, key: jax.Array, form: int, speed: jax.Array) -> jax.Array:
        """Frames from the first of the window, int32 [T], of a clip at 2**speed."""
        t, skip = jnp.arange(self.frames), 2**speed
        if FORMS[form] == "forward":
            return skip * t
        if FORMS[form] == "periodic":
            top = self.frames // 2  # turns there: no frame stands beside itself, which would tell this form without any motion
            return skip * jnp.minimum(t, 2 * top - t)
        if FORMS[form] == "shuffled":
            order = jax.random.permutation(key, self.frames)
            return skip * jnp.where(jnp.all(jnp.diff(order) > 0) | jnp.all(jnp.diff(order) < 0), jnp.roll(t, 1), order)
        steps = 2 ** jax.random.randint(key, (self.frames - 1,), 0, self.speeds)
        steps = steps.at[0].set(jnp.where(jnp.all(steps == steps[0]), jnp.where(steps[0] == 1, 2, 1), steps[0]))  # not all alike
        return jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])

    def ask(self, memory, batch, rng):
        pieces_lib.check_span(batch, self.span, f"{self.frames} frames at speed {2 ** (self.speeds - 1)}")
        clips, length = pieces_lib.available(batch)

        def draw(key):
            frames_FxT, speeds = [], []
            for form in range(len(FORMS)):
                speed_key, start_key, own_key = jax.random.split(jax.random.fold_in(key, form), 3)
                speed = jax.random.randint(speed_key, (), 0, self.speeds, jnp.int32)
                offsets = self._offsets(own_key, form, speed)
                frames_FxT.append(jax.random.randint(start_key, (), 0, length - jnp.max(offsets)) + offsets)
                speeds.append(speed if FORMS[form] in ("forward", "periodic") else jnp.int32(-1))
            return jnp.stack(frames_FxT), jnp.stack([jnp.arange(len(FORMS)), jnp.stack(speeds)], axis=-1).astype(jnp.int32)

        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), clips)
        frames_BxKxFxT, label_BxKxFx2 = jax.vmap(jax.vmap(draw))(keys_BxK)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), pieces_lib.cut(batch, frames_BxKxFxT))
        return Question(view.reshape(-1, 1, *view.shape[2:]), label_BxKxFx2.reshape(-1, 2))

    def caption(self, label, prediction):
        speed = "" if label[1] < 0 else f" at speed {2 ** label[1]}"
        return f"{FORMS[label[0]].capitalize()}{speed}, said {FORMS[prediction[0]]} at speed {2 ** prediction[1]}"


def from_config(config: Any) -> TemporalTransform:
    """Temporal transformations from a recipe: `objective.speeds`, and what every task has."""
    speeds = config["objective"]["speeds"]
    return TemporalTransform(head=ConcatHead(len(FORMS) + speeds), classes=(len(FORMS), speeds), speeds=speeds, **shared_fields(config))
