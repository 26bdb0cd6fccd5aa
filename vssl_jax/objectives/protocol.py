"""The protocol that holds every method: a frozen dataclass of pure functions on one step.

The one idea: a method is what happens between a batch and a loss. Everything else (parameters' placement, the optimizer, accumulation,
the guard, checkpoints, the loop, evaluation) is the same for all methods and knows them only through the functions below. Adding a method
touches no file in train/.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_origin

import jax

from vssl_jax import batch as batch_lib
from vssl_jax.errors import check_names

Tree = Any  # a pytree of arrays
Parts = dict[str, Tree]  # part name -> its parameters ("encoder", "decoder", "discriminator", ...)
Memory = dict[str, Tree]  # what a step carries besides parameters: EMA teachers, queues, banks, batch statistics, centers
Metrics = dict[str, jax.Array]  # scalars

# The parts of an export: the backbone has a name of its own, whatever method trained it, and so have its batch statistics; every other part
# of the method stands beside it as METHOD + name.
ENCODER, STATS, METHOD = "encoder", "stats", "method/"
LOSS, ACCURACY = "loss", "accuracy"  # metrics; of one of several questions, views or terms after its name and a slash
COUNT = "count"  # the metric by which a micro-batch counts among those of a step
# The feature that every method has: what its backbone makes of a video. Others have names of their own, see `Objective.shown`.
VIDEO = "video"


def part_of(feature: str, part: str) -> str:
    """The name of "encoder" or "stats" of the network that makes a feature."""
    return part if feature == VIDEO else f"{feature}_{part}"


def in_export(name: str) -> str:
    """What a part is called in an export."""
    return name if name in (ENCODER, STATS) else METHOD + name


def choose(features: Sequence[str], shown: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `shown` (as `Objective.shown` gives it) that `features` name. Raises UserError for one that is not there."""
    check_names("feature", features, shown)
    return {name: shown[name] for name in features}


@dataclass(frozen=True)
class Turn:
    """One kind of update: `trains` names the parts it changes (() = all parts), `steps` how many steps it lasts before the next turn's."""

    name: str = "main"
    trains: tuple[str, ...] = ()
    steps: int = 1


class Objective:
    """A method. Subclasses are frozen dataclasses; `needs`, `turns` and `version` are class constants.

    `needs`, `turns` and `version` must stay ClassVars: an inherited dataclass *field* named `turns` is silently overridden by the base's default,
    and a GAN then trains both its networks in every turn while every loss still looks right. A subclass that declares such a field is
    refused with TypeError.
    """

    needs: ClassVar[tuple[str, ...]] = (batch_lib.VIDEO,)
    turns: ClassVar[tuple[Turn, ...]] = (Turn(),)
    refresh_every: int = 0  # steps between two calls of `refresh`; 0: none
    # Of what it trains by the same settings: raised where that changes, so that older results are not taken for its own.
    version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, annotation in inspect.get_annotations(cls).items():
            constant = "ClassVar" in annotation if isinstance(annotation, str) else ClassVar in (annotation, get_origin(annotation))
            if name in ("needs", "turns", "version") and not constant:
                raise TypeError(f"{cls.__name__}.{name} is a dataclass field: annotate it ClassVar, or leave the annotation out")

    def init(self, rng: jax.Array, batch: batch_lib.Batch) -> tuple[Parts, Memory]:
        """Fresh parameters and memory. `batch` gives shapes only."""
        raise NotImplementedError

    def loss(
        self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array, turn: Turn
    ) -> tuple[jax.Array, tuple[Memory, Metrics]]:
        """The scalar loss of one (micro-)batch: pure, and the same for any number of devices.

        Draws per example with `perturb.keys.example_keys(rng, batch, purpose)`, so that the split into micro-batches or hosts changes
        nothing. A loss that is a mean over some of the rows says how many count, as the metric COUNT, which is not logged: micro-batches count by it.
        """
        raise NotImplementedError

    def adopt(self, params: Parts, memory: Memory) -> Memory:
        """Memory of a fresh state whose parameters were loaded from elsewhere: what is made of the parameters, such as an EMA teacher, is made again."""
        return memory

    def check_restored(self, memory: Memory) -> None:
        """Raises UserError where the memory that a checkpoint brought back is not what it says it is."""

    def moves(self, memory: Memory, turn: Turn) -> jax.Array | bool:
        """Whether the step's update is to be made, by the memory after the loss. Where not, parameters and optimizer stay as they are and the memory
        goes on: a queue fills before anything is learned from it.
        """
        return True

    def after_update(self, params: Parts, memory: Memory, step: jax.Array) -> Memory:
        """Memory that follows the updated parameters, such as an EMA teacher."""
        return memory

    def refresh(self, params: Parts, memory: Memory, rng: jax.Array) -> tuple[Memory, Metrics]:
        """What is renewed every `refresh_every` steps from what the memory holds, such as the clusters of a bank: pure, the memory's shapes kept, the same
        for any number of devices.
        """
        return memory, {}

    def shown(self) -> dict[str, Mapping[str, Any]]:
        """The features that evaluation can ask for, each with what its network is shown of a clip: entries of a view (perturb/recipe.py), as JSON.
        Each is made by a backbone of `config.model`, with weights of its own.
        """
        return {VIDEO: {}}

    def embed(self, params: Parts, memory: Memory, batch: batch_lib.Batch, features: Sequence[str] = (VIDEO,)) -> dict[str, jax.Array]:
        """Frozen features by their names, the mean over a video's views: {"video": float32 [B, D], ...}. What online kNN (train.knn_every) sees of a method
        while it trains; evaluation reads what `backbone` gave to the export.
        """
        raise NotImplementedError

    def backbone(self, params: Parts, memory: Memory, feature: str = VIDEO) -> tuple[Tree, Tree]:
        """(parameters, batch statistics) of the network that makes a feature of `shown`, as it is exported: a backbone of `config.model`
        (models/backbone.py). All that evaluation sees of a method; VIDEO's is fine-tuned. A method without it is refused before the first step.
        """
        raise NotImplementedError

    def label_classes(self) -> int | None:
        """How many classes the method tells apart by the data's labels. None: it uses no labels."""
        return None

    def places(self) -> int | None:
        """How many videos the memory has places for, each video its own (INDEX). None: it does not count them."""
        return None

    def check_run(self, videos: int, steps: int, sampler: Mapping[str, Any]) -> None:
        """Raises UserError where so many videos, so many steps or clips that are sampled so (`config.data.sampler`) would make another method of it;
        warns of what makes it worse.
        """

    def exported(self, params: Parts, memory: Memory) -> Parts:
        """What is exported besides the backbones, by the names of the parts: those that go with them."""
        return params

    def logits(self, params: Parts, memory: Memory, batch: batch_lib.Batch) -> jax.Array:
        """Where there are label_classes: their logits of every view of every video, float32 [B, S, C]."""
        raise NotImplementedError

    def flops(self, clips: int) -> float | None:
        """Model FLOPs of one training step on that many clips (K of each video): matrix products only, multiply and add counted as two,
        backward as twice the forward pass. None: not known.
        """
        return None

    def held_out(self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array) -> Metrics:
        """The metrics of the method's own task on videos that it does not train on, in evaluation mode: means over the rows whose WEIGHT is 1.
        Empty where the method has no such task, or learns the data's labels.
        """
        return {}

    def pictures(self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """What the method sees and makes of it, for a person: {name: float [B,T,H,W,3] in [0,1]}, and where it answers questions their answers
        and its own as "label" and "prediction", int32 [B,A]. Empty where there is nothing to show.
        """
        return {}

    def caption(self, label: tuple[int, ...], prediction: tuple[int, ...]) -> str:
        """One example's "label" and "prediction" of `pictures` in words."""
        return f"{label}, said {prediction}"
