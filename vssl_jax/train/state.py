"""All that a checkpoint holds.

`rng` is one key that never advances: every draw of step s comes from fold_in(rng, s), so a resumed run repeats the run it came from bit
for bit.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.objectives.protocol import Memory, Objective, Parts
from vssl_jax.train import optimizer as optimizer_lib
from vssl_jax.train.guard import Guard
from vssl_jax.train.optimizer import Optimizer
from vssl_jax.train.sharding import path_name


@flax.struct.dataclass
class TrainState:
    step: jax.Array  # int32: steps done, skipped ones too
    rng: jax.Array  # a typed PRNG key
    params: Parts
    opt: dict[str, Any]  # turn name -> optimizer state over the parts that turn trains
    memory: Memory
    guard: dict[str, Guard]  # turn name -> what the guard has seen


def trained(params: Parts, trains: tuple[str, ...]) -> Parts:
    """The parts that a turn updates; () means all of them."""
    if missing := set(trains) - set(params):
        raise ValueError(f"a turn trains {sorted(missing)}, but the parts are {sorted(params)}")
    return {name: params[name] for name in (trains or tuple(params))}


def turn_at(objective: Objective, step: int):
    """The turn of a step: a pure function, so that resume needs no memory of it."""
    position = step % sum(turn.steps for turn in objective.turns)
    for turn in objective.turns:
        if position < turn.steps:
            return turn
        position -= turn.steps
    raise AssertionError("unreachable: position is below the cycle's length")


def turn_clock(objective: Objective, name: str) -> tuple[int, Callable[[jax.Array], jax.Array]]:
    """(the steps that a turn lasts, step -> how many of them are done since it began; at other turns' steps 0). Raises UserError for turns of one name
    that last differently.
    """
    starts, total = [], 0
    for turn in objective.turns:
        starts += [(total, turn.steps)] if turn.name == name else []
        total += turn.steps
    if len({steps for _, steps in starts}) != 1:
        raise UserError(
            f"the turns {name!r} last {sorted({steps for _, steps in starts})} steps: a schedule of a turn needs them to be alike"
        )
    steps = starts[0][1]

    def clock(step):
        position = jnp.asarray(step) % total
        return sum(jnp.where((position >= first) & (position < first + steps), position - first, 0) for first, _ in starts)

    return steps, clock


def build_optimizers(objective: Objective, config: Mapping[str, Any], steps: int, batch_size: int) -> dict[str, Optimizer]:
    """One per turn, all from `config.optimizer`. Their schedules are of all `steps`, or with `by_turn` of each turn, from its first step to its last."""
    made = {}
    for name in dict.fromkeys(turn.name for turn in objective.turns):
        length, clock = turn_clock(objective, name) if config.by_turn else (steps, lambda step: step)
        made[name] = optimizer_lib.build(config, length, batch_size, clock)
    return made


def init(objective: Objective, optimizers: Mapping[str, Optimizer], seed: int, batch: Any) -> TrainState:
    """A fresh state. `batch` gives shapes; jit this with out_shardings, or eval_shape it. Raises UserError where an optimizer names a part or a parameter
    that the method does not have.
    """
    rng = jax.random.key(seed)
    params, memory = objective.init(jax.random.fold_in(rng, jnp.uint32(0xFFFFFFFF)), batch)
    for part in {name for optimizer in optimizers.values() for name in optimizer.named} - set(params):
        raise unknown_name("part in optimizer.rates", part, sorted(params))
    for pattern in {pattern for optimizer in optimizers.values() for pattern in optimizer.frozen}:
        if not any(jax.tree.leaves(optimizer_lib.frozen(params, (pattern,)))):
            names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise unknown_name("parameter in optimizer.frozen", pattern, names)
    opt = {turn.name: optimizers[turn.name].init(trained(params, turn.trains)) for turn in objective.turns}
    guards = {turn.name: Guard.fresh() for turn in objective.turns}
    return TrainState(step=jnp.zeros((), jnp.int32), rng=rng, params=params, opt=opt, memory=memory, guard=guards)
