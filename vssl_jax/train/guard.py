"""The guard: a non-finite or spiking step changes nothing.

The one idea: decide once, from the loss and the gradient's norm, and select the *whole* new state or the whole old one. Skipping only the
parameters (as optax.apply_if_finite does) leaves EMA teachers, queues and batch statistics poisoned.
"""

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError


@dataclass(frozen=True)
class GuardRule:
    """A step is refused if its loss or gradient norm is not finite, or its norm exceeds `spike_factor` x the running mean of accepted
    norms.

    spike_factor 0 turns the second test off; it starts after `spike_after` accepted steps. `max_in_a_row` refused steps end the run: from
    then on every step is refused, so that the loop, which reads metrics late, still finds the state as it was.
    """

    spike_factor: float = 10.0
    spike_after: int = 100
    decay: float = 0.99
    max_in_a_row: int = 10

    def __post_init__(self):
        if self.max_in_a_row < 1:
            raise UserError(f"guard.max_in_a_row={self.max_in_a_row}: it must be 1 or more")


@flax.struct.dataclass
class Guard:
    skipped: jax.Array  # int32: refused steps so far
    in_a_row: jax.Array  # int32: refused steps since the last accepted one
    accepted: jax.Array  # int32: accepted steps that updated something
    norm_mean: jax.Array  # float32: running mean of accepted gradient norms

    @classmethod
    def fresh(cls) -> "Guard":
        zero = jnp.zeros((), jnp.int32)
        return cls(skipped=zero, in_a_row=zero, accepted=zero, norm_mean=jnp.zeros((), jnp.float32))


def judge(guard: Guard, rule: GuardRule, loss: jax.Array, norm: jax.Array, moves: jax.Array | bool = True) -> tuple[jax.Array, Guard]:
    """(accept?, the guard after this step). A step that updates nothing (`moves` of the objective) does not count among the norms: of zeros every
    later step would be a spike.
    """
    accept = jnp.isfinite(loss) & jnp.isfinite(norm) & (guard.in_a_row < rule.max_in_a_row)
    if rule.spike_factor > 0:
        accept &= (guard.accepted < max(rule.spike_after, 1)) | (norm <= rule.spike_factor * guard.norm_mean)
    one, counts = accept.astype(jnp.int32), accept & moves
    # A plain mean while young, an exponential one after: the mean needs no bias correction.
    weight = jnp.maximum(1.0 - rule.decay, 1.0 / (guard.accepted + 1).astype(jnp.float32))
    mean = guard.norm_mean + weight * (norm - guard.norm_mean)
    after = Guard(
        skipped=guard.skipped + (1 - one),
        in_a_row=jnp.where(accept, 0, guard.in_a_row + 1),
        accepted=guard.accepted + counts.astype(jnp.int32),
        norm_mean=jnp.where(counts, mean, guard.norm_mean),
    )
    return accept, after
