"""From the feature maps of a video's blocks to what comes next, place by place: a recurrent network that has no kernel in space, and predicts with
the very features that it reads (dense predictive coding: Han et al. 2019, https://arxiv.org/abs/1909.04656, section 3; with a memory, and backward
in time too: Han et al. 2020, https://arxiv.org/abs/2008.01065, section 3).

Letters besides those of batch.py: N blocks of a clip, P of them predicted, H x W places of a map, R rows of the memory.

The authors' backbones end without a ReLU: a map as it is is a target, and after a ReLU the recurrent network's input. Ours end with a ReLU, or have
none (transformers). So that both work, and all, a linear layer on the map stands where their last convolution does, and gives it their width.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import BELOW_1, UserError, at_least, check_limits
from vssl_jax.models.heads import dropout

FORWARD, BACKWARD = "forward", "backward"


class Told(NamedTuple):
    """One direction in time. Step p of both is the same block: the p-th that was not seen."""

    said_BxPxHxWxD: jax.Array
    target_BxPxHxWxD: jax.Array


class Predicted(NamedTuple):
    """`target` of all blocks, in their order, and the predictions by direction."""

    target_BxNxHxWxD: jax.Array
    told: dict[str, Told]


class ConvGRU(nn.Module):
    """One step of a gated recurrent unit (Cho et al. 2014) with 1x1 convolutions: the state [B,H,W,width] after the input [B,H,W,C].

    `gain`: of its orthogonal kernels.
    """

    width: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array, state_BxHxWxD: jax.Array) -> jax.Array:
        def gate(name, state):
            init = nn.initializers.orthogonal(self.gain)
            return nn.Dense(self.width, kernel_init=init, name=name)(jnp.concatenate([x_BxHxWxC, state], axis=-1))

        update = nn.sigmoid(gate("update", state_BxHxWxD))
        reset = nn.sigmoid(gate("reset", state_BxHxWxD))
        return (1 - update) * state_BxHxWxD + update * jnp.tanh(gate("new", reset * state_BxHxWxD))


class Predictive(nn.Module):
    """Maps [B,N,H,W,C] of a clip's blocks -> `Predicted`, float32, D = `dim`.

        Step 1) targets: a linear layer on the maps
        Step 2) the state after the first N - P blocks, the ReLU of whose targets it reads
        Step 3) `predicted` times: two layers make the next block's target of the state; the state reads the ReLU of that, as if it had seen it

    With `memory_rows` above 0 (MemDPC) what the two layers make is a softmax over so many rows that are learned, and the prediction the rows' mean
    by it; and all is done a second time backward, from the last blocks to the first, with a recurrent network of its own.

    Gradients pass the targets, as in the authors' code. `dropout` is that of the state, after every step. Kernels start orthogonal, those of MemDPC
    with a gain of .1.
    """

    dim: int = 256
    predicted: int = 3
    memory_rows: int = 0
    dropout: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_limits(
            "objective",
            dim=(self.dim, at_least(1)),
            predicted=(self.predicted, at_least(1)),
            memory_rows=(self.memory_rows, at_least(0)),
            dropout=(self.dropout, BELOW_1),
        )

    @property
    def directions(self) -> tuple[str, ...]:
        return (FORWARD, BACKWARD) if self.memory_rows else (FORWARD,)

    @nn.compact
    def __call__(self, map_BxNxHxWxC: jax.Array, train: bool = False, rng_B: Any = None) -> Predicted:
        """Raises UserError for fewer than `predicted` + 1 blocks. `rng_B`: a key per clip, for dropout in training."""
        if map_BxNxHxWxC.shape[1] <= self.predicted:
            raise UserError(f"of {map_BxNxHxWxC.shape[1]} blocks {self.predicted} cannot be predicted: one at least is seen")
        gain = 0.1 if self.memory_rows else 1.0
        layer = lambda width, name: nn.Dense(width, kernel_init=nn.initializers.orthogonal(gain), name=name)  # noqa: E731
        hidden, out = layer(self.dim, "hidden"), layer(self.memory_rows if self.memory_rows else self.dim, "out")
        rows = nn.Dense(self.dim, use_bias=False, kernel_init=nn.initializers.normal(1.0), name="memory") if self.memory_rows else None

        def tell(state):
            y = out(nn.relu(hidden(state)))
            return rows(nn.softmax(y)) if self.memory_rows else y

        target = nn.Dense(self.dim, kernel_init=nn.initializers.lecun_normal(), name="project")(map_BxNxHxWxC.astype(jnp.float32))
        told, steps = {}, 0
        for direction in self.directions:
            blocks = target if direction == FORWARD else target[:, ::-1]
            gru = ConvGRU(self.dim, gain, name=f"gru_{direction}")
            seen, state, said = blocks.shape[1] - self.predicted, jnp.zeros_like(blocks[:, 0]), []
            for n in range(blocks.shape[1] - 1):  # unrolled: there are few, and each is a small product
                if n >= seen:
                    said.append(tell(state))
                state = gru(nn.relu(said[-1] if n >= seen else blocks[:, n]), state)
                state = dropout(state, self.dropout, train, _folded(rng_B, steps) if train else None)
                steps += 1
            said.append(tell(state))
            told[direction] = Told(jnp.stack(said, axis=1), blocks[:, seen:])
        return Predicted(target, told)


def _folded(rng_B: Any, number: int) -> Any:
    return None if rng_B is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(rng_B)
