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


XAVIER, NORMAL = nn.initializers.xavier_uniform(), nn.initializers.truncated_normal(0.02)  # VideoMAE's; ViT's and its descendants'


def dense(features: int, dtype: Any, name: str, init: Any = XAVIER, use_bias: bool = True) -> nn.Dense:
    """A linear layer; its bias starts at zero."""
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=init, name=name)


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
    """LayerNorm with VideoMAE's epsilon; statistics in float32, and by the two-pass formula, which keeps digits where the mean is large."""
    return nn.LayerNorm(epsilon=LN_EPS, dtype=dtype, use_fast_variance=False, name=name)


def _qkv_init(key, shape, dtype=jnp.float32):
    """Xavier uniform of the one matrix D -> 3 D that query, key and value are in the original code, so fan-out is 3 D."""
    width = shape[0]
    limit = (6 / (width + 3 * width)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


@dataclasses.dataclass(frozen=True)
class Style:
    """What published networks differ in, inside a block: `init` of the kernels, `activation` of the MLP, and `key_bias`, whether the keys have a
    bias too. It cancels in the softmax; it is there because the weights hold one.
    """

    init: Any = XAVIER
    activation: Any = gelu
    key_bias: bool = False


VIDEOMAE = Style()


class QKV(nn.Module):
    """Queries, keys and values of all heads by one matrix product, [B,N,3,H,hd], without bias."""

    heads: int
    dtype: str
    kernel_init: Any = _qkv_init

    @nn.compact
    def __call__(self, x_BxNxD):
        width = x_BxNxD.shape[-1]
        kernel_Dx3xHxhd = self.param("kernel", self.kernel_init, (width, 3, self.heads, width // self.heads))
        return jnp.einsum("bnd,dshe->bnshe", x_BxNxD.astype(self.dtype), kernel_Dx3xHxhd.astype(self.dtype))


class Attention(nn.Module):
    """Multi-head self-attention. Queries and values have a bias, keys have one where the style says so."""

    heads: int
    config: BlockConfig
    style: Style = VIDEOMAE

    @nn.compact
    def __call__(self, x_BxNxD):
        width, dtype, zeros = x_BxNxD.shape[-1], self.config.dtype, nn.initializers.zeros
        shape = (self.heads, width // self.heads)
        if self.style.key_bias:
            qkv_BxNx3xHxhd = QKV(self.heads, dtype, self.style.init, name="qkv")(x_BxNxD)
            qkv_BxNx3xHxhd += self.param("qkv_bias", zeros, (3, *shape)).astype(dtype)
            q, k, v = (qkv_BxNx3xHxhd[:, :, i] for i in range(3))
        else:
            q_bias, v_bias = (self.param(name, zeros, shape).astype(dtype) for name in ("q_bias", "v_bias"))
            qkv_BxNx3xHxhd = QKV(self.heads, dtype, name="qkv")(x_BxNxD)
            q, k, v = (qkv_BxNx3xHxhd[:, :, i] for i in range(3))
            q, v = q + q_bias, v + v_bias
        out_BxNxHxhd = layout.across(functools.partial(attention, impl=self.config.impl), q, k, v)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype, kernel_init=self.style.init, name="proj")(out_BxNxHxhd)


class Mlp(nn.Module):
    """Two linear layers with the activation between them."""

    hidden: int
    dtype: str
    style: Style = VIDEOMAE

    @nn.compact
    def __call__(self, x_BxNxD):
        hidden = self.style.activation(dense(self.hidden, self.dtype, "fc1", self.style.init)(x_BxNxD))
        return dense(x_BxNxD.shape[-1], self.dtype, "fc2", self.style.init)(hidden)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); a carry for nn.scan, so it returns (x, None)."""

    heads: int
    hidden: int
    config: BlockConfig
    style: Style = VIDEOMAE

    @nn.compact
    def __call__(self, x_BxNxD, keep_2xB):
        """`keep` multiplies each example's two residual branches (stochastic depth: 0 or 1 / P(keep)); None is 1."""
        dtype = self.config.dtype

        x_BxNxD = layout.tokens(x_BxNxD)
        attended = Attention(self.heads, self.config, self.style, name="attn")(layer_norm(dtype, "norm1")(x_BxNxD))
        x = x_BxNxD + kept(attended, keep_2xB, 0)
        return layout.tokens(x + kept(Mlp(self.hidden, dtype, self.style, name="mlp")(layer_norm(dtype, "norm2")(x)), keep_2xB, 1)), None


def kept(y_Bx: jax.Array, keep_2xB: jax.Array | None, branch: int) -> jax.Array:
    """A residual branch [B, ...] times each example's multiplier (stochastic depth)."""
    return y_Bx if keep_2xB is None else y_Bx * keep_2xB[branch].reshape(-1, *(1,) * (y_Bx.ndim - 1)).astype(y_Bx.dtype)


def scanned(block: type[nn.Module], depth: int, config: BlockConfig) -> Any:
    """A constructor, with the block's own fields, of `depth` blocks as one module (carry, keep [L,2,B] or None) -> (carry, None), every
    parameter stacked [L, ...].
    """
    if config.remat != "none":
        block = nn.remat(block, policy=REMAT[config.remat], prevent_cse=not config.scan)
    unroll = config.unroll if config.scan else depth
    return nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=depth, unroll=unroll)


def block_stack(depth: int, heads: int, hidden: int, config: BlockConfig, name: str | None = None, style: Style = VIDEOMAE) -> nn.Module:
    """`depth` blocks as one module (x [B,N,D], keep [L,2,B] or None) -> (x, None)."""
    return scanned(Block, depth, config)(heads, hidden, config, style, name=name)


def stochastic_depth(rng_B: jax.Array | None, rate: float, depth: int, train: bool) -> jax.Array | None:
    """The multipliers of a training pass; None in evaluation, and at rate 0. Raises ValueError where the keys are missing."""
    if not train or rate == 0:
        return None
    if rng_B is None:
        raise ValueError("drop_path needs rng: one key per example")
    return drop_path_keep(rng_B, rate, depth)


def drop_path_keep(rng_B: jax.Array, rate: float, depth: int) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): multipliers [L, 2, B] of the residual branches, per example, the rate growing from 0 to
    `rate` over the layers.

    `rng_B` is one key per example, so the draws do not depend on which examples share the batch.
    """
    rates_L = jnp.linspace(0.0, rate, depth)
    uniform_BxLx2 = jax.vmap(lambda key: jax.random.uniform(key, (depth, 2)))(rng_B)
    keep_L = 1.0 - rates_L
    return jnp.moveaxis((uniform_BxLx2 < keep_L[:, None]) / keep_L[:, None], 0, 2)
