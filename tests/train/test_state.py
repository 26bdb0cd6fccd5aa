"""What a state is made of, and whose turn it is."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.train import tiny
from vssl_jax import config as config_lib
from vssl_jax import jobs
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import Turn
from vssl_jax.train import sharding
from vssl_jax.train import state as state_lib


def state(objective, seed=0):
    optimizers = {turn.name: tiny.sgd() for turn in objective.turns}
    return state_lib.init(objective, optimizers, seed, tiny.rows(1)[0])


def test_turns_follow_one_another_as_a_function_of_the_step_alone():
    names = [state_lib.turn_at(tiny.Adversaries(), step).name for step in range(7)]
    assert names == ["disc", "disc", "gen", "disc", "disc", "gen", "disc"]
    assert state_lib.turn_at(tiny.Adversaries(), 3_000_000_002).name == "gen"
    assert {state_lib.turn_at(tiny.Regression(), step).name for step in range(3)} == {"main"}


def test_each_turn_has_an_optimizer_over_its_own_parts_and_a_guard():
    fresh = state(tiny.Adversaries())
    assert set(fresh.opt) == set(fresh.guard) == {"disc", "gen"}
    assert {name: set(opt["momentum"].trace) for name, opt in fresh.opt.items()} == {"disc": {"disc"}, "gen": {"gen"}}


def test_the_parts_of_a_turn():
    params = {"gen": 1, "disc": 2}
    assert state_lib.trained(params, ()) == params
    assert state_lib.trained(params, ("gen",)) == {"gen": 1}
    with pytest.raises(ValueError, match=r"'teacher'.*'disc', 'gen'"):
        state_lib.trained(params, ("teacher",))


def test_a_state_is_a_function_of_its_seed():
    tiny.assert_same_bits(state(tiny.Regression(), 1), state(tiny.Regression(), 1))
    one, two = (state(tiny.Regression(), seed).params["model"]["kernel"] for seed in (1, 2))
    assert not np.array_equal(one, two)


class Keys(tiny.Regression):
    """Keeps the keys that it is given."""

    refresh_every = 1

    def init(self, rng, batch):
        params, memory = super().init(rng, batch)
        return params, memory | {"key": jax.random.key_data(rng)}

    def refresh(self, params, memory, rng):
        return memory | {"key": jax.random.key_data(rng)}, {}


def test_the_draws_of_no_step_are_those_of_the_initialization_or_of_a_refresh():
    made = state(Keys(), 0)
    bits = lambda key: tuple(np.asarray(key).tolist())  # noqa: E731
    steps = {bits(jax.random.key_data(jax.random.fold_in(made.rng, step))) for step in range(100)}
    initial, kept = bits(made.memory["key"]), jax.tree.map(np.array, made.memory)
    one = jax.sharding.NamedSharding(sharding.make_mesh({"data": 1}, jax.devices()[:1]), jax.sharding.PartitionSpec())

    def renewed(step):
        given = jax.device_put(made.replace(memory=jax.tree.map(np.copy, kept)), one)  # a refresh takes the memory's buffers over
        return bits(jobs.refresh(Keys()).run(given, step)[0].memory["key"])

    assert len(steps | {initial, renewed(1), renewed(2)}) == 100 + 3


@dataclass(frozen=True)
class Relay(tiny.Adversaries):
    turns: ClassVar[tuple[Turn, ...]] = (Turn("disc", ("disc",), 3), Turn("gen", ("gen",), 2), Turn("disc", ("disc",), 3))


def test_a_turns_clock_starts_anew_whenever_it_is_its_turn():
    steps, clock = state_lib.turn_clock(Relay(), "disc")
    assert steps == 3 and [int(clock(s)) for s in range(10)] == [0, 1, 2, 0, 0, 0, 1, 2, 0, 1]
    assert [int(state_lib.turn_clock(Relay(), "gen")[1](s)) for s in range(8)] == [0, 0, 0, 0, 1, 0, 0, 0]


def test_schedules_of_turns_and_of_the_whole_training():
    config = ConfigDict(config_lib.optimizer() | {"lr_batch": 0, "learning_rate": 1.0, "schedule": "linear", "by_turn": True})

    def rates(config):
        made = state_lib.build_optimizers(Relay(), config, 8, 1)["disc"]
        return [float(made.scalars(jnp.int32(s))["learning_rate"]) for s in (0, 1, 2, 5, 6, 7)]

    assert rates(config) == pytest.approx([1, 0.5, 0, 1, 0.5, 0])
    config.by_turn = False
    assert rates(config) == pytest.approx([1, 6 / 7, 5 / 7, 2 / 7, 1 / 7, 0])


def test_turns_of_one_name_that_last_differently_have_no_schedule():
    @dataclass(frozen=True)
    class Uneven(tiny.Adversaries):
        turns: ClassVar[tuple[Turn, ...]] = (Turn("disc", ("disc",), 3), Turn("gen", ("gen",)), Turn("disc", ("disc",), 2))

    with pytest.raises(UserError, match=r"'disc' last \[2, 3\] steps"):
        state_lib.turn_clock(Uneven(), "disc")


def test_a_rate_of_a_part_that_the_method_does_not_have_is_refused():
    """Those of another turn are there."""
    for rates, wrong in (({"gen": 2.0}, ""), ({"gne": 2.0}, "did you mean 'gen'")):
        made = state_lib.build_optimizers(Relay(), ConfigDict(config_lib.optimizer() | {"rates": rates}), 8, 1)
        with pytest.raises(UserError, match=wrong) if wrong else contextlib.nullcontext():
            jax.eval_shape(lambda made=made: state_lib.init(Relay(), made, 0, None))


@pytest.mark.parametrize(
    ("pattern", "wrong"), [("^gen/", ""), ("gnn/kernel", "did you mean 'gen/kernel'"), ("gen(", "no regular expression")]
)
def test_a_frozen_parameter_that_the_method_does_not_have_is_refused(pattern, wrong):
    with pytest.raises(UserError, match=wrong) if wrong else contextlib.nullcontext():
        made = state_lib.build_optimizers(Relay(), ConfigDict(config_lib.optimizer() | {"frozen": (pattern,)}), 8, 1)
        jax.eval_shape(lambda: state_lib.init(Relay(), made, 0, None))
