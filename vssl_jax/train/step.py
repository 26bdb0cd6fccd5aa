"""One step, for every method.

    Step 1) the batch's rows get their slots, and the batch is cut into micro-batches
    Step 2) gradients of the turn's parts, summed over the micro-batches; memory passes from one to the next
    Step 3) the guard judges loss and gradients
    Step 4) where it accepts them: the optimizer's update, if the objective moves, then its after_update; else the whole state stays as it was

The function is global-view: written for one device, partitioned by the compiler from the shardings of its arguments.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vssl_jax import batch as batch_lib
from vssl_jax.objectives.protocol import COUNT, Objective, Turn
from vssl_jax.train.guard import GuardRule, judge
from vssl_jax.train.optimizer import Optimizer, global_norm
from vssl_jax.train.state import TrainState, trained

StepFn = Callable[[TrainState, batch_lib.Batch], tuple[TrainState, dict[str, jax.Array]]]


def micro_batches(batch: batch_lib.Batch, count: int) -> dict[str, jax.Array]:
    """[B, ...] -> [count, B/count, ...]. Micro-batch a takes rows a, a+count, ...: each device splits its own rows, and nothing moves
    between devices.
    """
    return {k: jnp.swapaxes(v.reshape(v.shape[0] // count, count, *v.shape[1:]), 0, 1) for k, v in batch.items()}


def _gradients(objective: Objective, turn: Turn, accumulation: int, state: TrainState, batch: batch_lib.Batch):
    """Mean loss, metrics and gradients over the micro-batches, each by what counts in it, and the memory after the last."""
    rng = jax.random.fold_in(state.rng, state.step)
    parts = trained(state.params, turn.trains)

    def loss(parts, memory, micro):
        value, (memory, metrics) = objective.loss(state.params | parts, memory, micro, rng, turn)
        count = jnp.maximum(jnp.float32(metrics.get(COUNT, 1.0)), 1e-6)  # a step in which nothing counts has metrics too
        return value.astype(jnp.float32), (memory, {name: x for name, x in metrics.items() if name != COUNT}, count)

    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if accumulation == 1:
        (value, (memory, metrics, _)), grads = value_and_grad(parts, state.memory, batch)
        return value, metrics, grads, memory

    def body(carry, micro):
        memory, sums, total = carry
        (value, (memory, metrics, count)), grads = value_and_grad(parts, memory, micro)
        return (memory, jax.tree.map(lambda s, x: s + count * x, sums, (value, metrics, grads)), total + count), None

    micros = micro_batches(batch, accumulation)
    value, (_, metrics, _) = jax.eval_shape(loss, parts, state.memory, jax.tree.map(lambda x: x[0], micros))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.result_type(s.dtype, jnp.float32)), (value, metrics, parts))
    (memory, sums, total), _ = jax.lax.scan(body, (state.memory, zeros, jnp.float32(0)), micros)
    value, metrics, grads = jax.tree.map(lambda x: x / total, sums)
    return value, metrics, grads, memory


def _if(accept: jax.Array, advance: Callable[[], Any], old: Any) -> Any:
    """advance() where accepted, else `old`.

    On a CPU by a branch, which makes the update in place where a choice between two whole states copies the old one first: a ViT-B's step is 1.08 times as
    fast. Elsewhere by the choice: on a TPU an update in a branch is not fused with what makes the gradients, and costs an eighth more memory traffic.
    """
    return jax.lax.platform_dependent(
        cpu=lambda: jax.lax.cond(accept, advance, lambda: old),
        default=lambda: jax.tree.map(lambda n, o: jnp.where(accept, n, o), advance(), old),
    )


def make_step(objective: Objective, turn: Turn, optimizer: Optimizer, guard_rule: GuardRule, accumulation: int = 1) -> StepFn:
    """The pure step of one turn: (state, batch) -> (state, metrics). Jit it with the state donated."""

    def step(state: TrainState, batch: batch_lib.Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        rows = next(iter(batch.values())).shape[0]
        batch = {**batch, batch_lib.SLOT: jnp.arange(rows, dtype=jnp.int32)}
        loss, metrics, grads, memory = _gradients(objective, turn, accumulation, state, batch)
        norm = global_norm(grads)
        moves = objective.moves(memory, turn)
        accept, guard = judge(state.guard[turn.name], guard_rule, loss, norm, moves)
        old = (trained(state.params, turn.trains), state.opt[turn.name], state.memory)

        def advance():
            parts, opt, _ = old
            updates, new_opt = optimizer.update(grads, norm, opt, parts, state.step)
            new = optax.apply_updates(parts, updates), new_opt
            if moves is not True:
                new = jax.tree.map(lambda n, o: jnp.where(moves, n, o), new, (parts, opt))
            return *new, objective.after_update(state.params | new[0], memory, state.step)

        parts, opt, memory = _if(accept, advance, old)
        opts, guards, scalars = state.opt | {turn.name: opt}, state.guard | {turn.name: guard}, optimizer.scalars(state.step)
        state = state.replace(step=state.step + 1, params=state.params | parts, opt=opts, memory=memory, guard=guards)
        # Over all turns: the logged steps may all be of one turn, and trouble in another must show.
        counts = {
            "guard/skipped": sum(g.skipped for g in guards.values()),
            "guard/in_a_row": functools.reduce(jnp.maximum, [g.in_a_row for g in guards.values()]),
        }
        return state, {"loss": loss, "grad_norm": norm} | counts | scalars | metrics

    return step


def make_steps(objective: Objective, optimizers: Mapping[str, Optimizer], guard_rule: GuardRule, accumulation: int) -> dict[str, StepFn]:
    """One step function per turn, by the turn's name."""
    return {t.name: make_step(objective, t, optimizers[t.name], guard_rule, accumulation) for t in objective.turns}


def lower_steps(steps: Mapping[str, StepFn], state_shapes: Any, batch_shapes: Any, metrics_sharding: Any) -> dict[str, jax.stages.Lowered]:
    """The steps for the compiler (state donated). The shapes carry their shardings; the new state keeps the old one's."""
    state_shardings = jax.tree.map(lambda s: s.sharding, state_shapes)
    return {
        name: jax.jit(step, donate_argnums=0, out_shardings=(state_shardings, metrics_sharding)).lower(state_shapes, batch_shapes)
        for name, step in steps.items()
    }
