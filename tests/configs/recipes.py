"""What the tests of all recipes share."""

import importlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from tests.commands import CONFIGS
from vssl_jax import batch as batch_lib
from vssl_jax import models, objectives
from vssl_jax.train import state as state_lib


def names(method: str) -> list[str]:
    """The recipes of configs/METHOD_*.py."""
    return sorted(path.stem for path in CONFIGS.glob(f"{method}_*.py"))


def recipe(name: str, variant: str = "") -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config(variant)


def shallow(config: ConfigDict) -> ConfigDict:
    """A residual network's stages have one block each: the others of a stage change no shape but those of their own parameters (tests/models)."""
    if hasattr(models.build(config.model), "layers"):
        with config.unlocked():
            config.model.layers = (1, 1, 1, 1)
    return config


def full_size_loss(config: ConfigDict, videos: int):
    """(state, loss and metrics) on that many videos, as shapes. The memory is as large afterwards as before."""
    objective, data = objectives.build(shallow(config)), config.data
    spec = batch_lib.Spec(videos, data.sampler.clips, data.sampler.frames, *data.canvas, data.layout)
    optimizers = state_lib.build_optimizers(objective, config.optimizer, config.train.steps, config.train.batch_size)
    state = jax.eval_shape(lambda: state_lib.init(objective, optimizers, 0, spec.shapes()))
    batch = spec.shapes() | {batch_lib.SLOT: jax.ShapeDtypeStruct((videos,), jnp.int32)}
    run = lambda p, m, b: objective.loss(p, m, b, jax.random.key(0), objective.turns[0])  # noqa: E731
    loss, (after, metrics) = jax.eval_shape(run, state.params, state.memory, batch)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state.memory)
    return state, {"loss": loss} | metrics
