"""What all methods share that train one backbone with a head on it: its settings, its start, its features, its embedding, its export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from vssl_jax import batch as batch_lib
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import flops as flops_lib
from vssl_jax.objectives.protocol import ENCODER, LOSS, STATS, VIDEO, Memory, Metrics, Objective, Parts, Tree, choose
from vssl_jax.perturb import recipe
from vssl_jax.perturb.view import EvalView, RandomView, pair

HEAD = "head"  # the part beside ENCODER


def embed(method: Objective, params: Parts, memory: Memory, batch: batch_lib.Batch, features: Sequence[str]) -> dict[str, jax.Array]:
    """`Objective.embed` of a method that has fields `encoder` and `eval_view`."""
    found = {}
    for name, entries in recipe.together(choose(features, method.shown())).items():
        views = recipe.shown(method.eval_view, entries)(batch)
        found[name] = backbone_lib.frozen(method.encoder, *method.backbone(params, memory, name), views).pooled_BxD
    return found


def encoder_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that all of them take from a recipe: `config.model` is the encoder, `objective.eval_view`; `frames` are the encoder's."""
    encoder = models.build(config["model"])
    eval_view = recipe.build_eval_view(config["objective"]["eval_view"], backbone_lib.pixels(encoder))
    return {"encoder": encoder, "frames": encoder.frames, "eval_view": eval_view}


def view_fields(config: Mapping[str, Any], picture: int = 0) -> dict[str, Any]:
    """And those of a method that sees one view, `objective.view`. `picture`: its side, where the encoder gets only parts of it."""
    fields = encoder_fields(config)
    pixels = backbone_lib.pixels(fields["encoder"])
    return fields | {"view": recipe.build_random_view(config["objective"]["view"], pixels._replace(size=picture) if picture else pixels)}


def check_sampler(name: str, sampler: Mapping[str, Any]) -> None:
    """Raises UserError where the frames that a clip repeats, or their distances, would tell the answer to a question of time, the one that `name` asks."""
    for setting, harmless, why in (
        ("name", "dense", "the frames of others are not evenly apart"),
        ("pad", False, "the last frame of a short video is repeated"),
        ("target_fps", 0.0, "frames of a slower film are repeated"),
    ):
        if sampler[setting] != harmless:
            raise UserError(
                f"data.sampler.{setting} is {sampler[setting]!r}: {why}, which tells the answer of {name}; set it to {harmless!r}"
            )


def refuse_random_labels(config: Mapping[str, Any]) -> None:
    """Raises UserError where a control on random labels is asked for of a method that is no question with answers (objectives/pretext.py)."""
    if config["objective"].get("random_labels", False):
        raise UserError(
            f"objective.random_labels: {config['objective']['name']} asks no question whose answers could be drawn; leave it out"
        )


@dataclass(frozen=True)
class OnEncoder(Objective):
    """Parts: "encoder" (a backbone), and what the method adds. Memory: "stats", the backbone's batch statistics, of the global batch whatever
    the mesh.

    `frames` is how many of them a clip that the encoder gets in training has.
    """

    encoder: nn.Module
    head: nn.Module
    frames: int
    view: RandomView
    eval_view: EvalView

    @property
    def clip_size(self) -> tuple[int, int]:
        """Rows and columns of what the encoder gets in training."""
        return pair(self.view.size)

    def start_encoder(self, rng: jax.Array) -> tuple[Tree, Tree, backbone_lib.Features]:
        """(its parameters, its statistics, the shapes of its features for one clip)."""
        return backbone_lib.init(self.encoder, rng, (1, self.frames, *self.clip_size, 3))

    def features(self, params: Parts, memory: Memory, clips_BxTxHxWx3: jax.Array, rng_B, train: bool) -> tuple[backbone_lib.Features, Tree]:
        """(features, the new statistics). `rng_B`: a key per clip, for a backbone that draws in training."""
        keys = rng_B if train else None
        return backbone_lib.apply(self.encoder, params[ENCODER], memory[STATS], clips_BxTxHxWx3, train=train, rng=keys, method="features")

    def embed(self, params, memory, batch, features=(VIDEO,)):
        return embed(self, params, memory, batch, features)

    def backbone(self, params, memory, feature=VIDEO):
        return params[ENCODER], memory[STATS]

    def flops(self, clips):
        """Without the head, which is small beside any encoder."""
        forward = flops_lib.backbone(self.encoder)
        return None if forward is None else 3.0 * forward * clips


@dataclass(frozen=True)
class Compared(OnEncoder):
    """Of which one function, in training and in evaluation mode, is the loss and what is said of held-out videos."""

    def compare(
        self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Memory]:
        """(the loss, the metrics, the new memory)."""
        raise NotImplementedError

    def loss(self, params, memory, batch, rng, turn):
        loss, metrics, memory = self.compare(params, memory, batch, rng, train=True)
        return loss, (memory, metrics)

    def held_out(self, params, memory, batch, rng):
        loss, metrics, _ = self.compare(params, memory, batch, rng, train=False)
        return {LOSS: loss} | metrics
