"""The video vision transformer of VideoMAE (Tong et al. 2022): tubelets in, tokens out.

The one idea: a masked patch is dropped before anything is computed from it. Patches are gathered from the pixels, then projected, so what
is masked cannot reach a feature, and the encoder's whole cost is that of the visible tenth.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models import positions as positions_lib
from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import LayerNorm, block_stack, product, stochastic_depth
from vssl_jax.models.video_transformer import VideoTransformer, resized


def patchify(clip_BxTxHxWxC: jax.Array, tubelet: tuple[int, int, int]) -> jax.Array:
    """[B,N,P]: tokens in (time, row, column) order, each patch's values in (frame, row, column, channel) order."""
    b, t, h, w, c = clip_BxTxHxWxC.shape
    pt, ph, pw = tubelet
    x = clip_BxTxHxWxC.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, (t // pt) * (h // ph) * (w // pw), pt * ph * pw * c)


def take_tokens(x_BxNxD: jax.Array, ids_BxV: jax.Array) -> jax.Array:
    """[B,V,D]: the tokens `ids` of each example, which must exist: nothing checks."""
    return jnp.take_along_axis(x_BxNxD, ids_BxV[:, :, None], axis=1, mode="promise_in_bounds")


def _torch_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """PyTorch's default of a convolution's weight and bias (Kaiming uniform with a = sqrt 5): uniform in +-1/sqrt(fan in). VideoMAE
    leaves it in place.
    """
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class ViT(VideoTransformer):
    """A plain video transformer: fixed sine-cosine positions, pre-norm blocks, no class token.

    Fields besides those of VideoTransformer: `final_norm` is on in pretraining, off where a head brings its own norm after pooling (fine-tuning).
    """

    splits_sequences: ClassVar[bool] = True  # its tokens over mesh.seq (models/layout.py)

    width: int
    depth: int
    heads: int
    tubelet: tuple[int, int, int] = (2, 16, 16)
    positions: str = "sincos_1d"
    final_norm: bool = True

    def setup(self):
        init = _torch_uniform(math.prod(self.tubelet) * 3)
        # VideoMAE's strided 3-D convolution as what it is, one matrix product: kernel [P, D]
        self.patch_embed = nn.Dense(self.width, dtype=self.dtype, kernel_init=init, bias_init=init, dot_general=product)
        self.blocks = block_stack(self.depth, self.heads, self.hidden, self.block_config)
        if self.final_norm:
            self.norm = LayerNorm(self.dtype)

    def __call__(self, clip_BxTxHxWx3, visible_BxV=None, train: bool = False, rng: Any = None):
        """Tokens [B,V,D] of the patches `visible` (ids in (time, row, column) order, None: all N of them, in order)."""
        tokens = self.grid_of(clip_BxTxHxWx3)
        patches = patchify(clip_BxTxHxWx3, self.tubelet)
        positions = resized(jnp.asarray(positions_lib.table(self.positions, self.grid, self.width)), self.grid, tokens)[None]
        if visible_BxV is not None:
            patches = take_tokens(patches, visible_BxV)
            positions = jnp.take(positions[0], visible_BxV, axis=0)
        x = self.patch_embed(patches) + positions.astype(self.dtype)
        x, _ = self.blocks(x, stochastic_depth(rng, self.drop_path, self.depth, train))
        return self.norm(x) if self.final_norm else x

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """All tokens as a map, and their mean (after the final norm where there is one), in float32."""
        tokens = self(clip_BxTxHxWx3, None, train, rng)
        pooled = jnp.mean(tokens, axis=1, dtype=jnp.float32)
        return Features(tokens.reshape(tokens.shape[0], *self.grid_of(clip_BxTxHxWx3), self.width), pooled)
