"""Clips without their order: what a model can know from frames alone.

Trained and tested on such clips, a model is a probe for leaks: whatever it gets right is not read from how things move.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import unknown_name
from vssl_jax.perturb import keys as keys_lib


def shuffled(key: jax.Array, clip_TxHxWxC: jax.Array) -> jax.Array:
    """The same frames in a random order."""
    return jax.random.permutation(key, clip_TxHxWxC, axis=0)


def single(key: jax.Array, clip_TxHxWxC: jax.Array) -> jax.Array:
    """One random frame, shown T times."""
    frame = jax.random.randint(key, (), 0, clip_TxHxWxC.shape[0])
    return jnp.broadcast_to(clip_TxHxWxC[frame], clip_TxHxWxC.shape)


def mean(key: jax.Array, clip_TxHxWxC: jax.Array) -> jax.Array:
    """The mean of the frames, shown T times."""
    return jnp.broadcast_to(jnp.mean(clip_TxHxWxC, axis=0), clip_TxHxWxC.shape)


ORDER_FREE: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"shuffled": shuffled, "single": single, "mean": mean}


@dataclass(frozen=True)
class OrderFree:
    """A view (RandomView or EvalView) whose clips have lost their order in the way that `how` names.

    The draws of an evaluation view come from the videos' INDEX, so that testing draws nothing anew.
    """

    view: Any
    how: str

    def __post_init__(self):
        if self.how not in ORDER_FREE:
            raise unknown_name("order-free view", self.how, ORDER_FREE)

    @property
    def size(self):
        return self.view.size

    def __call__(self, *args) -> jax.Array:
        """As the view is called: (keys_B, batch) or (batch,)."""
        clip_BxKxTxHxWxC = self.view(*args)
        if len(args) == 2:
            keys_B = jax.vmap(keys_lib.apart)(args[0])  # the view drew from these
        else:
            keys_B = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), args[0][batch_lib.INDEX])
        keys_BxK = keys_lib.unit_keys(keys_B, clip_BxKxTxHxWxC.shape[1])
        return jax.vmap(jax.vmap(ORDER_FREE[self.how]))(keys_BxK, clip_BxKxTxHxWxC)
