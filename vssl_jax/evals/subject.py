"""What is evaluated: a backbone with its weights. An export, or the same backbone freshly drawn: the baseline beside every number.

A method may train several networks of the model, each of which makes a feature of its own and may be shown something else than colors. An export says which
(`features` in its meta.json); those that are evaluated together are so many subjects.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax

from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.objectives.protocol import ENCODER, STATS, VIDEO, choose, in_export, part_of
from vssl_jax.perturb import recipe
from vssl_jax.train.checkpoint import load_export


@dataclass(frozen=True)
class Subject:
    """A backbone of `model` (a config of models.build) with `params` and `stats`; `source` says where they come from. `shown`: what it is shown of a clip,
    entries of a view (perturb/recipe.py).
    """

    model: Mapping[str, Any]
    params: Any
    stats: Any
    source: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None  # of the training that the weights are from

    def module(self, **fields: Any):
        """The linen module, with other fields where given (a fine-tuning's drop_path, for one)."""
        return models.build({**self.model, **fields})

    def eval_view(self, config: Mapping[str, Any]) -> recipe.View:
        """What it sees where `config` is an evaluation view."""
        return recipe.build_eval_view({**config, **self.shown}, backbone_lib.pixels(self.module()))


def load(path: str | os.PathLike, features: Sequence[str] = (VIDEO,)) -> tuple[Subject, ...]:
    """The networks of an export, or of a workdir that holds one, that make the `features`. Raises UserError where there is none or it fits no model."""
    parts, meta = load_export(path)
    if "model" not in meta or ENCODER not in parts:
        raise UserError(f"{path} is no export of a backbone (it needs a part 'encoder' and the model's config): export it again")
    chosen = recipe.together(choose(features, meta.get("features", {VIDEO: {}})))
    wanted = jax.eval_shape(lambda: initial(meta["model"], 0))
    subjects = []
    for name, entries in chosen.items():
        params, stats = (parts.get(in_export(part_of(name, part)), {}) for part in (ENCODER, STATS))
        have = jax.eval_shape(lambda own=(params, stats): own)
        if jax.tree.structure(wanted) != jax.tree.structure(have) or any(
            a.shape != b.shape for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(have), strict=True)
        ):
            raise UserError(f"the weights in {path} do not fit the model that its meta.json describes: export it again")
        subjects.append(Subject(meta["model"], params, stats, str(path), entries, meta.get("step")))
    return tuple(subjects)


def random(like: Subject, seed: int, number: int = 0) -> Subject:
    """The same backbone with fresh weights; others for each `number` of one that is evaluated together with others."""
    params, stats = initial(like.model, seed, number)
    return Subject(like.model, params, stats, f"random initialization, seed {seed}", like.shown)


def initial(model: Mapping[str, Any], seed: int, number: int = 0) -> tuple[Any, Any]:
    """Fresh (params, stats) of a backbone of `model`."""
    key = jax.random.key(seed)
    return _initial(models.build(model), jax.random.fold_in(key, number) if number else key)


@functools.partial(jax.jit, static_argnums=0)
def _initial(module: nn.Module, key: jax.Array) -> tuple[Any, Any]:
    params, stats, _ = backbone_lib.init(module, key, (1, module.frames, module.size, module.size, 3))
    return params, stats
