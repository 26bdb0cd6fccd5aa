"""The recipes of dense predictive coding: settings of the authors' code pinned, the full size checked by shapes, `:local` of everybody's size."""

import pytest

from tests.configs.published import DPC
from tests.configs.recipes import full_size_loss, recipe
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models.predictive import Predictive
from vssl_jax.perturb.color import ColorJitter, EachFrame, OneChannel
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

each = pytest.mark.parametrize("name", sorted(DPC))


@each
def test_published_settings(name):
    c, (examples, stride, videos, epochs, drops, gray, rows) = recipe(name), DPC[name]
    assert (c.model.name, tuple(c.model.kinds), c.model.frames, c.model.size) == ("r3d18", ("2d", "2d", "3d", "3d"), 5, 128)
    assert (c.data.sampler.name, c.data.sampler.frames, c.data.sampler.stride, c.data.sampler.clips) == ("dense", 40, stride, 1)
    assert (c.data.num_examples, c.train.batch_size, c.train.epochs) == (examples, videos, epochs)
    assert c.train.steps == epochs * examples // videos
    o = c.optimizer
    assert (o.name, o.learning_rate, o.lr_batch, o.weight_decay, o.b1, o.b2, o.warmup_steps) == (
        "adam",
        1e-3,
        0,
        1e-5,
        0.9,
        0.999,
        0,
    ) and o.decay_all
    assert (o.schedule, tuple(o.drops)) == ("steps" if drops else "none", drops)
    made = objectives.build(c)
    assert (made.blocks, made.frames, made.span, made.head) == (8, 5, 40, Predictive(256, 3, rows, 0.1))
    assert (made.view.crop.area, made.view.crop.aspect, made.view.flip, made.view.per) == ((0.5, 1.0), (0.75, 4 / 3), 0.5, "clip")
    assert (made.view.mean, made.view.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert made.view.color == (EachFrame((OneChannel(gray), ColorJitter(0.5, 0.5, 0.5, 0.25, shuffle=True))),)


@each
def test_full_size_loss_has_its_shapes(name):
    c = recipe(name)
    state, metrics = full_size_loss(c, videos=2)
    assert metrics["loss"].shape == () and set(state.params) == {"encoder", "head"}
    assert {"spatial/accuracy", "temporal/accuracy", "video/accuracy", "collapse/alarm"} <= set(metrics)
    rows = DPC[name][-1]
    head = state.params["head"]
    assert head["project"]["kernel"].shape == (512, 256) and head["gru_forward"]["update"]["kernel"].shape == (512, 256)
    assert head["out"]["kernel"].shape == (256, rows if rows else 256)
    assert ("memory" in head) == ("gru_backward" in head) == (rows > 0) and (not rows or head["memory"]["kernel"].shape == (1024, 256))


@each
def test_the_work_is_counted(name):
    """Of a batch: the encoder is nearly all of it."""
    c = recipe(name)
    made = objectives.build(c)
    assert 0.9 < c.train.batch_size * made.flops(1) / made.flops(c.train.batch_size) < 1


@each
def test_local_is_of_everybodys_size(name):
    c, other = recipe(name, "local"), recipe("rotation_r3d18", "local").copy_and_resolve_references().unlock()
    if DPC[name][-1]:
        other.optimizer.learning_rate /= 2  # with a memory the training diverges at everybody's rate
    for group in ("model", "optimizer", "eval", "checkpoint", "guard"):
        assert c[group].to_dict() == other[group].to_dict()
    assert c.train.to_dict() == other.train.to_dict() | {"knn_every": 250}
    assert {k: v for k, v in c.data.to_dict().items() if k != "sampler"} == {
        k: v for k, v in other.data.to_dict().items() if k != "sampler"
    }
    made = objectives.build(c)
    assert (made.blocks, made.frames, made.head.predicted) == (6, 4, 2) and c.data.sampler.frames == made.span == 24  # of the world's 32
    assert made.view.flip == 0 and isinstance(made.view.color[0], EachFrame) and (made.head.memory_rows > 0) == (DPC[name][-1] > 0)


@each
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(UserError, match="local"):
        recipe(name, "locl")
