"""The numbers that tell a collapsed network from a healthy one, on vectors of either kind; and methods that must collapse."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.models.clips import OfClips
from tests.objectives.joint_methods import averaged
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.models.backbone import Features
from vssl_jax.models.cnn import CNN
from vssl_jax.models.projection import MLP, unit
from vssl_jax.objectives import collapse
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.byol import BYOL
from vssl_jax.objectives.dino import DINO
from vssl_jax.train import sharding
from vssl_jax.train.loop import compile_plan

monitor = jax.jit(collapse.monitor)


@functools.cache
def random(n=256, d=32, seed=0):
    return jax.jit(lambda: unit(jax.random.normal(jax.random.key(seed), (n, d))))()


def numbers(z, *rest):
    return {k.removeprefix("collapse/"): float(v) for k, v in monitor(z, *rest).items()}


def test_random_directions_are_healthy():
    found = numbers(random())
    assert found["std"] == pytest.approx(1, abs=0.05) and abs(found["cosine"]) < 0.01
    assert found["rank"] == pytest.approx(32 / (1 + 32 / 256), rel=0.05) and found["alarm"] == 0  # 256 samples of 32 equal directions


def test_one_direction_for_all_is_not():
    found = numbers(np.full((64, 16), 0.25, np.float32))
    assert found["std"] == pytest.approx(0, abs=1e-5) and found["cosine"] == pytest.approx(1, abs=1e-5) and found["alarm"] == 1


def test_a_line_in_space_has_rank_1():
    """Both ends of one axis: the deviation and the cosine say nothing, the rank does."""
    ends = np.where(np.arange(64)[:, None] % 2 == 0, 1, -1) * np.asarray(random(1, 32))
    found = numbers(ends)
    assert found["std"] > 0.5 and abs(found["cosine"]) < 0.1
    assert found["rank"] == pytest.approx(1, rel=1e-3) and found["alarm"] == 1


@pytest.mark.parametrize("n", [20, 64])
def test_the_rank_is_that_of_the_covariance_whichever_side_is_shorter(n):
    z = np.asarray(random(n, 32), np.float64)
    values = np.linalg.eigvalsh(np.cov(z.T, bias=True))
    assert numbers(z.astype(np.float32))["rank"] == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-3)


def test_the_cosine_is_of_different_videos():
    z = np.asarray(random(10, 8), np.float64)
    all_pairs = z @ z.T
    expected = (all_pairs.sum() - np.trace(all_pairs)) / 90
    assert numbers(z.astype(np.float32))["cosine"] == pytest.approx(expected, abs=1e-5)


def test_videos_of_weight_0_are_not_looked_at():
    z, weight = np.asarray(random(40)), np.array([1] * 30 + [0] * 10, np.float32)
    some, few = numbers(z, weight), numbers(z[:30])
    assert some == pytest.approx(few, rel=1e-4, abs=1e-6)


def test_prototypes_that_are_used_alike_and_one_for_all():
    of = np.eye(8, dtype=np.float32)
    even, one = (numbers(random(64), None, of[used]) for used in (np.arange(64) % 8, np.zeros(64, int)))
    assert even["usage"] == pytest.approx(1) and even["alarm"] == 0
    assert one["usage"] == pytest.approx(0, abs=1e-6) and one["alarm"] == 1


def test_fewer_videos_than_prototypes_can_be_on_one_each():
    """DINO has 65,536 of them: a batch uses as many as it has videos at most."""
    taken = np.eye(64, dtype=np.float32)
    even, one = (numbers(random(8), None, taken[used]) for used in (np.arange(8), np.zeros(8, int)))
    assert even["usage"] == pytest.approx(1) and even["alarm"] == 0
    assert one["usage"] == pytest.approx(0, abs=1e-6) and one["alarm"] == 1


def test_a_small_batch_on_one_axis_raises_the_alarm():
    """At both ends of it: neither the deviation nor the cosine says so."""
    ends = np.tile(np.array([1, -1], np.float32), 8)[:, None] * np.eye(1, 32, dtype=np.float32)
    found = numbers(ends)
    assert found["rank"] == pytest.approx(1) and found["cosine"] < 0.1 and found["alarm"] == 1


def test_no_gradient_passes():
    assert (np.asarray(jax.jit(jax.grad(lambda z: sum(collapse.monitor(z).values())))(random())) == 0).all()


# What has nothing against it does collapse.

SPEC = batch_lib.Spec(batch_size=32, clips=2, frames=4, height=16, width=16)


@functools.cache
def videos():
    """Noise of a color of its own for each video, so that there is something to tell apart."""
    made = tiny.batches(4, SPEC)
    for i, batch in enumerate(made):
        color = np.random.default_rng(i).integers(0, 256, (32, 1, 1, 1, 1, 3))
        batch["video"] = (0.3 * batch["video"] + 0.7 * color).astype(np.uint8)
    return made


def last(method, steps):
    """The metrics of the last of so many steps."""
    optimizer = {turn.name: tiny.optimizer(learning_rate=3e-3, schedule="none", weight_decay=0.0) for turn in method.turns}
    plan = tiny.plan(method, videos(), optimizers=optimizer)
    program = compile_plan(plan)
    state = tiny.fresh(plan)
    (step,) = program.steps.values()
    for i in range(steps):
        state, metrics = step(state, sharding.global_batch(videos()[i % 4], plan.mesh))
    return {name: float(value) for name, value in metrics.items()}


class OneLayer(OfClips):
    """The least of an encoder: one layer on the means of 4 x 4 cells of a clip."""

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train=False, rng=None):
        cells = clip_BxTxHxWx3.mean(1).reshape(-1, 4, 4, 4, 4, 3).mean((2, 4))
        out_BxD = nn.relu(nn.Dense(16)(cells.reshape(-1, 48)))
        return Features(out_BxD[:, None, None, None], out_BxD)


HEAD = MLP((32,), 16)


@pytest.mark.slow
def test_byol_without_a_predictor_raises_the_alarm_and_with_one_does_not():
    """The target is the network itself (SimSiam), for an average only makes it slower: within 400 steps at .9 neither of them collapses."""
    fields = averaged() | {"encoder": OneLayer(), "head": HEAD, "average": Average(0.0)}
    predicted = {"predictor": HEAD, "head": dataclasses.replace(HEAD, unit_length=False)}
    without, whole = (last(BYOL(**fields | changes), 120) for changes in ({}, predicted))
    assert without[collapse.ALARM] == 1 and without["loss"] < 0.05, without
    assert whole[collapse.ALARM] == 0, whole


@pytest.mark.slow
def test_dino_without_centering_raises_the_alarm_and_with_it_uses_its_prototypes():
    """Without, the average sees the same prototype in nearly every video. The vectors' rank is not asked for: so small a network's is near the alarm's
    limit with centering too.
    """
    encoder = {"encoder": CNN(width=4, frames=4, size=16), "head": HEAD}
    one, whole = (
        last(DINO(prototypes=16, center_decay=decay, **averaged() | encoder | {"average": Average(0.99)}), 60) for decay in (1.0, 0.9)
    )
    assert one[collapse.ALARM] == 1 and one["collapse/usage"] < 0.5, one
    assert whole["collapse/usage"] > 0.6 and whole["collapse/std"] > collapse.LEAST_STD, whole
