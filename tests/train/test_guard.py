"""A step that is not finite, or spikes, changes nothing: no parameter, moment, memory or key."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.train import step
from vssl_jax.train.guard import Guard, GuardRule, judge
from vssl_jax.train.optimizer import global_norm


def kept(state):
    return (state.params, state.opt, state.memory, state.rng)


@pytest.fixture(params=["branch", "choice"])
def form(request, monkeypatch):
    """Of the update: as a CPU has it, and as all others have it."""
    if request.param == "choice":
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *, default, **_: default())
    return request.param


def poisoned(batch, value):
    return {**batch, "y": np.full_like(batch["y"], value)}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30], ids=["nan", "inf", "overflowing norm"])
def test_a_batch_that_is_not_finite_changes_no_leaf_and_is_counted(form, value):
    good = tiny.rows(3)
    adam = {"main": tiny.optimizer(learning_rate=0.1)}
    states, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), [good[0], poisoned(good[1], value), good[2]], optimizers=adam))
    tiny.assert_same_bits(kept(states[1]), kept(states[2]))
    assert int(states[2].step) == 2
    assert [m["guard/skipped"] for m in metrics] == [0, 1, 1]
    assert [m["guard/in_a_row"] for m in metrics] == [0, 1, 0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tiny.host(states[3].params)))
    assert not np.array_equal(states[3].params["model"]["kernel"], states[2].params["model"]["kernel"])


def test_a_spike_changes_no_leaf_and_does_not_move_the_mean(form):
    good = tiny.rows(8)
    given = [*good[:6], poisoned(good[6], 1e4), good[7]]
    rule = GuardRule(spike_factor=20.0, spike_after=5)
    states, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), given, guard=rule))
    assert metrics[6]["grad_norm"] > 20 * max(m["grad_norm"] for m in metrics[:6])
    tiny.assert_same_bits(kept(states[6]), kept(states[7]))
    tiny.assert_same_bits(states[6].guard["main"].norm_mean, states[7].guard["main"].norm_mean)
    assert [m["guard/skipped"] for m in metrics[5:]] == [0, 1, 1]


def test_both_forms_of_the_update_are_the_same(monkeypatch):
    given = tiny.rows(2)
    adam = {"main": tiny.optimizer(learning_rate=0.1)}
    branch = tiny.advance(tiny.plan(tiny.Regression(), given, optimizers=adam))
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *, default, **_: default())
    choice = tiny.advance(tiny.plan(tiny.Regression(), given, optimizers=adam))
    kept = lambda state: (state.params, state.opt, state.memory)  # noqa: E731
    assert tiny.largest_difference(kept(branch[0][-1]), kept(choice[0][-1])) <= 1e-6
    assert tiny.largest_difference(branch[0][-1].params, branch[0][0].params) > 1e-2


def test_a_cpus_update_copies_no_state(form):
    adam = tiny.optimizer(learning_rate=0.1)
    params = {"model": {name: {"kernel": jnp.ones((64, 64))} for name in "abcd"}}

    def update(params, opt, grads):
        norm = global_norm(grads)

        def advance():
            updates, new = adam.update(grads, norm, opt, params, jnp.int32(0))
            return optax.apply_updates(params, updates), new

        return step._if(norm < 1e9, advance, (params, opt))

    compiled = jax.jit(update, donate_argnums=(0, 1)).lower(params, adam.init(params), params).compile()
    copies = compiled.memory_analysis().temp_size_in_bytes >= params["model"]["a"]["kernel"].nbytes
    assert copies == (form == "choice")  # or the test could not tell


def test_without_any_youth_the_first_norm_is_no_spike():
    """There is nothing yet to compare it with."""
    _, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), tiny.rows(3), guard=GuardRule(spike_after=0)))
    assert metrics[2]["guard/skipped"] == 0


@pytest.mark.parametrize("rule", [GuardRule(spike_factor=20.0, spike_after=100), GuardRule(spike_factor=0.0, spike_after=0)])
def test_spikes_pass_while_young_and_where_the_test_is_off(rule):
    good = tiny.rows(3)
    _, metrics, _ = tiny.advance(tiny.plan(tiny.Regression(), [good[0], good[1], poisoned(good[2], 1e4)], guard=rule))
    assert metrics[2]["guard/skipped"] == 0


def test_a_nan_in_one_turn_is_counted_in_the_metrics_of_every_turn():
    given = tiny.rows(3)
    given[1] = poisoned(given[1], np.nan)  # the second "disc" step
    states, metrics, _ = tiny.advance(tiny.plan(tiny.Adversaries(), given))
    assert [m["guard/in_a_row"] for m in metrics] == [0, 1, 1]
    assert int(states[3].guard["disc"].skipped) == 1 and int(states[3].guard["gen"].skipped) == 0


def test_the_mean_is_plain_while_young_and_exponential_after():
    rule = GuardRule(decay=0.75)
    norms = [3.0, 1.0, 5.0, 2.0, 9.0, 4.0]
    guard, mean = Guard.fresh(), 0.0
    for i, norm in enumerate(norms):
        _, guard = judge(guard, rule, jnp.float32(1.0), jnp.float32(norm))
        mean = np.mean(norms[: i + 1]) if i < 4 else 0.75 * mean + 0.25 * norm
        np.testing.assert_allclose(guard.norm_mean, mean, rtol=1e-6)
    assert int(guard.accepted) == len(norms)


def test_steps_that_update_nothing_do_not_count_among_the_norms():
    """Of a method that first fills a memory, whose gradients are 0 until then."""
    rule, guard = GuardRule(spike_factor=10.0, spike_after=2), Guard.fresh()
    for _ in range(5):
        accept, guard = judge(guard, rule, jnp.float32(0.0), jnp.float32(0.0), jnp.bool_(False))
        assert accept and int(guard.accepted) == 0 and guard.norm_mean == 0
    verdicts = []
    for norm in (3.0, 3.0, 50.0):
        accept, guard = judge(guard, rule, jnp.float32(1.0), jnp.float32(norm), jnp.bool_(True))
        verdicts.append(bool(accept))
    assert verdicts == [True, True, False] and guard.norm_mean == 3


def test_after_too_many_in_a_row_nothing_is_accepted_any_more():
    """The loop reads the count late: until then a good step must not reset it."""
    rule = GuardRule(max_in_a_row=2)
    guard = Guard.fresh()
    verdicts = []
    for loss in (1.0, np.nan, np.nan, 1.0, 1.0):
        accept, guard = judge(guard, rule, jnp.float32(loss), jnp.float32(1.0))
        verdicts.append(bool(accept))
    assert verdicts == [True, False, False, False, False]
    assert int(guard.in_a_row) == 4


def test_a_rule_that_could_accept_nothing_is_refused():
    with pytest.raises(UserError, match="max_in_a_row"):
        GuardRule(max_in_a_row=0)
