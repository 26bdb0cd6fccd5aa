"""What the tests of all recipes share."""

import importlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from tests.commands import CONFIGS
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.train import state as state_lib
from vssl_jax.train.guard import GuardRule
from vssl_jax.train.step import make_step


def names(method: str) -> list[str]:
    """The recipes of configs/METHOD_*.py."""
    return sorted(path.stem for path in CONFIGS.glob(f"{method}_*.py"))


def recipe(name: str, variant: str = "") -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config(variant)


def full_size_step(config: ConfigDict, videos: int):
    """(state, metrics) of a step on that many videos, as shapes. The state is as large after it as before."""
    objective, data = objectives.build(config), config.data
    spec = batch_lib.Spec(videos, data.sampler.clips, data.sampler.frames, *data.canvas, data.layout)
    optimizers = state_lib.build_optimizers(objective, config.optimizer, config.train.steps, config.train.batch_size)
    state = jax.eval_shape(lambda: state_lib.init(objective, optimizers, 0, spec.shapes()))
    step = make_step(objective, objective.turns[0], optimizers[objective.turns[0].name], GuardRule())
    after, metrics = jax.eval_shape(step, state, spec.shapes())
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    return state, metrics
