"""Supervised classification: fine-tuning, frozen probes and supervised controls, as objectives like any other.

The one idea: a probe is a classifier whose turn trains only the head, so there is no second trainer and no second way to read a checkpoint.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import heads, layout
from vssl_jax.objectives.encoder import HEAD, OnEncoder, encoder_fields
from vssl_jax.objectives.losses import cross_entropy
from vssl_jax.objectives.protocol import ACCURACY, COUNT, ENCODER, STATS, Objective, Turn
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import recipe
from vssl_jax.perturb.mix import NoMix

# Features computed beforehand, as batch keys: the map [B,T,H,W,D] and its mean [B,D].
FEATURE_MAP, FEATURE_POOLED = "feature_map", "feature_pooled"


def smooth_one_hot(labels_B: jax.Array, classes: int, smoothing: float) -> jax.Array:
    """Targets [B,C] with 1 - smoothing on the label and the rest spread over all classes (Szegedy et al. 2016, section 7)."""
    return jax.nn.one_hot(labels_B, classes) * (1.0 - smoothing) + smoothing / classes


@dataclass(frozen=True)
class Classify(OnEncoder):
    """Trains encoder and head on labels. Parts: "encoder" (a backbone), "head". Memory: "stats", the backbone's batch statistics.

    A row whose label is below 0 or whose WEIGHT is 0 does not count.
    """

    classes: int
    smoothing: float = 0.0
    mix: Any = field(default_factory=NoMix)

    needs: ClassVar[tuple[str, ...]] = (batch_lib.VIDEO, batch_lib.LABEL)

    def init(self, rng, batch):
        encoder_rng, head_rng = jax.random.split(rng)
        encoder, stats, features = self.start_encoder(encoder_rng)
        head = self.head.lazy_init(head_rng, features)["params"]
        return {ENCODER: encoder, HEAD: head}, {STATS: stats}

    def examples(self, batch: batch_lib.Batch, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What a batch asks: the drawn clips, normalized, [B,K,T,h,w,3], and their classes int32 [B*K]."""
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        return view, jnp.repeat(batch[batch_lib.LABEL], view.shape[1])

    def loss(self, params, memory, batch, rng, turn):
        view, labels = self.examples(batch, rng)
        clips_per_video = view.shape[1]
        clips = layout.frames(view.reshape(-1, *view.shape[2:]))
        weight = jnp.repeat(batch[batch_lib.WEIGHT], clips_per_video) * (labels >= 0)
        target = smooth_one_hot(labels, self.classes, self.smoothing)
        mix_key = keys_lib.example_keys(rng, batch, keys_lib.MIX)[0]  # the first row's: each micro-batch draws its own
        clips, target = self.mix(mix_key, clips, target)
        keys = keys_lib.clip_keys(keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), clips_per_video)
        features, stats = self.features(params, memory, clips, keys, train=True)
        logits = self.head.apply({"params": params[HEAD]}, features, train=True, rng=keys)
        return _mean_loss(logits, target, labels, weight, memory | {STATS: stats})

    def logits(self, params, memory, batch) -> jax.Array:
        """Logits of every view (clips x crops) of every video, float32 [B,S,C]."""
        views = self.eval_view(batch)
        clips = views.reshape(-1, *views.shape[2:])
        features, _ = self.features(params, memory, clips, None, train=False)
        return self.head.apply({"params": params[HEAD]}, features).reshape(*views.shape[:2], -1)

    def label_classes(self):
        return self.classes


def _mean_loss(logits, target, labels, weight, memory):
    count = jnp.maximum(jnp.sum(weight), 1.0)
    loss = jnp.sum(cross_entropy(target, logits) * weight) / count
    accuracy = jnp.sum((jnp.argmax(logits, axis=-1) == labels) * weight) / count
    return loss, (memory, {ACCURACY: accuracy, COUNT: jnp.sum(weight)})


@dataclass(frozen=True)
class Probe(Classify):
    """A head on a frozen encoder in evaluation mode."""

    turns: ClassVar[tuple[Turn, ...]] = (Turn(HEAD, trains=(HEAD,)),)

    def flops(self, clips):
        """The encoder goes forward only."""
        whole = super().flops(clips)
        return None if whole is None else whole / 3

    def features(self, params, memory, clips, rng, train):
        features, _ = super().features(params, memory, clips, None, train=False)
        return jax.lax.stop_gradient(features), memory[STATS]


@dataclass(frozen=True)
class CachedProbe(Objective):
    """A head on features that were computed once: the cheap form of Probe where the view is fixed. Part: "head"."""

    head: nn.Module
    classes: int

    needs: ClassVar[tuple[str, ...]] = (FEATURE_MAP, FEATURE_POOLED, batch_lib.LABEL)

    def _batch_features(self, batch):
        return backbone_lib.Features(batch[FEATURE_MAP], batch[FEATURE_POOLED])

    def init(self, rng, batch):
        features = self._batch_features(
            {k: jax.ShapeDtypeStruct((1, *batch[k].shape[1:]), batch[k].dtype) for k in (FEATURE_MAP, FEATURE_POOLED)}
        )
        return {HEAD: self.head.lazy_init(rng, features)["params"]}, {}

    def loss(self, params, memory, batch, rng, turn):
        logits = self.logits(params, memory, batch)
        labels = batch[batch_lib.LABEL]
        return _mean_loss(logits, jax.nn.one_hot(labels, self.classes), labels, (labels >= 0).astype(jnp.float32), memory)

    def logits(self, params, memory, batch) -> jax.Array:
        """Logits [B,C]."""
        return self.head.apply({"params": params[HEAD]}, self._batch_features(batch))


def from_config(config: Any) -> Classify:
    """A classifier from a recipe: `objective.classes`, `objective.head` by name, `objective.freeze`."""
    c, fields = config["objective"], encoder_fields(config)
    kind = Probe if c["freeze"] else Classify
    return kind(
        head=heads.build(c["head"], c["classes"]), classes=c["classes"], view=recipe.build_view(c["view"], backbone_lib.pixels(fields["encoder"])),
        smoothing=c["smoothing"], mix=recipe.build_mix(c["mix"]), **fields,
    )  # fmt: skip
