"""Random keys per example: a draw belongs to a row of the global batch, not to the device or micro-batch that happens to hold the row.

The train step writes each row's place in the global batch into `batch["slot"]`. Keys are folded from (step's key, purpose, slot), so any
split of the batch over devices, hosts or accumulation steps draws the same numbers.
"""

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib

# What a key is for. Every objective folds these in first, so that two uses in one step never share a draw. Another number is another draw: they stay.
VIEW, MASK, DROPOUT, MIX, SPEED, TASK, LABEL = 0, 1, 3, 4, 6, 7, 8


def example_keys(rng: jax.Array, batch: batch_lib.Batch, purpose: int) -> jax.Array:
    """One key per row of the batch, the same for a row wherever it is computed.

    Args:
        rng: the step's key.
        batch: gives B, and the rows' places in the global batch (SLOT); without SLOT the rows count from 0.
        purpose: a small constant such as VIEW or MASK.

    Returns:
        keys_B, of rng's kind.
    """
    slot_B = batch[batch_lib.SLOT] if batch_lib.SLOT in batch else jnp.arange(next(iter(batch.values())).shape[0], dtype=jnp.int32)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(rng, purpose), slot_B)


def apart(key: jax.Array) -> jax.Array:
    """A key that is none of those which splitting `key` gives, or folding it with a number of clips or frames: those two are the same keys."""
    return jax.random.fold_in(key, 0x7FFFFFFF)


def unit_keys(keys_B: jax.Array, units: int) -> jax.Array:
    """keys_BxU: each example's key folded with 0..U-1, for draws per clip or per frame of a video."""
    fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
    return fold(keys_B, jnp.arange(units, dtype=jnp.int32))


def clip_keys(keys_B: jax.Array, clips: int) -> jax.Array:
    """Keys for objectives that flatten K into B: [B*K], row b*K+k belongs to clip k of video b."""
    keys_BxK = unit_keys(keys_B, clips)
    return keys_BxK.reshape(-1, *keys_BxK.shape[2:])
