"""Every objective is the same on any mesh: loss, gradients and memory of eight devices are those of one.

A step is written for one device; this shows that no objective breaks it, such as by a statistic of a device's own rows.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tests.configs import recipes
from tests.objectives import joint_methods, questions
from tests.train import tiny
from vssl_jax import bench_step, objectives
from vssl_jax.train import sharding
from vssl_jax.train.loop import compile_plan

STEPS = 2
# Rows alone, and all that can split besides; tests/train/test_step.py has more.
MESHES = (pytest.param({"data": 8}, marks=pytest.mark.slow), {"fsdp": 2, "seq": 2, "model": 2})


def smoke(name: str):
    config = recipes.recipe(name, "smoke").unlock()
    config.train.batch_size = 8
    config.optimizer.update(
        {"name": "sgd", "learning_rate": 0.1, "lr_batch": 0, "schedule": "none", "warmup_steps": 0, "weight_decay": 0.0}
    )
    return config


def pace():
    config = smoke("finetune_vitb")
    config.data.sampler.frames = 2 * config.model.frames
    view, eval_view = config.objective.view, config.objective.eval_view
    config.objective = {"name": "pace", "paces": (1, 2), "view": view, "eval_view": eval_view}
    return config


CASES = {"videomae": lambda: smoke("videomae_vitb"), "classify": lambda: smoke("finetune_vitb"), "pace": pace}


def run(config, mesh, devices):
    """States and metrics on the same batches for every mesh."""
    config.mesh.update({"data": 1, "fsdp": 1, "seq": 1, "model": 1} | mesh)
    plan = bench_step.plan_of(config, devices)
    given = tiny.batches(STEPS, bench_step.spec_of(config))
    plan = dataclasses.replace(plan, steps=STEPS, batches=lambda start: iter(given[start:]))
    states, metrics, _ = tiny.advance(plan)
    return states, metrics


@pytest.fixture(scope="module")
def alone():
    made = {}

    def of(name):
        if name not in made:
            made[name] = run(CASES[name](), {}, jax.devices()[:1])
        return made[name]

    return of


@pytest.mark.parametrize("mesh", MESHES, ids=lambda m: "x".join(str(m.get(a, 1)) for a in sharding.AXES))
# A decoder beside the encoder, and tokens that are dropped; the others have the encoder alone.
@pytest.mark.parametrize("name", [name if name == "videomae" else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def test_eight_devices_are_one(name, mesh, alone, monkeypatch):
    monkeypatch.setattr(sharding, "FSDP_MIN_SIZE", 64)
    (one, one_metrics), (eight, eight_metrics) = alone(name), run(CASES[name](), mesh, jax.devices())
    np.testing.assert_allclose([m["loss"] for m in one_metrics], [m["loss"] for m in eight_metrics], atol=1e-5)
    first = [state.opt for state in (one[1], eight[1])]  # SGD's trace after one step is the gradient
    assert max(float(np.max(np.abs(x))) for x in jax.tree.leaves(first[0])) > 1e-3
    assert tiny.largest_difference(*first) <= 1e-5
    for a, b in zip(one, eight, strict=True):
        assert tiny.largest_difference((a.params, a.memory), (b.params, b.memory)) <= 1e-5


@pytest.mark.parametrize("frames", [pytest.param(frames, marks=pytest.mark.slow) for frames in (32, 256)])
def test_each_of_n_devices_keeps_about_an_nth_of_a_clip(frames):
    """What the frames beyond 16 add to a step's temporaries, by the compiler's account; 4 heads split over 2 and 4 devices."""

    def temporaries(frames, seq):
        config = smoke("videomae_vitb")
        config.train.batch_size, config.mesh.seq = 1, seq
        config.model.heads = config.objective.decoder.heads = 4
        config.model.frames = config.data.sampler.frames = frames
        (step,) = compile_plan(bench_step.plan_of(config, jax.devices()[:seq])).steps.values()
        return step.memory_analysis().temp_size_in_bytes

    one, two, four = (temporaries(frames, seq) - temporaries(16, seq) for seq in (1, 2, 4))
    assert two < 0.55 * one and four < 0.36 * one


def test_every_objective_is_among_the_cases():
    """Or a pretext task with a small encoder in test_pretext.py, or a joint embedding in test_joint.py: between them only little differs."""
    alone = {"coclr", "deep_cluster", "dpc", "local_aggregation", "relative_speed"}  # in a test file of its own
    assert set(CASES) | set(questions.ALL) | set(joint_methods.METHODS) | alone >= set(objectives.OBJECTIVES)
    assert all(CASES[name]().objective.name == name for name in CASES)
