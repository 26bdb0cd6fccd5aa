"""What a state is made of, and whose turn it is."""

import jax
import numpy as np
import pytest

from tests.train import tiny
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


def test_the_draws_of_no_step_are_those_of_the_initialization():
    rng = jax.random.key(0)
    steps = {tuple(np.asarray(jax.random.key_data(jax.random.fold_in(rng, i)))) for i in range(100)}
    init = tuple(np.asarray(jax.random.key_data(jax.random.fold_in(rng, np.uint32(0xFFFFFFFF)))))
    assert len(steps) == 100 and init not in steps
