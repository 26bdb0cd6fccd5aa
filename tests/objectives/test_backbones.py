"""Any objective that needs no tokens runs on any backbone: the whole table by shapes, and convolution networks trained by the one step.

By shapes: at the recipes' full size, the objective as its recipe builds it but for the backbone. What a backbone makes of one clip is traced
once and repeated for every clip of a batch, since a table of full networks would else take half an hour.
"""

import functools
import importlib
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.commands import CONFIGS
from tests.configs import recipes
from tests.models import cnn3d
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import models, objectives
from vssl_jax.errors import UserError
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import blocks3d
from vssl_jax.models.heads import LinearHead
from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.classify import Classify
from vssl_jax.objectives.pace import Pace
from vssl_jax.objectives.protocol import STATS
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.speed import RandomPace
from vssl_jax.perturb.view import EvalView, RandomView

TOKENS = ("videomae",)  # the objectives that need them
TRANSFORMERS = ["timesformer", "vivit", *(name for name in models.MODELS if name.startswith("vit_"))]
CONVOLUTIONAL = ["cnn_small", *cnn3d.TINY]
# Clips that a network halves more often than they are long: (frames, side) of an objective's pieces.
TOO_SMALL = {"c3d": 8, "c3d_vcop": 8, "i3d": 5, "s3d": 5, "s3d_g": 5}  # frames that it needs


@functools.cache
def recipe_of() -> dict[str, str]:
    """A recipe of every objective that has one."""
    found: dict[str, str] = {}
    for path in sorted(CONFIGS.glob("*_*.py")):
        made = getattr(importlib.import_module(f"configs.{path.stem}"), "get_config", lambda: {})()
        if "objective" in made:
            found.setdefault(made.objective.name, path.stem)
    return found


@functools.cache
def one_clip(module, shape):
    """Shapes of (params, stats, features, stats afterwards) for one clip of `shape` [T,H,W,3], in training."""
    params, stats, _ = jax.eval_shape(lambda: backbone_lib.init(module, jax.random.key(0), (1, *shape)))
    run = lambda p, s, x: _apply(module, p, s, x, train=True, rng=jax.random.split(jax.random.key(0), 1), method="features")  # noqa: E731
    return params, stats, *jax.eval_shape(run, params, stats, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


_apply = backbone_lib.apply


def apply_by_shapes(module, params, stats, clips_BxTxHxWx3, *, train, rng=None, method=None):
    """As backbone.apply, of zeros."""
    wanted, wanted_stats, features, after = one_clip(module, clips_BxTxHxWx3.shape[1:])
    for given, expected in ((params, wanted), (stats, wanted_stats)):
        assert jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, expected)
    zeros = lambda tree, *batch: jax.tree.map(lambda x: jnp.zeros((*batch, *x.shape[len(batch) :]), x.dtype), tree)  # noqa: E731
    return zeros(features, clips_BxTxHxWx3.shape[0]), zeros(after) if train else stats


def sides(config) -> set[int]:
    """Of the pictures that the backbone gets."""
    return {config.model.size} | {view["size"] for view in config.objective.get("views", ()) if "size" in view}


def times(config, backbone_name: str) -> int:
    """How many of them the backbone's features have, of a clip of the recipe."""
    module = models.build({"name": backbone_name, "frames": config.model.frames, "size": config.model.size})
    return one_clip(module, (config.model.frames, config.model.size, config.model.size, 3))[2].map_BxTxHxWxD.shape[1]


def trace(objective_name: str, backbone_name: str, monkeypatch):
    """Shapes of (loss, memory before, memory after) of a step of the recipe's size; raises UserError where the pair does not fit."""
    config = recipes.recipe(recipe_of()[objective_name]).unlock()
    config.model = {"name": backbone_name, "frames": config.model.frames, "size": config.model.size, "dtype": "bfloat16"}
    if backbone_name in TRANSFORMERS and len(sides(config)) > 1:
        config.model.any_size = True
    monkeypatch.setattr(backbone_lib, "apply", apply_by_shapes)
    objective = objectives.build(config)
    videos = config.train.batch_size
    spec = batch_lib.Spec(videos, config.data.sampler.clips, config.data.sampler.frames, *config.data.canvas, config.data.layout)
    batch = spec.shapes() | {batch_lib.SLOT: jax.ShapeDtypeStruct((videos,), jnp.int32)}
    params, memory = jax.eval_shape(lambda b: objective.init(jax.random.key(0), b), batch)
    run = lambda p, m, b: objective.loss(p, m, b, jax.random.key(0), objective.turns[0])  # noqa: E731
    loss, (after, _) = jax.eval_shape(run, params, memory, batch)
    return loss, memory, after


def check(objective_name, backbone_name, monkeypatch):
    """The pair traces, or is refused for the one reason that there can be."""
    assert objective_name in recipe_of(), "an objective without a recipe"
    config = recipes.recipe(recipe_of()[objective_name])
    too_small = config.model.frames < TOO_SMALL.get(backbone_name, 0)
    if (objective_name in TOKENS and not backbone_name.startswith("vit_")) or too_small:
        with pytest.raises(UserError, match="too small for this network" if too_small else "video transformer") as error:
            trace(objective_name, backbone_name, monkeypatch)
        assert "\n" not in str(error.value)
        return
    if (backbone_name == "vit_giant" and any(side % 14 for side in sides(config))) or (
        backbone_name.startswith("vi") and config.model.frames % 2
    ):
        with pytest.raises(UserError, match="no whole number of"):
            trace(objective_name, backbone_name, monkeypatch)
        return
    if objective_name == "tclr" and times(config, backbone_name) % config.objective.parts:
        with pytest.raises(UserError, match="needs features of as many times"):
            trace(objective_name, backbone_name, monkeypatch)
        return
    loss, before, after = trace(objective_name, backbone_name, monkeypatch)
    assert loss.shape == () and loss.dtype == jnp.float32
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)


@pytest.mark.slow
@pytest.mark.parametrize("backbone_name", [*TRANSFORMERS, *CONVOLUTIONAL])
@pytest.mark.parametrize("objective_name", sorted(objectives.OBJECTIVES))
def test_every_objective_on_every_backbone(objective_name, backbone_name, monkeypatch):
    check(objective_name, backbone_name, monkeypatch)


# The others' recipes have a convolution network, and are traced at full size (tests/configs).
TRANSFORMERS_OWN = ("videomae", "classify", "moco")


@pytest.mark.parametrize(
    "objective_name", [n if n in TRANSFORMERS_OWN else pytest.param(n, marks=pytest.mark.slow) for n in sorted(objectives.OBJECTIVES)]
)
def test_every_objective_on_a_convolution_network(objective_name, monkeypatch):
    """The whole table is `slow`."""
    check(objective_name, "r3d10_vcop", monkeypatch)


# Training: a toy network with all that batch normalization needs, and (slow) every network.

SPEC = batch_lib.Spec(batch_size=8, clips=1, frames=17, height=32, width=32)
COMMON = dict(frames=8, view=RandomView(size=32, crop=WholePicture(), flip=0.5), eval_view=EvalView(size=32))


class Toy(nn.Module):
    """Two convolutions with batch normalization."""

    frames: ClassVar[int] = 8
    size: ClassVar[int] = 32

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None):
        x = blocks3d.ConvNorm(4, (3, 3, 3), (2, 4, 4), name="conv1")(clip_BxTxHxWx3, train)
        x = blocks3d.ConvNorm(8, (3, 1, 1), name="conv2")(blocks3d.max_pool(x, (1, 2, 2), (1, 2, 2)), train)
        return backbone_lib.Features(x, blocks3d.mean_of_places(x))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None):
        return self(clip_BxTxHxWx3, train, rng)


@pytest.fixture
def quick_start(monkeypatch):
    """Kernels by numpy: to compile a draw of every one takes longer than all else."""

    def init(key, shape, dtype=jnp.float32):
        return jnp.asarray(np.random.default_rng(shape[-1]).standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1])), dtype)

    monkeypatch.setattr(blocks3d, "KERNEL_INIT", init)


def method(objective_name: str, encoder: nn.Module):
    if objective_name == "pace":
        return Pace(encoder=encoder, head=ConcatHead(2), classes=(2,), pace=RandomPace((1, 2), 8), **COMMON)
    return Classify(encoder=encoder, head=LinearHead(2), classes=2, **COMMON)


def batches(objective_name: str, count: int):
    """Clips of as many frames as the objective takes."""
    given = tiny.batches(count, SPEC)
    return given if objective_name == "pace" else [{k: v[:, :, :8] if k in ("video", "time") else v for k, v in b.items()} for b in given]


def eight_devices_are_one(objective_name: str, encoder: nn.Module):
    objective, given = method(objective_name, encoder), batches(objective_name, 2)
    (one, one_metrics, _), (eight, eight_metrics, _) = (tiny.advance(tiny.plan(objective, given, mesh)) for mesh in (None, {"data": 8}))
    assert np.all(np.isfinite([m["loss"] for m in one_metrics])) and one_metrics[-1]["guard/skipped"] == 0
    np.testing.assert_allclose(one_metrics[0]["loss"], eight_metrics[0]["loss"], rtol=1e-5)
    if stats := one[0].memory[STATS]:
        assert tiny.largest_difference(stats, one[1].memory[STATS]) > 1e-3
        # Statistics are of the global batch: those of a device's own clip would differ in the first digit.
        assert tiny.largest_difference(one[1].memory, eight[1].memory) <= 1e-4
    traces = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(state[1].opt)]) for state in (one, eight)]  # SGD's: the gradient
    assert np.linalg.norm(traces[0] - traces[1]) <= 1e-5 * np.linalg.norm(traces[0])


@pytest.mark.parametrize("objective_name", ["classify", pytest.param("pace", marks=pytest.mark.slow)])
def test_eight_devices_are_one(objective_name, quick_start):
    eight_devices_are_one(objective_name, Toy())


@pytest.mark.slow
@pytest.mark.parametrize("objective_name", ["classify", "pace"])
@pytest.mark.parametrize("backbone_name", cnn3d.TINY)
def test_eight_devices_are_one_for_every_network(backbone_name, objective_name, quick_start):
    """In float64: in float32 the order of sums turns a ReLU or the place of a maximum here and there, and networks of 40 normalizations carry
    that on, up to a tenth of a gradient at this size.
    """
    with jax.enable_x64(True):
        eight_devices_are_one(objective_name, cnn3d.tiny(backbone_name, dtype="float64"))


def test_accumulation_normalizes_by_micro_batch_and_moves_the_statistics_for_each(quick_start):
    """With batch normalization two micro-batches are not the large batch: each is normalized by its own statistics, and the running ones move
    once for each, in order; the loss and the gradient are means.
    """
    objective, (given,) = method("classify", Toy()), batches("classify", 1)
    states, metrics, _ = tiny.advance(tiny.plan(objective, [given], accumulation=2))
    rng, memory = jax.random.fold_in(jax.random.wrap_key_data(states[0].rng), 0), states[0].memory
    loss = jax.jit(lambda m, b: objective.loss(states[0].params, m, b, rng, objective.turns[0]))
    losses = []
    for micro in range(2):  # rows 0, 2, 4, 6, then 1, 3, 5, 7
        rows = {key: value[micro::2] for key, value in given.items()} | {batch_lib.SLOT: np.arange(micro, 8, 2, dtype=np.int32)}
        value, (memory, _) = loss(memory, rows)
        losses.append(float(value))
    assert metrics[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert tiny.largest_difference(memory, states[1].memory) <= 1e-4
    whole = tiny.advance(tiny.plan(objective, [given]))[0][1].memory
    assert tiny.largest_difference(whole, states[1].memory) > 1e-3
