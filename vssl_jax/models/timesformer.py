"""TimeSformer (Bertasius et al. 2021, https://arxiv.org/abs/2102.05095): divided space-time attention.

The one idea: a token attends to its own place in all frames, then to all places of its own frame, in place of all tokens at once: T + S
scores for each, not T * S. A class token belongs to no frame: every frame gets a copy of it, and what the copies learn is averaged.

The weights are transformers' (interop/timesformer.py).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.attention import attention
from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import REMAT, BlockConfig, drop_path_keep, gelu, layer_norm
from vssl_jax.models.vit import patchify
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

INIT = nn.initializers.truncated_normal(0.02)


def linear(features: int, dtype: Any, name: str, kernel_init=INIT) -> nn.Dense:
    """A linear layer initialized as ViT's: a normal of .02, bias zero."""
    return nn.Dense(features, dtype=dtype, kernel_init=kernel_init, name=name)


class QKV(nn.Module):
    """Queries, keys and values of all heads by one matrix product, [B,N,3,H,hd]."""

    heads: int
    dtype: str

    @nn.compact
    def __call__(self, x_BxNxD):
        width = x_BxNxD.shape[-1]
        kernel_Dx3xHxhd = self.param("kernel", INIT, (width, 3, self.heads, width // self.heads))
        return jnp.einsum("bnd,dshe->bnshe", x_BxNxD.astype(self.dtype), kernel_Dx3xHxhd.astype(self.dtype))


class BiasedAttention(nn.Module):
    """Multi-head self-attention. The bias of the keys cancels in the softmax; it is here because the published weights hold one."""

    heads: int
    config: BlockConfig

    @nn.compact
    def __call__(self, x_BxNxD):
        width = x_BxNxD.shape[-1]
        bias_3xHxhd = self.param("qkv_bias", nn.initializers.zeros, (3, self.heads, width // self.heads))
        qkv_BxNx3xHxhd = QKV(self.heads, self.config.dtype, name="qkv")(x_BxNxD) + bias_3xHxhd.astype(self.config.dtype)
        out_BxNxHxhd = attention(*(qkv_BxNx3xHxhd[:, :, i] for i in range(3)), self.config.impl)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=self.config.dtype, kernel_init=INIT, name="proj")(out_BxNxHxhd)


class Mlp(nn.Module):
    """Two linear layers with the activation between them."""

    hidden: int
    dtype: str
    activation: Any = gelu

    @nn.compact
    def __call__(self, x_BxNxD):
        hidden = self.activation(linear(self.hidden, self.dtype, "fc1")(x_BxNxD))
        return linear(x_BxNxD.shape[-1], self.dtype, "fc2")(hidden)


class Divided(nn.Module):
    """One block of divided attention on (class token [B,D], tokens [B,T,S,D]); a carry for nn.scan. Attention in time goes through one more
    linear layer, which starts at zero, so at first the network is one of images (section 3.3 of the public code; there its first block's does
    not).
    """

    heads: int
    hidden: int
    config: BlockConfig

    @nn.compact
    def __call__(self, carry, keep_2xB):
        (cls_BxD, x_BxTxSxD), dtype = carry, self.config.dtype
        b, t, s, d = x_BxTxSxD.shape

        def branch(i, y):
            return y if keep_2xB is None else y * keep_2xB[i].reshape(-1, *(1,) * (y.ndim - 1)).astype(dtype)

        in_time = layer_norm(dtype, "time_norm")(jnp.swapaxes(x_BxTxSxD, 1, 2).reshape(b * s, t, d))
        in_time = BiasedAttention(self.heads, self.config, name="time_attn")(in_time).reshape(b, s, t, d)
        x = x_BxTxSxD + linear(d, dtype, "time_proj", nn.initializers.zeros)(branch(0, jnp.swapaxes(in_time, 1, 2)))

        frames = jnp.concatenate([jnp.broadcast_to(cls_BxD[:, None, None], (b, t, 1, d)), x], axis=2).reshape(b * t, s + 1, d)
        frames = BiasedAttention(self.heads, self.config, name="attn")(layer_norm(dtype, "norm1")(frames)).reshape(b, t, s + 1, d)
        frames = branch(0, frames)
        cls, x = cls_BxD + jnp.mean(frames[:, :, 0], axis=1), x + frames[:, :, 1:]

        tokens = jnp.concatenate([cls[:, None], x.reshape(b, t * s, d)], axis=1)
        tokens += branch(1, Mlp(self.hidden, dtype, name="mlp")(layer_norm(dtype, "norm2")(tokens)))
        return (tokens[:, 0], tokens[:, 1:].reshape(b, t, s, d)), None


def stack(block: type[nn.Module], depth: int, config: BlockConfig):
    """A constructor of `depth` blocks scanned over parameters stacked [L, ...], (carry, keep [L,2,B] or None) -> (carry, None)."""
    if config.remat != "none":
        block = nn.remat(block, policy=REMAT[config.remat], prevent_cse=not config.scan)
    unroll = config.unroll if config.scan else depth
    return nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=depth, unroll=unroll)


class TimeSformer(nn.Module):
    """Fields: `width`, `depth`, `heads`, `mlp_ratio` size the blocks; `patch` is a patch's side in pixels, of one frame; `frames`, `size`
    (rows = columns), `pixel_mean` and `pixel_std` say what clips it takes; `drop_path` is the last layer's rate of stochastic depth; the rest
    is BlockConfig.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    frames: int = 8
    size: int = 224
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    drop_path: float = 0.0
    dtype: str = "float32"
    impl: str = "auto"
    scan: bool = True
    unroll: int = 1
    remat: str = "none"

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise UserError(f"model width {self.width} is not a multiple of its {self.heads} heads: choose one that is")
        if self.size % self.patch:
            raise UserError(f"frames of {self.size}x{self.size} are no whole number of {self.patch}x{self.patch} patches")

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along (time, rows, columns)."""
        return (self.frames, self.size // self.patch, self.size // self.patch)

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Tokens after the last norm as a map; `pooled` is the class token, float32. `rng`: one key per example, for stochastic depth."""
        expected = (self.frames, self.size, self.size, 3)
        if clip_BxTxHxWx3.shape[1:] != expected:
            raise UserError(f"the model takes clips of (frames, rows, columns, channels) {expected}, got {clip_BxTxHxWx3.shape[1:]}")
        b, (t, h, w) = clip_BxTxHxWx3.shape[0], self.grid
        config = BlockConfig(self.dtype, self.impl, self.scan, self.unroll, self.remat)
        x = linear(self.width, self.dtype, "patch_embed")(patchify(clip_BxTxHxWx3, (1, self.patch, self.patch))).reshape(b, t, h * w, -1)
        places = self.param("pos_embed", INIT, (1 + h * w, self.width))
        times = self.param("time_pos_embed", nn.initializers.zeros, (t, self.width))
        cls = self.param("cls_token", INIT, (self.width,)) + places[0]
        x = x + (places[None, 1:] + times[:, None]).astype(self.dtype)
        keep = None
        if train and self.drop_path > 0:
            if rng is None:
                raise ValueError("drop_path needs rng: one key per example")
            keep = drop_path_keep(rng, self.drop_path, self.depth)
        carry = (jnp.broadcast_to(cls.astype(self.dtype), (b, self.width)), x)
        blocks = stack(Divided, self.depth, config)(self.heads, round(self.width * self.mlp_ratio), config, name="blocks")
        (cls, x), _ = blocks(carry, keep)
        norm = layer_norm(self.dtype, "norm")
        tokens = norm(jnp.concatenate([cls[:, None], x.reshape(b, t * h * w, -1)], axis=1))
        return Features(tokens[:, 1:].reshape(b, t, h, w, -1), tokens[:, 0].astype(jnp.float32))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
