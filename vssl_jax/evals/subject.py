"""What is evaluated: a backbone with its weights. An export, or the same backbone freshly drawn: the baseline beside every number."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.objectives.protocol import ENCODER, STATS
from vssl_jax.train.checkpoint import load_export


@dataclass(frozen=True)
class Subject:
    """A backbone of `model` (a config of models.build) with `params` and `stats`; `source` says where they come from."""

    model: Mapping[str, Any]
    params: Any
    stats: Any
    source: str

    def module(self, **fields: Any):
        """The linen module, with other fields where given (a fine-tuning's drop_path, for one)."""
        return models.build({**self.model, **fields})


def load(path: str | os.PathLike) -> Subject:
    """The backbone of an export, or of a workdir that holds one. Raises UserError where there is none or it fits no model."""
    parts, meta = load_export(path)
    if "model" not in meta or ENCODER not in parts:
        raise UserError(f"{path} is no export of a backbone (it needs a part 'encoder' and the model's config): export it again")
    subject = Subject(meta["model"], parts[ENCODER], parts.get(STATS, {}), str(path))
    wanted = jax.eval_shape(lambda: initial(subject.model, 0))
    have = jax.eval_shape(lambda: (subject.params, subject.stats))
    if jax.tree.structure(wanted) != jax.tree.structure(have) or any(
        a.shape != b.shape for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(have), strict=True)
    ):
        raise UserError(f"the weights in {path} do not fit the model that its meta.json describes: export it again")
    return subject


def random(like: Subject, seed: int) -> Subject:
    """The same backbone with fresh weights."""
    params, stats = jax.jit(lambda: initial(like.model, seed))()
    return Subject(like.model, params, stats, f"random initialization, seed {seed}")


def initial(model: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Fresh (params, stats) of a backbone of `model`."""
    module = models.build(model)
    shape = (1, module.frames, module.size, module.size, 3)
    params, stats = backbone_lib.init(module, jax.random.key(seed), shape)
    return jax.tree.map(jnp.asarray, (params, stats))
