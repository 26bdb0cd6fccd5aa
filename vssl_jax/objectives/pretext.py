"""Pretext tasks: a question about a video whose answer is a draw, so that labels cost nothing.

The one idea: a task is its `ask`, from a batch to pieces and the draws that made them. One encoder sees every piece, one head answers from
their features, by cross-entropy. What a question depends on is the draw alone, never which video it is or how long: every draw is possible in
every clip of the batch, whose length is fixed, and the input has left out (and counted) the videos that are too short for it.

Batch normalization, where the encoder has it, is over all pieces of the global batch.

Letters besides those of batch.py, here and in every task: Q questions, P pieces of a question, A answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.models import layout, piece_heads
from vssl_jax.models.backbone import Features
from vssl_jax.objectives.encoder import HEAD, Compared, check_sampler, view_fields
from vssl_jax.objectives.protocol import ACCURACY, ENCODER, LOSS, STATS, Memory, Parts
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.view import denormalize, unit_rgb


class Question(NamedTuple):
    """Q questions, a whole number of them for each video, those of a video together. A label below 0: that answer is not asked for."""

    pieces_QxPxTxHxWx3: jax.Array  # normalized
    label_QxA: jax.Array  # int32


@dataclass(frozen=True)
class Pretext(Compared):
    """Parts: "encoder" (a backbone), "head" (models/piece_heads.py, of sum(classes) outputs). Memory: "stats".

    `classes` holds the number of classes of each answer; `answers` names them, where there are several. A video of WEIGHT 0 does not count.

    `random_labels` makes a control of any task: its questions, with answers drawn apart from them, so that there is nothing to learn. What its features
    gain all the same is not the task's merit. Named for Zhang et al. 2017 (arXiv 1611.03530), where a label stays with its picture; here it is drawn anew
    each time.
    """

    classes: tuple[int, ...]
    random_labels: bool = field(default=False, kw_only=True)

    answers: ClassVar[tuple[str, ...]] = ("",)
    timed: ClassVar[bool] = True  # the question is one of time: what the input does to time would tell the answer
    pieces: ClassVar[int] = 1  # of a question; a method whose number is a setting has a property of this name

    def ask(self, memory: Memory, batch: batch_lib.Batch, rng: jax.Array) -> Question:
        """The questions of a batch. Draws per video with `keys_lib.example_keys(rng, batch, ...)`."""
        raise NotImplementedError

    def caption(self, label: tuple[int, ...], prediction: tuple[int, ...]) -> str:
        """A question's answer and what the model said, for a person."""
        words = [f"{name} {given}, said {said}".strip() for name, given, said in zip(self.answers, label, prediction, strict=True)]
        return "; ".join(word[0].upper() + word[1:] if word[0].isalpha() else f"Class {word}" for word in words)

    def init(self, rng, batch):
        encoder_rng, head_rng = jax.random.split(rng)
        encoder, stats, features = self.start_encoder(encoder_rng)
        head = self.head.lazy_init(head_rng, piece_heads.shapes(features, self.pieces))["params"]
        return {ENCODER: encoder, HEAD: head} | self.own_parts(rng, features), {STATS: stats}

    def check_run(self, videos, steps, sampler):
        if self.timed:
            check_sampler(type(self).__name__, sampler)

    def own_parts(self, rng: jax.Array, features: Features) -> Parts:
        """Fresh parts that a task has besides encoder and head, for features of those shapes."""
        return {}

    def _read(self, params, memory, asked, keys_B, train):
        """(logits [Q, sum(classes)], the features of the pieces, the new statistics). `keys_B`: a key per video, for what draws in training."""
        q, p = asked.pieces_QxPxTxHxWx3.shape[:2]
        clips = layout.frames(asked.pieces_QxPxTxHxWx3.reshape(q * p, *asked.pieces_QxPxTxHxWx3.shape[2:]))
        per_video = q // keys_B.shape[0]
        features, stats = self.features(params, memory, clips, keys_lib.clip_keys(keys_B, per_video * p), train)
        features = piece_heads.grouped(features, p)
        logits = self.head.apply({"params": params[HEAD]}, features, train=train, rng=keys_lib.clip_keys(keys_B, per_video))
        return logits, features, stats

    def relabel(self, asked: Question, batch: batch_lib.Batch, rng: jax.Array) -> Question:
        """With `random_labels` the same pieces and answers drawn uniformly (what is not asked for stays so), else what was asked."""
        if not self.random_labels:
            return asked
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.LABEL)
        keys_Q = keys_lib.clip_keys(keys_B, len(asked.label_QxA) // len(keys_B))
        draw = jax.vmap(lambda key: jax.random.randint(key, (len(self.classes),), 0, jnp.array(self.classes, jnp.int32)))
        return asked._replace(label_QxA=jnp.where(asked.label_QxA >= 0, draw(keys_Q), asked.label_QxA))

    def _answer(self, params, memory, batch, rng, train):
        """(logits, the questions, the new statistics)."""
        asked = self.relabel(self.ask(memory, batch, rng), batch, rng)
        logits, _, stats = self._read(params, memory, asked, keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), train)
        return logits, asked, stats

    def _parts(self, logits: jax.Array) -> list[jax.Array]:
        """The logits of each answer."""
        return jnp.split(logits, [sum(self.classes[:a]) for a in range(1, len(self.classes))], axis=1)

    def _said(self, logits: jax.Array) -> jax.Array:
        """The model's answers, int32 [Q,A]."""
        return jnp.stack([jnp.argmax(own, axis=-1) for own in self._parts(logits)], axis=1).astype(jnp.int32)

    def _judge(self, logits, asked, batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(the loss, the metrics): for each answer the mean over the questions that ask for it; the losses are added up."""
        weight_Q = jnp.repeat(batch[batch_lib.WEIGHT], logits.shape[0] // batch[batch_lib.WEIGHT].shape[0])
        total, metrics = 0.0, {}
        for a, (name, own) in enumerate(zip(self.answers, self._parts(logits.astype(jnp.float32)), strict=True)):
            own, label = jax.nn.log_softmax(own), asked.label_QxA[:, a]
            counts = weight_Q * (label >= 0)
            count = jnp.maximum(jnp.sum(counts), 1.0)
            loss = -jnp.sum(jnp.take_along_axis(own, jnp.maximum(label, 0)[:, None], axis=1)[:, 0] * counts) / count
            right = jnp.sum((jnp.argmax(own, axis=-1) == label) * counts) / count
            total += loss
            metrics |= {ACCURACY: right} if not name else {f"{name}/{LOSS}": loss, f"{name}/{ACCURACY}": right}
        return total, metrics

    def compare(self, params, memory, batch, rng, train):
        logits, asked, stats = self._answer(params, memory, batch, rng, train)
        return *self._judge(logits, asked, batch), memory | {STATS: stats}

    def flops(self, clips):
        """Without the head, which is small beside any encoder."""
        one = super().flops(1)
        return None if one is None else one * clips * self.pieces * self.questions_per_clip

    @property
    def questions_per_clip(self) -> int:
        return 1

    def pictures(self, params, memory, batch, rng):
        """The dense clip, and the pieces of one of a video's questions side by side; what was asked and what the model says. Of video i the i-th question, so
        that those that stand in the order of their answers are all seen.
        """
        logits, asked, _ = self._answer(params, memory, batch, rng, train=False)
        videos = batch[batch_lib.WEIGHT].shape[0]
        each = asked.label_QxA.shape[0] // videos
        chosen = jnp.arange(videos) * each + jnp.arange(videos) % each
        pieces = denormalize(asked.pieces_QxPxTxHxWx3[chosen], self.view.mean, self.view.std)
        bar = jnp.full((*pieces.shape[:1], *pieces.shape[2:4], 2, 3), 0.5)
        row = [part for p in range(pieces.shape[1]) for part in ((bar, pieces[:, p]) if p else (pieces[:, p],))]
        return {
            "clip": unit_rgb(batch)[:, 0],
            "asked": jnp.concatenate(row, axis=3),
            "label": asked.label_QxA[chosen],
            "prediction": self._said(logits[chosen]),
        }


def shared_fields(config: Mapping[str, Any], picture: int = 0) -> dict[str, Any]:
    """The fields that every task takes from a recipe: those of `encoder.view_fields`, and `random_labels` where it is there."""
    return view_fields(config, picture) | {"random_labels": config["objective"].get("random_labels", False)}
