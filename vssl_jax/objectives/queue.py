"""Keys of earlier batches as negatives: a ring of unit vectors in the memory (He et al. 2020, section 3.2).

Memory: "queue", float32 [size, D], "pointer", the place of the oldest, and "filled", how many are keys and not the random vectors of the start.
"""

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.projection import unit
from vssl_jax.objectives.protocol import Memory

ENTRIES = QUEUE, POINTER, FILLED = "queue", "pointer", "filled"


def start(rng: jax.Array, size: int, width: int) -> Memory:
    """Random unit vectors."""
    zero = jnp.zeros((), jnp.int32)
    return {QUEUE: unit(jax.random.normal(rng, (size, width))), POINTER: zero, FILLED: jnp.copy(zero)}


def push(memory: Memory, keys_NxD: jax.Array, **beside: jax.Array) -> Memory:
    """The entries above after the keys have taken the place of the oldest; `beside` names more entries [size, ...] of the memory and their new rows. To
    be done once the loss has read them, so that no key is a negative of its own query. Raises UserError where the keys of a batch do not divide the
    queue.
    """
    size, count = len(memory[QUEUE]), len(keys_NxD)
    if size % count:
        raise UserError(
            f"objective.queue is {size}, which the {count} clips of a (micro-)batch do not divide: change it, or train.batch_size"
        )
    place = memory[POINTER] // count * count  # a run may go on with larger batches than it began with
    written = {
        name: jax.lax.dynamic_update_slice(memory[name], jax.lax.stop_gradient(rows), (place, *(0,) * (rows.ndim - 1)))
        for name, rows in {QUEUE: keys_NxD, **beside}.items()
    }
    return written | {POINTER: (place + count) % size, FILLED: jnp.clip(place + count, memory[FILLED], size)}
