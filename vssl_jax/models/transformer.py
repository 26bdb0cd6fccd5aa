"""The pre-norm transformer blocks that encoder, decoder and predictor share.

The one idea: a stack of blocks is one block scanned over parameters stacked [L, ...], so that compile time does not grow with depth.
`scan=False` unrolls the same scan: the tree of parameters, and the weights in it, are the same.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import unknown_name
from vssl_jax.models import layout
from vssl_jax.models.attention import attention

LN_EPS = 1e-6

REMAT = {  # what a block keeps for the backward pass; the rest is recomputed
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """How blocks compute: `dtype` of activations, attention `impl` (models/attention.py), `scan` over layers with `unroll` of them per
    iteration, `remat`.
    """

    dtype: str = "float32"
    impl: str = "auto"
    scan: bool = True
    unroll: int = 1
    remat: str = "none"

    def __post_init__(self):
        if self.remat not in REMAT:
            raise unknown_name("remat", self.remat, REMAT)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x Phi(x). By erf: jax.nn.gelu's erfc costs more and differs in the last digit only."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * jnp.asarray(0.5**0.5, x.dtype)))


def dense(features: int, dtype: Any, name: str, use_bias: bool = True) -> nn.Dense:
    """A linear layer initialized as VideoMAE's: Xavier uniform, bias zero."""
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
    """LayerNorm with VideoMAE's epsilon; statistics in float32, and by the two-pass formula, which keeps digits where the mean is large."""
    return nn.LayerNorm(epsilon=LN_EPS, dtype=dtype, use_fast_variance=False, name=name)


def _qkv_init(key, shape, dtype=jnp.float32):
    """Xavier uniform of the one matrix D -> 3 D that query, key and value are in the original code, so fan-out is 3 D."""
    width = shape[0]
    limit = (6 / (width + 3 * width)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


class QKV(nn.Module):
    """Queries, keys and values of all heads by one matrix product, [B,N,3,H,hd], without bias."""

    heads: int
    dtype: str

    @nn.compact
    def __call__(self, x_BxNxD):
        width = x_BxNxD.shape[-1]
        kernel_Dx3xHxhd = self.param("kernel", _qkv_init, (width, 3, self.heads, width // self.heads))
        return jnp.einsum("bnd,dshe->bnshe", x_BxNxD.astype(self.dtype), kernel_Dx3xHxhd.astype(self.dtype))


class Attention(nn.Module):
    """Multi-head self-attention. Queries and values have a bias, keys have none: it would cancel in the softmax."""

    heads: int
    dtype: str
    impl: str

    @nn.compact
    def __call__(self, x_BxNxD):
        width = x_BxNxD.shape[-1]
        q_bias, v_bias = (self.param(name, nn.initializers.zeros, (self.heads, width // self.heads)) for name in ("q_bias", "v_bias"))
        qkv_BxNx3xHxhd = QKV(self.heads, self.dtype, name="qkv")(x_BxNxD)
        q, k, v = (qkv_BxNx3xHxhd[:, :, i] for i in range(3))
        q, v = q + q_bias.astype(q.dtype), v + v_bias.astype(v.dtype)
        out_BxNxHxhd = layout.across(functools.partial(attention, impl=self.impl), q, k, v)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="proj")(
            out_BxNxHxhd
        )


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x_BxNxD):
        hidden = gelu(dense(self.hidden, self.dtype, "fc1")(x_BxNxD))
        return dense(x_BxNxD.shape[-1], self.dtype, "fc2")(hidden)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); a carry for nn.scan, so it returns (x, None)."""

    heads: int
    hidden: int
    config: BlockConfig

    @nn.compact
    def __call__(self, x_BxNxD, keep_2xB):
        """`keep` multiplies each example's two residual branches (stochastic depth: 0 or 1 / P(keep)); None is 1."""
        dtype = self.config.dtype

        def branch(i, y):
            return y if keep_2xB is None else y * keep_2xB[i, :, None, None].astype(dtype)

        x_BxNxD = layout.tokens(x_BxNxD)
        x = x_BxNxD + branch(0, Attention(self.heads, dtype, self.config.impl, name="attn")(layer_norm(dtype, "norm1")(x_BxNxD)))
        return layout.tokens(x + branch(1, Mlp(self.hidden, dtype, name="mlp")(layer_norm(dtype, "norm2")(x)))), None


def block_stack(depth: int, heads: int, hidden: int, config: BlockConfig, name: str | None = None) -> nn.Module:
    """`depth` blocks as one module (x [B,N,D], keep [L,2,B] or None) -> (x, None), every parameter stacked [L, ...]."""
    block = Block
    if config.remat != "none":
        block = nn.remat(Block, policy=REMAT[config.remat], prevent_cse=not config.scan)
    stack = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=depth,
        unroll=config.unroll if config.scan else depth,
    )
    return stack(heads, hidden, config, name=name)


def drop_path_keep(rng_B: jax.Array, rate: float, depth: int) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): multipliers [L, 2, B] of the residual branches, per example, the rate growing from 0 to
    `rate` over the layers.

    `rng_B` is one key per example, so the draws do not depend on which examples share the batch.
    """
    rates_L = jnp.linspace(0.0, rate, depth)
    uniform_BxLx2 = jax.vmap(lambda key: jax.random.uniform(key, (depth, 2)))(rng_B)
    keep_L = 1.0 - rates_L
    return jnp.moveaxis((uniform_BxLx2 < keep_L[:, None]) / keep_L[:, None], 0, 2)
