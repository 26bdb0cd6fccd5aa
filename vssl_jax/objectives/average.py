"""Moving averages of a network: MoCo's keys, BYOL's target, DINO's teacher."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax.errors import Limit, at_least, between, check_limits


@dataclass(frozen=True)
class Average:
    """How much of the old value stays: `decay`, or from there along half a cosine to `final` at `steps` (Grill et al. 2020, section 3.1)."""

    decay: float = 0.999
    final: float = -1.0  # below 0: constant
    steps: int = 0

    def __post_init__(self):
        final = Limit("from 0 to 1, or below 0 for a decay that stays", lambda value: value <= 1)
        check_limits("objective.average", decay=(self.decay, between(0, 1)), final=(self.final, final))
        if self.final >= 0:
            check_limits("train", steps=(self.steps, at_least(1)))

    def at(self, step: jax.Array) -> jax.Array:
        if self.final < 0:
            return jnp.float32(self.decay)
        share = jnp.clip(jnp.asarray(step, jnp.float32) / self.steps, 0.0, 1.0)
        return self.final - (self.final - self.decay) * (jnp.cos(math.pi * share) + 1) / 2

    def follow(self, average: Any, new: Any, step: jax.Array) -> Any:
        """After the update of `step`."""
        decay = self.at(step)
        return jax.tree.map(lambda old, x: decay * old + (1 - decay) * x, average, new)


def copied(average: Mapping[str, Any], *given: Mapping[str, Any]) -> dict[str, Any]:
    """The average of a network that has just been loaded: each entry of `average` is a copy of the one that has its name in `given`."""
    return {name: jax.tree.map(jnp.copy, next(each[name] for each in given if name in each)) for name in average}


def build(config: Any, steps: int) -> Average:
    """`objective.average`: {"decay": .996, "final": 1.0}; a `final` below 0 is none."""
    return Average(config["decay"], config["final"], steps)
