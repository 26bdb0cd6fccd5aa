"""ViViT (Arnab et al. 2021, https://arxiv.org/abs/2103.15691) with a class token, in two of its variants.

The one idea: where time and space meet.

    temporal_depth 0   model 1, all tokens attend to all. This one, and only this one, is transformers' VivitModel (interop/class_token.py).
    temporal_depth L   model 2, the factorised encoder: the tokens of one time slot attend to each other only, and L more blocks, with a class
                       token of their own, read the slots' class tokens (section 3.3; 4 in the paper)
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import NORMAL, LayerNorm, Style, block_stack, dense, stochastic_depth
from vssl_jax.models.video_transformer import VideoTransformer, resized
from vssl_jax.models.vit import patchify


def fast_gelu(x: jax.Array) -> jax.Array:
    """The GELU by tanh, which the published weights were trained with."""
    return nn.gelu(x, approximate=True)


STYLE = Style(NORMAL, fast_gelu, key_bias=True)


class ViViT(VideoTransformer):
    """Fields besides those of VideoTransformer: `temporal_depth` chooses the variant; the blocks over time have no stochastic depth."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    temporal_depth: int = 4
    tubelet: tuple[int, int, int] = (2, 16, 16)
    frames: int = 32
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Tokens after the norm of the blocks over space as a map; `pooled` is the last class token, float32. `rng`: one key per example, for
        stochastic depth.
        """
        b, (t, h, w), (frames, rows, columns) = clip_BxTxHxWx3.shape[0], self.grid_of(clip_BxTxHxWx3), self.grid
        x = dense(self.width, self.dtype, "patch_embed", NORMAL)(patchify(clip_BxTxHxWx3, self.tubelet))
        own, here = self.grid, (t, h, w)
        if self.temporal_depth:
            x, own, here = x.reshape(b * t, h * w, -1), (1, rows, columns), (1, h, w)
        keep = stochastic_depth(rng, self.drop_path, self.depth, train)
        if keep is not None:
            keep = jnp.repeat(keep, x.shape[0] // b, axis=2)  # a video's time slots share their draws
        x = self._blocks(x, keep, self.depth, "", own, here)
        cls, tokens = x[:, 0], x[:, 1:].reshape(b, t, h, w, -1)
        if self.temporal_depth:
            cls = self._blocks(cls.reshape(b, t, -1), None, self.temporal_depth, "time_", (frames, 1, 1), (t, 1, 1))[:, 0]
        return Features(tokens, cls.astype(jnp.float32))

    def _blocks(self, x_BxNxD, keep, depth: int, prefix: str, own: tuple[int, int, int], here: tuple[int, int, int]):
        """A class token in front, positions (learned for the tokens `own`, resized to those that are here), blocks and a norm: [B,1+N,D]."""
        b = x_BxNxD.shape[0]
        cls = self.param(f"{prefix}cls_token", NORMAL, (self.width,))
        positions = self.param(f"{prefix}pos_embed", NORMAL, (1 + math.prod(own), self.width))
        positions = jnp.concatenate([positions[:1], resized(positions[1:], own, here)])
        x = jnp.concatenate([jnp.broadcast_to(cls.astype(self.dtype), (b, 1, self.width)), x_BxNxD], axis=1) + positions.astype(self.dtype)
        blocks = block_stack(depth, self.heads, self.hidden, self.block_config, f"{prefix}blocks", STYLE)
        x, _ = blocks(x, keep)
        return LayerNorm(self.dtype, name=f"{prefix}norm")(x)

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
