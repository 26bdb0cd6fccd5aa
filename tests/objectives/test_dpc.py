"""Dense predictive coding: exact losses, what is predicted from what, whom a prediction is compared with, one device and eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.nets import Grid
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax import objectives
from vssl_jax.errors import UserError
from vssl_jax.models import flops
from vssl_jax.models.predictive import BACKWARD, FORWARD, ConvGRU, Predictive, Told
from vssl_jax.objectives import collapse, dpc
from vssl_jax.objectives.dpc import DPC
from vssl_jax.objectives.protocol import STATS
from vssl_jax.perturb.color import ColorJitter, EachFrame
from vssl_jax.perturb.crop import RandomResizedCrop, WholePicture
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(batch_size=16, clips=1, frames=12, height=16, width=16)
KEY = jax.random.key(0)
ZERO = np.log(16 * 3 * 4)  # videos, predicted blocks, places
contrast = jax.jit(dpc.contrast)


VIEW = RandomView(size=16, crop=RandomResizedCrop((0.5, 1.0)), color=(EachFrame((ColorJitter(0.5, 0.5),)),))
FIELDS = dict(encoder=Grid(), frames=2, blocks=5, view=VIEW, eval_view=EvalView(size=16))
METHODS = {"dpc": DPC(head=Predictive(8), **FIELDS), "memdpc": DPC(head=Predictive(8, memory_rows=10), **FIELDS)}
each = pytest.mark.parametrize("name", METHODS)
each_quickly = pytest.mark.parametrize("name", ["dpc", pytest.param("memdpc", marks=pytest.mark.slow)])


@functools.cache
def started(name):
    return jax.jit(lambda key: METHODS[name].init(key, None))(KEY)


@functools.cache
def compiled(name):
    """(loss with its gradients, held-out numbers and pictures, what is predicted in training)"""
    method = METHODS[name]
    train = jax.jit(jax.value_and_grad(lambda p, m, batch, key: method.loss(p, m, batch, key, method.turns[0]), has_aux=True))
    look = jax.jit(lambda p, m, batch, key: (method.held_out(p, m, batch, key), method.pictures(p, m, batch, key)))
    return train, look, jax.jit(lambda p, m, batch, key: method.predict(p, m, batch, key, train=True)[0])


def step(name, params, memory):
    return jax.device_get(compiled(name)[0](params, memory, tiny.batches(1, SPEC)[0], KEY))


# The loss.


@each_quickly
def test_zeros_cost_what_a_guess_does(name):
    params, memory = started(name)
    (value, (_, metrics)), _ = step(name, params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}, memory)
    assert value == pytest.approx(np.log(16 * 3 * 4) * len(METHODS[name].head.directions), rel=1e-6)
    assert metrics["accuracy"] == 0


def test_the_number_of_the_paper_s_sizes():
    zeros = jnp.zeros((16, 3, 4, 4, 2))
    assert float(contrast(Told(zeros, zeros), jnp.ones(16))[0]) == pytest.approx(6.6438, abs=5e-5)


@each
def test_the_loss_by_hand(name):
    """Cross-entropy of the right one of all 16 x 3 x 4 places, of plain dot products, forward and backward added up."""
    params, memory = started(name)
    (value, (_, metrics)), _ = step(name, params, memory)
    made = jax.device_get(compiled(name)[2](params, memory, tiny.batches(1, SPEC)[0], KEY))
    losses, right = [], []
    for direction in METHODS[name].head.directions:
        said, target = made.told[direction]
        scores = said.reshape(-1, 8).astype(np.float64) @ target.reshape(-1, 8).T
        losses.append(np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores)))
        right.append(np.mean(scores.argmax(1) == np.arange(16 * 3 * 4)))
    assert value == pytest.approx(sum(losses), rel=1e-5) and metrics["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert abs(value - np.log(192) * len(losses)) > 1e-4
    if name == "memdpc":
        assert [metrics["forward/loss"], metrics["backward/loss"]] == pytest.approx(losses, rel=1e-5)


@each_quickly
def test_a_video_of_weight_0_does_not_count(name):
    params, memory = started(name)
    weight = np.array([1] * 9 + [0] * 7, np.float32)
    batch = dict(tiny.batches(1, SPEC)[0], weight=weight)
    changed = dict(batch, video=np.where(weight.reshape(-1, 1, 1, 1, 1, 1) > 0, batch["video"], 7).astype(np.uint8))
    one, two, all_count = (
        jax.tree.map(float, compiled(name)[1](params, memory, b, KEY)[0])
        for b in (batch, changed, dict(batch, weight=np.ones(16, np.float32)))
    )
    assert one == pytest.approx(two, rel=1e-5, abs=1e-6) and abs(one["loss"] - all_count["loss"]) > 0.1


def test_a_video_of_weight_0_is_no_negative():
    rng = np.random.default_rng(0)
    said, target = (jnp.asarray(rng.standard_normal((4, 2, 2, 2, 5)), jnp.float32) for _ in range(2))
    some, without = contrast(Told(said, target), jnp.array([1.0, 0, 1, 1])), [x[jnp.array([0, 2, 3])] for x in (said, target)]
    fewer = contrast(Told(*without), jnp.ones(3))
    assert jax.tree.map(float, some) == (pytest.approx(float(fewer[0]), rel=1e-6), pytest.approx(jax.tree.map(float, fewer[1]), abs=1e-6))
    none = contrast(Told(said, target), jnp.zeros(4))
    gradient = jax.jit(jax.grad(lambda x: dpc.contrast(Told(x, target), jnp.zeros(4))[0]))(said)
    assert float(none[0]) == 0 and not np.any(gradient)


def accuracies(knows, turned=None):
    """Of targets that are 1 at their clip, step and place each. A prediction is so at those that it knows, and 3 at the next one of `turned`."""
    sizes = dict(clip=4, step=3, place=6)
    ids = dict(zip(sizes, np.unravel_index(np.arange(4 * 3 * 6), tuple(sizes.values())), strict=True))
    right = {name: np.eye(6)[row] for name, row in ids.items()}
    wrong = {name: 3 * np.eye(6)[(row + 1) % sizes[name]] * (name == turned) for name, row in ids.items()}
    said = np.concatenate([right[name] * (name in knows) + wrong[name] for name in sizes], axis=1)
    told = (jnp.asarray(x, jnp.float32).reshape(4, 3, 2, 3, 18) for x in (said, np.concatenate(list(right.values()), axis=1)))
    return {name.removesuffix("accuracy"): float(value) for name, value in contrast(Told(*told), jnp.ones(4))[1].items()}


@pytest.mark.parametrize(
    "knows", [(), ("clip",), ("step",), ("place",), ("clip", "place"), ("clip", "step"), ("clip", "step", "place")], ids=str
)
def test_accuracies_are_told_apart(knows):
    """A prediction that knows one of clip, step and place is right against those that differ in it alone."""
    expected = {"": len(knows) == 3, "spatial/": "place" in knows, "temporal/": "step" in knows, "video/": "clip" in knows}
    assert accuracies(knows) == expected


@pytest.mark.parametrize(
    ("knows", "turned", "right"), [("place", "step", "spatial/"), ("step", "place", "temporal/"), ("clip", "step", "")]
)
def test_negatives_differ_in_one_thing(knows, turned, right):
    """A prediction for another step is right against those of its own step, one for another place against those of its own; other clips are all of them."""
    assert [name for name, value in accuracies((knows,), turned).items() if value == 1] == ([right] if right else [])


@pytest.mark.parametrize(
    ("shape", "gone"), [((1, 2, 2, 2, 3), "video"), ((2, 1, 2, 2, 3), "temporal"), ((2, 2, 1, 1, 3), "spatial")], ids=lambda x: str(x)
)
def test_an_accuracy_against_nothing_is_left_out(shape, gone):
    told = Told(jnp.ones(shape), jnp.ones(shape))
    names = set(jax.eval_shape(dpc.contrast, told, jnp.ones(shape[0]))[1])
    assert names == {"accuracy", "spatial/accuracy", "temporal/accuracy", "video/accuracy"} - {f"{gone}/accuracy"}


def test_what_all_targets_have_in_common_is_no_collapse():
    """It is in no score's difference to another. Targets that are all one are a collapse, whatever their last digits are."""
    rng = np.random.default_rng(0)
    own, common, counts = rng.standard_normal((64, 32)), 20 * np.ones(32), jnp.ones(64)
    monitor = jax.jit(lambda x, weight: collapse.monitor(dpc.apart(x, weight), weight)[collapse.ALARM])
    alarm = lambda x, weight: float(monitor(x.astype(np.float32), weight))  # noqa: E731
    assert alarm(own + common, counts) == 0 and alarm(common + 1e-5 * own, counts) == 1
    assert alarm(np.outer(own[:, 0], own[0]) + common, counts) == 1  # one direction
    some = jnp.asarray(np.arange(64) < 40, jnp.float32)
    assert alarm(np.where(some[:, None] > 0, own, 1e3), some) == 0
    zeros = jnp.zeros((4, 3))
    assert not np.any(dpc.apart(zeros, jnp.ones(4)))


# The network.


@functools.cache
def head(name):
    """(module without dropout, params with every bias at random, maps of 3 clips)"""
    module = dataclasses.replace(METHODS[name].head, dropout=0.0)
    rng = np.random.default_rng(1)
    params = jax.device_get(jax.jit(module.init)(KEY, jnp.zeros((1, 5, 2, 3, 6)))["params"])
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32) if x.ndim == 1 else x, params)
    return module, params, rng.standard_normal((3, 5, 2, 3, 6)).astype(np.float32)


def numpy_gru(params, x, state):
    sigmoid = lambda y: 1 / (1 + np.exp(-y))  # noqa: E731
    gate = lambda name, s: np.concatenate([x, s], -1) @ params[name]["kernel"] + params[name]["bias"]  # noqa: E731
    update, reset = sigmoid(gate("update", state)), sigmoid(gate("reset", state))
    return (1 - update) * state + update * np.tanh(gate("new", reset * state))


def test_the_recurrent_unit_by_hand():
    rng = np.random.default_rng(0)
    x, state = (rng.standard_normal((2, 3, 3, width)).astype(np.float32) for width in (5, 4))
    params = jax.tree.map(lambda leaf: leaf + 0.1, ConvGRU(4).init(KEY, x, state)["params"])
    np.testing.assert_allclose(ConvGRU(4).apply({"params": params}, x, state), numpy_gru(params, x, state), atol=1e-5)


@each
def test_the_prediction_by_hand(name):
    module, params, maps = head(name)
    relu, made = lambda y: np.maximum(y, 0), jax.device_get(jax.jit(module.apply)({"params": params}, maps))
    linear = lambda part, y: y @ params[part]["kernel"] + params[part]["bias"]  # noqa: E731
    target = linear("project", maps)
    np.testing.assert_allclose(made.target_BxNxHxWxD, target, atol=1e-5)
    assert set(made.told) == set(module.directions)
    for direction, (said, wanted) in made.told.items():
        blocks, state = target if direction == FORWARD else target[:, ::-1], np.zeros((3, 2, 3, 8))
        np.testing.assert_allclose(wanted, blocks[:, 2:], atol=1e-5)
        for n in range(2):
            state = numpy_gru(params[f"gru_{direction}"], relu(blocks[:, n]), state)
        for p in range(3):
            y = linear("out", relu(linear("hidden", state)))
            if name == "memdpc":
                share = np.exp(y - y.max(-1, keepdims=True))
                y = share / share.sum(-1, keepdims=True) @ params["memory"]["kernel"]
            np.testing.assert_allclose(said[:, p], y, rtol=1e-4, atol=1e-5)
            state = numpy_gru(params[f"gru_{direction}"], relu(y), state)


@each
def test_a_prediction_is_of_its_place_and_of_what_was_seen(name):
    """Gradients: nothing of the predicted blocks, nothing of other places, nothing of other clips."""
    module, params, maps = head(name)
    for direction in module.directions:
        one = lambda x, d=direction: jnp.sum(jnp.sin(module.apply({"params": params}, x).told[d].said_BxPxHxWxD[1, :, 0, 2]))  # noqa: E731
        reached = np.abs(jax.jit(jax.grad(one))(maps)).sum(-1) > 0
        expected = np.zeros((3, 5, 2, 3), bool)
        expected[1, slice(0, 2) if direction == FORWARD else slice(3, 5), 0, 2] = True
        np.testing.assert_array_equal(reached, expected)


@each
def test_targets_learn(name):
    """The gradient of the last block comes through its target alone: nobody reads it, but for MemDPC's backward direction."""
    module, params, maps = head(name)

    def cost(x):
        told = module.apply({"params": params}, x).told
        return sum(dpc.contrast(own, jnp.ones(3))[0] for own in told.values())

    assert (np.abs(jax.jit(jax.grad(cost))(maps)).sum((0, 2, 3, 4)) > 1e-4).all()


@each
def test_gradients_reach_every_parameter(name):
    _, gradients = step(name, *started(name))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(leaf).max() > 0, path


def test_kernels_start_orthogonal():
    for name, gain in (("dpc", 1.0), ("memdpc", 0.1)):
        params = started(name)[0]["head"]
        for kernel in (params["gru_forward"]["reset"]["kernel"], params["hidden"]["kernel"]):
            np.testing.assert_allclose(kernel.T @ kernel, gain**2 * np.eye(8), atol=1e-5)
    assert BACKWARD not in METHODS["dpc"].head.directions and {"gru_backward", "memory"} <= set(params)


def test_dropout_is_a_clips_own():
    """The draws of a clip do not depend on who shares the batch, and there are none outside training."""
    module, params, maps = METHODS["memdpc"].head, *head("memdpc")[1:]
    keys = jax.random.split(KEY, 3)
    said = jax.jit(
        lambda maps, keys, train: module.apply({"params": params}, maps, train, keys).told[BACKWARD].said_BxPxHxWxD, static_argnums=2
    )
    run = lambda rows, train: said(maps[rows], keys[rows], train)  # noqa: E731
    whole, part, calm = run(slice(0, 3), True), run(slice(1, 3), True), run(slice(0, 3), False)
    np.testing.assert_allclose(whole[1:], part, atol=1e-6)
    assert np.abs(whole - calm).max() > 1e-3
    np.testing.assert_allclose(calm, head("memdpc")[0].apply({"params": params}, maps).told[BACKWARD].said_BxPxHxWxD, atol=1e-6)


# The blocks.


def test_blocks_follow_each_other_and_begin_anywhere():
    spec = batch_lib.Spec(batch_size=100, clips=2, frames=13, height=16, width=16)
    numbers = np.arange(13, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1) + np.array([0, 100], np.uint8).reshape(1, 2, 1, 1, 1, 1)
    batch = dict(tiny.batches(1, spec)[0])
    batch["video"] = np.broadcast_to(numbers, batch["video"].shape)
    plain = dataclasses.replace(METHODS["dpc"], view=RandomView(size=16, crop=WholePicture(), flip=0.0, mean=(0.0,) * 3, std=(1.0,) * 3))
    blocks = np.rint(np.asarray(jax.jit(plain.see)(batch, KEY))[..., 0, 0, 0] * 255).astype(int)
    assert blocks.shape == (200, 5, 2)
    in_order = blocks.reshape(100, 2, 10)
    np.testing.assert_array_equal(in_order - in_order[..., :1], np.broadcast_to(np.arange(10), in_order.shape))
    assert set(in_order[:, 0, 0]) == {0, 1, 2, 3} and set(in_order[:, 1, 0]) == {100, 101, 102, 103}
    whole = dict(tiny.batches(1, dataclasses.replace(spec, frames=10))[0])
    whole["video"] = np.broadcast_to(numbers[:, :, :10], whole["video"].shape)
    assert (np.rint(np.asarray(jax.jit(plain.see)(whole, KEY))[:, 0, 0, 0, 0, 0] * 255).reshape(100, 2) == [0, 100]).all()


def test_a_block_has_one_crop_with_all_others():
    """A picture that does not move is the same in every frame of every block, whatever crop was drawn."""
    batch = dict(tiny.batches(1, SPEC)[0])
    batch["video"] = np.broadcast_to(batch["video"][:, :, :1], batch["video"].shape)
    still = dataclasses.replace(METHODS["dpc"], view=dataclasses.replace(VIEW, color=()))
    seen = np.asarray(jax.jit(still.see)(batch, KEY))
    np.testing.assert_allclose(seen, np.broadcast_to(seen[:, :1, :1], seen.shape), atol=1e-5)
    assert np.abs(seen[0] - seen[1]).max() > 0.1


def test_short_clips_are_refused():
    short = tiny.batches(1, dataclasses.replace(SPEC, frames=9))[0]
    with pytest.raises(UserError, match="5 blocks of 2 frames span 10 frames, the clips have 9"):
        jax.eval_shape(METHODS["dpc"].see, short, KEY)


# On the protocol.


@pytest.mark.slow  # all pairs of a batch meet in SimCLR's too
@each
def test_eight_devices_are_one(name):
    given = tiny.batches(2, SPEC)
    one, eight = (tiny.advance(tiny.plan(METHODS[name], given, mesh=mesh)) for mesh in (None, {"data": 4, "fsdp": 2}))
    for a, b in zip(one[1], eight[1], strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)
    for a, b in zip(one[0], eight[0], strict=True):
        assert tiny.largest_difference((a.params, a.memory), (b.params, b.memory)) <= 1e-5
    assert tiny.largest_difference(one[0][0].params, one[0][-1].params) > 1e-4 and one[0][-1].memory[STATS]["calls"] == 2


@each_quickly
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(name, tmp_path):
    tiny.check_resume(METHODS[name], tiny.batches(3, SPEC), tmp_path)


@each
def test_what_is_logged(name):
    params, memory = started(name)
    (_, (after, metrics)), _ = step(name, params, memory)
    accuracies = {f"{against}accuracy" for against in ("", "spatial/", "temporal/", "video/")}
    losses = {"forward/loss", "backward/loss"} if name == "memdpc" else set()
    monitor = {f"collapse/{number}" for number in ("std", "rank", "cosine", "alarm")}
    assert set(metrics) == accuracies | losses | monitor and after[STATS]["calls"] == 1
    held_out = compiled(name)[1](params, memory, tiny.batches(1, SPEC)[0], KEY)[0]
    assert set(held_out) == set(metrics) | {"loss"}
    embedded = jax.eval_shape(METHODS[name].embed, params, memory, tiny.batches(1, SPEC)[0])
    assert embedded["video"].shape == (16, 6) and METHODS[name].backbone(params, memory) == (params["encoder"], memory[STATS])


@each
def test_the_report_shows_what_was_seen_and_where_a_prediction_points(name):
    params, memory = started(name)
    shown = jax.device_get(compiled(name)[1](params, memory, tiny.batches(1, SPEC)[0], KEY)[1])
    assert shown["clip"].shape == (16, 12, 16, 16, 3) and shown["seen"].shape == (16, 10, 16, 16, 3)
    assert 0 <= shown["seen"].min() and shown["seen"].max() <= 1
    np.testing.assert_array_equal(shown["label"], [[2, 1, 1]] * 16)
    assert (shown["prediction"] >= [2, 0, 0]).all() and (shown["prediction"] <= [4, 1, 1]).all()
    assert len({tuple(row) for row in shown["prediction"].tolist()}) > 1
    assert METHODS[name].caption((2, 1, 1), (4, 0, 1)) == "The prediction of block 3, row 2, column 2 is most like block 5, row 1, column 2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(METHODS["dpc"], blocks=3), r"objective\.blocks is 3: it must be above objective\.predicted=3"),
        (lambda: dataclasses.replace(METHODS["dpc"], frames=0), r"objective\.frames is 0: it must be 1 or more"),
        (lambda: Predictive(dim=0), r"objective\.dim is 0: it must be 1 or more"),
        (lambda: Predictive(predicted=0), r"objective\.predicted is 0: it must be 1 or more"),
        (lambda: Predictive(memory_rows=-1), r"objective\.memory_rows is -1: it must be 0 or more"),
        (lambda: Predictive(dropout=1.0), r"objective\.dropout is 1.0: it must be 0 or more and below 1"),
        (lambda: jax.eval_shape(lambda: Predictive(4).init(KEY, jnp.zeros((1, 3, 1, 1, 2)))), "of 3 blocks 3 cannot be predicted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("frames", "own"), [(0, 4), (2, 2)])
def test_a_recipe_makes_it(frames, own):
    config = {
        "model": {"name": "cnn_small", "frames": 4, "size": 32, "width": 4},
        "objective": {
            "name": "dpc", "blocks": 4, "frames": frames, "predicted": 1, "dim": 8, "memory_rows": 5, "dropout": 0.2,
            "view": {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}, "eval_view": {"crops": 1},
        },
    }  # fmt: skip
    made = objectives.build(config)
    assert (made.blocks, made.frames, made.span, made.head) == (4, own, 4 * own, Predictive(8, 1, 5, 0.2))
    encoder = 4 * flops.backbone(dataclasses.replace(made.encoder, frames=own))
    gru, layers, project = 2 * 3 * 3 * 16 * 8, 2 * (8 * 8 + 8 * 5 + 5 * 8), 4 * 16 * 8
    rest = 2 * 4 * (gru + layers + project)  # of 2 x 2 places
    assert made.flops(3) == pytest.approx(3 * (3 * (encoder + rest) + 2 * 2 * (3 * 4) ** 2 * 8), rel=1e-9)
