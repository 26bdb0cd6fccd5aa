"""ViViT (Arnab et al. 2021, https://arxiv.org/abs/2103.15691) with a class token, in two of its variants.

The one idea: where time and space meet.

    temporal_depth 0   model 1, all tokens attend to all. This one, and only this one, is transformers' VivitModel (interop/vivit.py).
    temporal_depth L   model 2, the factorised encoder: the tokens of one time slot attend to each other only, and L more blocks, with a class
                       token of their own, read the slots' class tokens (section 3.3; 4 in the paper)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.backbone import Features
from vssl_jax.models.timesformer import INIT, BiasedAttention, Mlp, linear, stack
from vssl_jax.models.transformer import BlockConfig, drop_path_keep, layer_norm
from vssl_jax.models.vit import patchify


def fast_gelu(x: jax.Array) -> jax.Array:
    """The GELU by tanh, which the published weights were trained with."""
    return nn.gelu(x, approximate=True)


class Joint(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); a carry for nn.scan."""

    heads: int
    hidden: int
    config: BlockConfig

    @nn.compact
    def __call__(self, x_BxNxD, keep_2xB):
        dtype = self.config.dtype

        def branch(i, y):
            return y if keep_2xB is None else y * keep_2xB[i, :, None, None].astype(dtype)

        x = x_BxNxD + branch(0, BiasedAttention(self.heads, self.config, name="attn")(layer_norm(dtype, "norm1")(x_BxNxD)))
        return x + branch(1, Mlp(self.hidden, dtype, fast_gelu, name="mlp")(layer_norm(dtype, "norm2")(x))), None


class ViViT(nn.Module):
    """Fields: `width`, `depth`, `heads`, `mlp_ratio` size the blocks; `temporal_depth` chooses the variant; `tubelet` (frames, rows, columns) of
    a patch; `frames`, `size` (rows = columns), `pixel_mean` and `pixel_std` say what clips it takes; `drop_path` is the last layer's rate of
    stochastic depth, which the blocks over time do not have; the rest is BlockConfig.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    temporal_depth: int = 4
    tubelet: tuple[int, int, int] = (2, 16, 16)
    frames: int = 32
    size: int = 224
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
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
        if self.frames % self.tubelet[0] or self.size % self.tubelet[1] or self.size % self.tubelet[2]:
            raise UserError(
                f"clips of {self.frames} frames of {self.size}x{self.size} are no whole number of {tuple(self.tubelet)} tubelets"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along (time, rows, columns)."""
        return (self.frames // self.tubelet[0], self.size // self.tubelet[1], self.size // self.tubelet[2])

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Tokens after the norm of the blocks over space as a map; `pooled` is the last class token, float32. `rng`: one key per example, for
        stochastic depth.
        """
        expected = (self.frames, self.size, self.size, 3)
        if clip_BxTxHxWx3.shape[1:] != expected:
            raise UserError(f"the model takes clips of (frames, rows, columns, channels) {expected}, got {clip_BxTxHxWx3.shape[1:]}")
        b, (t, h, w) = clip_BxTxHxWx3.shape[0], self.grid
        x = linear(self.width, self.dtype, "patch_embed")(patchify(clip_BxTxHxWx3, self.tubelet))
        if self.temporal_depth:
            x = x.reshape(b * t, h * w, -1)
        keep = None
        if train and self.drop_path > 0:
            if rng is None:
                raise ValueError("drop_path needs rng: one key per example")
            keep = jnp.repeat(drop_path_keep(rng, self.drop_path, self.depth), x.shape[0] // b, axis=2)
        x = self._blocks(x, keep, self.depth, "")
        cls, tokens = x[:, 0], x[:, 1:].reshape(b, t, h, w, -1)
        if self.temporal_depth:
            cls = self._blocks(cls.reshape(b, t, -1), None, self.temporal_depth, "time_")[:, 0]
        return Features(tokens, cls.astype(jnp.float32))

    def _blocks(self, x_BxNxD, keep, depth: int, prefix: str):
        """A class token in front, positions, blocks and a norm: [B,1+N,D]."""
        config = BlockConfig(self.dtype, self.impl, self.scan, self.unroll, self.remat)
        b, n, _ = x_BxNxD.shape
        cls = self.param(f"{prefix}cls_token", INIT, (self.width,))
        positions = self.param(f"{prefix}pos_embed", INIT, (1 + n, self.width))
        x = jnp.concatenate([jnp.broadcast_to(cls.astype(self.dtype), (b, 1, self.width)), x_BxNxD], axis=1) + positions.astype(self.dtype)
        x, _ = stack(Joint, depth, config)(self.heads, round(self.width * self.mlp_ratio), config, name=f"{prefix}blocks")(x, keep)
        return layer_norm(self.dtype, f"{prefix}norm")(x)

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
