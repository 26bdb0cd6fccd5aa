"""The pre-norm transformer blocks that encoder, decoder and predictor share.

The one idea: a stack of blocks is one block scanned over parameters stacked [L, ...], so that compile time does not grow with depth.
Unrolled, it is the same scan: the tree of parameters, and the weights in it, are the same.

What is written by hand here, and why: on a GPU more than a third of a step was neither matrix products nor attention, but memory traffic around them (ViT-B
pretraining on an H200; README, "On a GPU"). LayerNorm's gradient as autodiff makes it writes float32 copies of all activations, GELU's keeps one, and
one product of queries, keys and values is copied apart and its gradient together. `product` is for a CPU.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.models import layout
from vssl_jax.models.attention import attention
from vssl_jax.platform import platform

LN_EPS = 1e-6
SHALLOW = 4  # layers that compile as fast unrolled as in a loop

REMAT = {  # what a block keeps for the backward pass; the rest is recomputed
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """How blocks compute: `dtype` of activations, attention `impl` (models/attention.py), `unroll` layers per iteration of the scan, `remat`.

    `unroll=0` is all of them on a GPU, where a scan copies what it keeps for the backward pass (ViT-B on an H200: 1.4 times the time of a step,
    and nearly twice the memory), all of up to `SHALLOW` on a CPU, where these copies are a tenth of a small network's step and none of ViT-B's, and one
    elsewhere. `remat='auto'` is `chosen_remat`.
    """

    dtype: str = "float32"
    impl: str = "auto"
    unroll: int = 0
    remat: str = "auto"

    def __post_init__(self):
        if self.remat not in ("auto", *REMAT):
            raise unknown_name("remat", self.remat, ["auto", *REMAT])
        if self.unroll < 0:
            raise UserError(f"model.unroll is {self.unroll}: it is how many layers an iteration has, or 0 for what suits the device")

    def unrolled(self, depth: int) -> int:
        """Layers per iteration, of `depth`."""
        most = {"gpu": depth, "cpu": SHALLOW}.get(platform(), 1)
        return min(depth, self.unroll or (depth if depth <= most else 1))


def chosen_remat(remat: str) -> str:
    """'auto' is 'dots' on a TPU, where by the roofline it takes from .87 to 1.02 times as long as 'none', and less memory
    (vssl_jax/aot_table.py has the figures); on a GPU and a CPU it is 'none'.
    """
    if remat != "auto":
        return remat
    return "dots" if platform() == "tpu" else "none"


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x Phi(x). In half precision Phi is good to 2e-7."""
    return (x * _normal(x)[0]).astype(x.dtype)


def _gelu_gradient(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    # Without the barrier the exponential of the forward pass is found again, and kept for this in float32: to write and read it costs more than to make it.
    x = jax.lax.optimization_barrier(x)
    below, density = _normal(x)
    return ((dy * (below + x * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_gradient)


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The normal distribution's Phi(x) and density, float32. Of half precision by one exponential for both, and a polynomial for the tail (Abramowitz
    and Stegun 1964, 7.1.26: |error| of erf <= 1.5e-7).
    """
    half = x.dtype in (jnp.bfloat16, jnp.float16)
    x = x.astype(jnp.float32)
    exponential = jnp.exp(-0.5 * x * x)
    density = exponential * (2 * math.pi) ** -0.5
    if not half:
        return 0.5 * (1.0 + jax.lax.erf(x * 0.5**0.5)), density
    root = jax.lax.rsqrt(1.0 + 0.3275911 * 0.5**0.5 * jnp.abs(x))  # squared: 1 / (1 + p z), without a division
    t = root * root
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * series * exponential
    return jnp.where(x < 0, tail, 1.0 - tail), density


XAVIER, NORMAL = nn.initializers.xavier_uniform(), nn.initializers.truncated_normal(0.02)  # VideoMAE's; ViT's and its descendants'


def product(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """`jax.lax.dot_general` of a linear layer: the last axes of x [..., D] with the first of a kernel, no others. On one CPU x is a matrix for it: of more
    axes, XLA copies the output's gradient transposed for the kernel's, with which forward and backward took 1.06 times as long (ViT-B pretraining). On a
    mesh, rows and tokens that are split over devices would not merge without a gather.
    """
    (axes, _), _ = dimension_numbers
    if platform() != "cpu" or lhs.ndim == len(axes) + 1 or not layout.alone():
        return jax.lax.dot_general(lhs, rhs, dimension_numbers, **options)
    if tuple(axes) != tuple(range(lhs.ndim - len(axes), lhs.ndim)):
        raise ValueError(f"the axes {axes} of x are not its last")
    outer, width = lhs.shape[: -len(axes)], math.prod(rhs.shape[: len(axes)])
    y = jax.lax.dot_general(lhs.reshape(-1, width), rhs.reshape(width, -1), (((1,), (0,)), ((), ())), **options)
    return y.reshape(*outer, *rhs.shape[len(axes) :])


def dense(features: int, dtype: Any, name: str, init: Any = XAVIER, use_bias: bool = True) -> nn.Dense:
    """A linear layer; its bias starts at zero."""
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=init, name=name, dot_general=product)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_normalize(x_BxD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, epsilon: float, dtype: Any) -> jax.Array:
    """LayerNorm over the last axis of [..., D]: statistics in float32 by the two-pass formula, which keeps digits where the mean is large; the result in
    `dtype`.
    """
    return _layer_normalize(x_BxD, scale_D, bias_D, epsilon, dtype)[0]


def _layer_normalize(x_BxD, scale_D, bias_D, epsilon, dtype):
    x = x_BxD.astype(jnp.float32)
    centered = x - (mean := jnp.mean(x, axis=-1, keepdims=True))
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centered), axis=-1, keepdims=True) + epsilon)
    return (centered * inverse * scale_D + bias_D).astype(dtype), (x_BxD, scale_D, mean, inverse)


def _layer_normalize_gradient(epsilon, dtype, kept_values, dy_BxD):
    x_BxD, scale_D, mean, inverse = kept_values
    # Without the barrier XLA makes them anew from x in a kernel that sums along rows, and hands dy * unit from there to the sums over rows in float32.
    mean, inverse = jax.lax.optimization_barrier((mean, inverse))
    unit, dy = (x_BxD.astype(jnp.float32) - mean) * inverse, dy_BxD.astype(jnp.float32)
    dunit, rows = dy * scale_D, tuple(range(dy.ndim - 1))
    along = jnp.mean(dunit * unit, axis=-1, keepdims=True)
    dx = inverse * (dunit - jnp.mean(dunit, axis=-1, keepdims=True) - unit * along)
    return dx.astype(x_BxD.dtype), jnp.sum(dy * unit, axis=rows), jnp.sum(dy, axis=rows)


layer_normalize.defvjp(_layer_normalize, _layer_normalize_gradient)


class LayerNorm(nn.Module):
    """LayerNorm with VideoMAE's epsilon, of which the gradient is one formula of (x, mean, deviation)."""

    dtype: Any

    @nn.compact
    def __call__(self, x_BxD):
        width = x_BxD.shape[-1]
        scale_D, bias_D = self.param("scale", nn.initializers.ones, (width,)), self.param("bias", nn.initializers.zeros, (width,))
        return layer_normalize(x_BxD, scale_D, bias_D, LN_EPS, jnp.dtype(self.dtype))


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
    """Queries, keys and values of all heads, each [B,N,H,hd], from one kernel [D,3,H,hd] and a bias [H,hd] or None for each. By three matrix products: the
    parts of one product would be copied apart, and their gradients together.
    """

    heads: int
    dtype: str
    kernel_init: Any = _qkv_init

    @nn.compact
    def __call__(self, x_BxNxD, *biases):
        width, shape = x_BxNxD.shape[-1], (self.heads, x_BxNxD.shape[-1] // self.heads)
        kernel_Dx3xHxhd = self.param("kernel", self.kernel_init, (width, 3, *shape)).astype(self.dtype)

        def one(part, bias_Hxhd):
            dimension_numbers = ((x_BxNxD.ndim - 1,), (0,)), ((), ())
            y_BxNxD = product(x_BxNxD.astype(self.dtype), kernel_Dx3xHxhd[:, part].reshape(width, width), dimension_numbers)
            # added before heads are told apart: a GPU's product takes it along
            y_BxNxD = y_BxNxD if bias_Hxhd is None else y_BxNxD + bias_Hxhd.astype(self.dtype).reshape(width)
            return y_BxNxD.reshape(*y_BxNxD.shape[:-1], *shape)

        return tuple(one(part, bias) for part, bias in enumerate(biases))


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
            biases, init = tuple(self.param("qkv_bias", zeros, (3, *shape))), self.style.init
        else:
            q_bias, v_bias = (self.param(name, zeros, shape) for name in ("q_bias", "v_bias"))
            biases, init = (q_bias, None, v_bias), _qkv_init
        q, k, v = QKV(self.heads, dtype, init, name="qkv")(x_BxNxD, *biases)
        out_BxNxHxhd = layout.across(functools.partial(attention, impl=self.config.impl), q, k, v)
        project = nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype, kernel_init=self.style.init, name="proj", dot_general=product)
        return project(out_BxNxHxhd)


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
        attended = Attention(self.heads, self.config, self.style, name="attn")(LayerNorm(dtype, name="norm1")(x_BxNxD))
        x = x_BxNxD + kept(attended, keep_2xB, 0)
        return layout.tokens(
            x + kept(Mlp(self.hidden, dtype, self.style, name="mlp")(LayerNorm(dtype, name="norm2")(x)), keep_2xB, 1)
        ), None


def kept(y_Bx: jax.Array, keep_RxB: jax.Array | None, branch: int) -> jax.Array:
    """A residual branch [B, ...], one of R, times each example's multiplier (stochastic depth)."""
    return y_Bx if keep_RxB is None else y_Bx * keep_RxB[branch].reshape(-1, *(1,) * (y_Bx.ndim - 1)).astype(y_Bx.dtype)


def scanned(block: type[nn.Module], depth: int, config: BlockConfig) -> Any:
    """A constructor, with the block's own fields, of `depth` blocks as one module (carry, keep [L,R,B] or None) -> (carry, None), every
    parameter stacked [L, ...].
    """
    unroll, remat = config.unrolled(depth), chosen_remat(config.remat)
    if remat != "none":
        block = nn.remat(block, policy=REMAT[remat], prevent_cse=2 * unroll > depth)  # a loop of one turn is none
    return nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=depth, unroll=unroll)


def block_stack(depth: int, heads: int, hidden: int, config: BlockConfig, name: str | None = None, style: Style = VIDEOMAE) -> nn.Module:
    """`depth` blocks as one module (x [B,N,D], keep [L,2,B] or None) -> (x, None)."""
    return scanned(Block, depth, config)(heads, hidden, config, style, name=name)


def stochastic_depth(rng_B: jax.Array | None, rate: float, depth: int, train: bool, branches: int = 2) -> jax.Array | None:
    """The multipliers of a training pass; None in evaluation, and at rate 0. Raises ValueError where the keys are missing."""
    if not train or rate == 0:
        return None
    if rng_B is None:
        raise ValueError("drop_path needs rng: one key per example")
    return drop_path_keep(rng_B, rate, depth, branches)


def drop_path_keep(rng_B: jax.Array, rate: float, depth: int, branches: int = 2) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): multipliers [L, R, B] of the R residual branches of a block, per example, the rate growing from
    0 to `rate` over the layers.

    `rng_B` is one key per example, so the draws do not depend on which examples share the batch.
    """
    rates_L = jnp.linspace(0.0, rate, depth)
    uniform_BxLxR = jax.vmap(lambda key: jax.random.uniform(key, (depth, branches)))(rng_B)
    keep_L = 1.0 - rates_L
    return jnp.moveaxis((uniform_BxLxR < keep_L[:, None]) / keep_L[:, None], 0, 2)
