"""TimeSformer (Bertasius et al. 2021, https://arxiv.org/abs/2102.05095): divided space-time attention.

The one idea: a token attends to its own place in all frames, then to all places of its own frame, in place of all tokens at once: T + S
scores for each, not T * S. A class token belongs to no frame: every frame gets a copy of it, and what the copies learn is averaged.

The weights are transformers' (interop/class_token.py).

Letters, where they are not as in batch.py: S places of a frame.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import NORMAL, Attention, BlockConfig, LayerNorm, Mlp, Style, dense, kept, scanned, stochastic_depth
from vssl_jax.models.video_transformer import VideoTransformer, resized
from vssl_jax.models.vit import patchify

STYLE = Style(NORMAL, key_bias=True)


class Divided(nn.Module):
    """One block of divided attention on (class token [B,D], tokens [B,T,S,D]); a carry for nn.scan. Attention in time goes through one more
    linear layer, which starts at zero, so at first the network is one of images (as in the authors' code). Stochastic depth draws for each of
    the three branches.
    """

    heads: int
    hidden: int
    config: BlockConfig

    @nn.compact
    def __call__(self, carry, keep_3xB):
        (cls_BxD, x_BxTxSxD), dtype = carry, self.config.dtype
        b, t, s, d = x_BxTxSxD.shape

        in_time = LayerNorm(dtype, name="time_norm")(jnp.swapaxes(x_BxTxSxD, 1, 2).reshape(b * s, t, d))
        in_time = Attention(self.heads, self.config, STYLE, name="time_attn")(in_time).reshape(b, s, t, d)
        in_time = kept(jnp.swapaxes(in_time, 1, 2), keep_3xB, 0)
        x = x_BxTxSxD + dense(d, dtype, "time_proj", nn.initializers.zeros)(in_time)

        frames = jnp.concatenate([jnp.broadcast_to(cls_BxD[:, None, None], (b, t, 1, d)), x], axis=2).reshape(b * t, s + 1, d)
        frames = Attention(self.heads, self.config, STYLE, name="attn")(LayerNorm(dtype, name="norm1")(frames)).reshape(b, t, s + 1, d)
        frames = kept(frames, keep_3xB, 1)
        cls, x = cls_BxD + jnp.mean(frames[:, :, 0], axis=1), x + frames[:, :, 1:]

        tokens = jnp.concatenate([cls[:, None], x.reshape(b, t * s, d)], axis=1)
        tokens += kept(Mlp(self.hidden, dtype, STYLE, name="mlp")(LayerNorm(dtype, name="norm2")(tokens)), keep_3xB, 2)
        return (tokens[:, 0], tokens[:, 1:].reshape(b, t, s, d)), None


class TimeSformer(VideoTransformer):
    """Fields besides those of VideoTransformer: `patch` is a patch's side in pixels, of one frame."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    frames: int = 8

    @property
    def tubelet(self) -> tuple[int, int, int]:
        """Patches are of one frame."""
        return (1, self.patch, self.patch)

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Tokens after the last norm as a map; `pooled` is the class token, float32. `rng`: one key per example, for stochastic depth."""
        b, (t, h, w) = clip_BxTxHxWx3.shape[0], self.grid_of(clip_BxTxHxWx3)
        x = dense(self.width, self.dtype, "patch_embed", NORMAL)(patchify(clip_BxTxHxWx3, self.tubelet)).reshape(b, t, h * w, -1)
        frames, rows, columns = self.grid
        places = self.param("pos_embed", NORMAL, (1 + rows * columns, self.width))
        times = self.param("time_pos_embed", nn.initializers.zeros, (frames, self.width))
        cls = self.param("cls_token", NORMAL, (self.width,)) + places[0]
        places, times = resized(places[1:], (1, rows, columns), (1, h, w)), resized(times, (frames, 1, 1), (t, 1, 1))
        x = x + (places + times[:, None]).astype(self.dtype)
        carry = (jnp.broadcast_to(cls.astype(self.dtype), (b, self.width)), x)
        keep = stochastic_depth(rng, self.drop_path, self.depth, train, branches=3)
        blocks = scanned(Divided, self.depth, self.block_config)(self.heads, self.hidden, self.block_config, name="blocks")
        (cls, x), _ = blocks(carry, keep)
        norm = LayerNorm(self.dtype, name="norm")
        tokens = norm(jnp.concatenate([cls[:, None], x.reshape(b, t * h * w, -1)], axis=1))
        return Features(tokens[:, 1:].reshape(b, t, h, w, -1), tokens[:, 0].astype(jnp.float32))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
