"""Motion and appearance statistics (Wang et al. 2019, https://arxiv.org/abs/1904.03597, section 3; STS, its journal version of 2021): 14 numbers that
tell where and in which direction the motion of a clip changes most, and 13 that tell where its colors change and which they are.

They are measured in the clip that the network gets, after crop and flip and before the view's colors. Unlike other tasks' answers they are no
draws. As in the paper the numbers of classes are regressed by least squares, though most have no order; cross-entropy is a setting.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError, at_least, check_limits, unknown_name
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.objectives.protocol import ACCURACY, LOSS
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import pieces as pieces_lib
from vssl_jax.perturb import statistics

LOSSES = ("squares", "cross_entropy")


@dataclass(frozen=True)
class MotionStatistics(Pretext):
    """The head has an output for each answer where `error` is 'squares', and one for each class of each answer where it is 'cross_entropy'. The loss
    is the mean over videos and numbers of motion times `motion`, and that over those of appearance times `appearance`; a number that there is not, as of a
    clip in which nothing moves, costs 0. `bins`: of a color's histogram.
    """

    error: str = "squares"
    motion: float = 1.0
    appearance: float = 0.1
    bins: int = 32

    answers: ClassVar[tuple[str, ...]] = statistics.ANSWERS
    timed: ClassVar[bool] = False  # what is measured is in the frames that are shown

    def __post_init__(self):
        if self.error not in LOSSES:
            raise unknown_name("error of motion statistics", self.error, LOSSES)
        check_limits("model", frames=(self.frames, at_least(2)))
        check_limits("objective", bins=(self.bins, at_least(2)))
        if self.view.per == "frame":
            raise UserError("motion statistics measures motion, which a crop for every frame would make up: set objective.view.per to clip")

    def ask(self, memory, batch, rng):
        if pieces_lib.available(batch)[1] != self.frames:
            raise UserError(
                f"motion statistics asks for one of {self.frames} frames, the clips have {pieces_lib.available(batch)[1]}: set data.sampler.frames"
            )
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.VIEW)
        plain_BxKxTxHxWx3 = dataclasses.replace(self.view, color=()).unit(
            keys_B, batch
        )  # the same crop and flip: colors draw from keys of their own
        numbers_BxKxA = jax.vmap(jax.vmap(lambda clip: statistics.numbers(clip, self.bins)))(plain_BxKxTxHxWx3)
        clips = self.view(keys_B, batch)
        return Question(clips.reshape(-1, 1, *clips.shape[2:]), numbers_BxKxA.reshape(-1, len(self.answers)))

    def _said(self, logits):
        if self.error == "cross_entropy":
            return super()._said(logits)
        return jnp.clip(jnp.round(logits), 0, jnp.array(self.classes) - 1).astype(jnp.int32)

    def _costs(self, logits, label_QxA) -> jax.Array:
        """[Q,A]; of no meaning where there is no answer."""
        if self.error == "squares":
            return jnp.square(logits.astype(jnp.float32) - label_QxA)
        parts = self._parts(logits.astype(jnp.float32))
        costs = [-jnp.take_along_axis(jax.nn.log_softmax(own), label_QxA[:, a, None], axis=1)[:, 0] for a, own in enumerate(parts)]
        return jnp.stack(costs, axis=1)

    def _judge(self, logits, asked, batch):
        weight_Q = jnp.repeat(batch[batch_lib.WEIGHT], logits.shape[0] // batch[batch_lib.WEIGHT].shape[0])
        counts_QxA = weight_Q[:, None] * (asked.label_QxA >= 0)
        costs_QxA = self._costs(logits, jnp.maximum(asked.label_QxA, 0))
        right_QxA = self._said(logits) == asked.label_QxA
        total, metrics, edge = 0.0, {}, len(statistics.MOTION)
        for name, part, factor in (("motion", slice(None, edge), self.motion), ("appearance", slice(edge, None), self.appearance)):
            # Of all videos, not of those that move: a micro-batch of few such would count as much as another.
            loss = jnp.sum((costs_QxA * counts_QxA)[:, part]) / (jnp.maximum(jnp.sum(weight_Q), 1.0) * counts_QxA[:, part].shape[1])
            right = jnp.sum((right_QxA * counts_QxA)[:, part]) / jnp.maximum(jnp.sum(counts_QxA[:, part]), 1.0)
            total += factor * loss
            metrics |= {f"{name}/{LOSS}": loss, f"{name}/{ACCURACY}": right}
        return total, metrics

    def caption(self, label, prediction):
        chosen = ("block of u", "angle in block of u", "frame of u", "block of changing colors", "octant")
        return "; ".join(f"{name} {label[i]}, said {prediction[i]}" for i, name in enumerate(self.answers) if name in chosen).capitalize()


def from_config(config: Any) -> MotionStatistics:
    """Motion and appearance statistics from a recipe: `objective.error`, `motion`, `appearance`, `bins`, and what every task has."""
    c, fields = config["objective"], shared_fields(config)
    classes = statistics.classes(fields["frames"])
    own = {name: c[name] for name in ("error", "motion", "appearance", "bins")}
    outputs = len(classes) if own["error"] == "squares" else sum(classes)
    return MotionStatistics(head=ConcatHead(outputs), classes=classes, **own, **fields)
