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

from vssl_jax.errors import UserError
from vssl_jax.models import positions as positions_lib
from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import BlockConfig, block_stack, layer_norm, stochastic_depth
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


def patchify(clip_BxTxHxWxC: jax.Array, tubelet: tuple[int, int, int]) -> jax.Array:
    """[B,N,P]: tokens in (time, row, column) order, each patch's values in (frame, row, column, channel) order."""
    b, t, h, w, c = clip_BxTxHxWxC.shape
    pt, ph, pw = tubelet
    x = clip_BxTxHxWxC.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, (t // pt) * (h // ph) * (w // pw), pt * ph * pw * c)


def take_tokens(x_BxNxD: jax.Array, ids_BxV: jax.Array) -> jax.Array:
    """[B,V,D]: the tokens `ids` of each example."""
    return jnp.take_along_axis(x_BxNxD, ids_BxV[:, :, None], axis=1)


def grid(model: nn.Module) -> tuple[int, int, int]:
    """Tokens of a clip along (time, rows, columns), by `frames`, `size` and `tubelet` of a model."""
    t, h, w = model.tubelet
    return (model.frames // t, model.size // h, model.size // w)


def check_sizes(model: nn.Module) -> None:
    """Raises UserError for a width that the heads do not divide, or clips that the tubelets do not."""
    if model.width % model.heads:
        raise UserError(f"model width {model.width} is not a multiple of its {model.heads} heads: choose one that is")
    if any(n % side for n, side in zip((model.frames, model.size, model.size), model.tubelet, strict=True)):
        raise UserError(
            f"clips of {model.frames} frames of {model.size}x{model.size} are no whole number of {tuple(model.tubelet)} tubelets"
        )


def grid_of(model: nn.Module, clip_BxTxHxWx3: jax.Array) -> tuple[int, int, int]:
    """Tokens of these clips along (time, rows, columns). Raises UserError where they are no whole number, and for clips of another size than the
    model's, unless it has `any_size`.
    """
    expected, sides = (model.frames, model.size, model.size, 3), clip_BxTxHxWx3.shape[1:]
    if sides != expected and not model.any_size:
        raise UserError(
            f"the model takes clips of (frames, rows, columns, channels) {expected}, got {sides}: set model.any_size, or their size"
        )
    if any(n % side for n, side in zip(sides, model.tubelet, strict=False)):
        raise UserError(f"clips of {sides[:3]} (frames, rows, columns) are no whole number of {tuple(model.tubelet)} tubelets")
    return tuple(n // side for n, side in zip(sides, model.tubelet, strict=False))


def resized(table_NxD: jax.Array, own: tuple[int, int, int], wanted: tuple[int, int, int]) -> jax.Array:
    """Positions of the tokens `own` (time, rows, columns), resized to `wanted`: as DINO does for small crops (Caron et al. 2021, its code)."""
    if wanted == own:
        return table_NxD
    return jax.image.resize(table_NxD.reshape(*own, -1), (*wanted, table_NxD.shape[-1]), "cubic").reshape(-1, table_NxD.shape[-1])


def _torch_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """PyTorch's default of a convolution's weight and bias (Kaiming uniform with a = sqrt 5): uniform in +-1/sqrt(fan in). VideoMAE
    leaves it in place.
    """
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class ViT(nn.Module):
    """A plain video transformer: fixed sine-cosine positions, pre-norm blocks, no class token.

    Fields: `width`, `depth`, `heads`, `mlp_ratio` size the blocks; `tubelet` (frames, rows, columns) of a patch; `frames`, `size` (rows =
    columns, pixels), `pixel_mean` and `pixel_std` say what clips it takes; `final_norm` is on in pretraining, off where a head brings its
    own norm after pooling (fine-tuning); `drop_path` is the last layer's rate of stochastic depth; with `any_size` it takes clips of other sizes
    as well, its positions resized to theirs; the rest is BlockConfig.
    """

    splits_sequences: ClassVar[bool] = True  # its tokens over mesh.seq (models/layout.py)

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    tubelet: tuple[int, int, int] = (2, 16, 16)
    frames: int = 16
    size: int = 224
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    positions: str = "sincos_1d"
    final_norm: bool = True
    drop_path: float = 0.0
    dtype: str = "float32"
    impl: str = "auto"
    scan: bool = True
    unroll: int = 1
    remat: str = "none"
    any_size: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along (time, rows, columns)."""
        return grid(self)

    def setup(self):
        init = _torch_uniform(math.prod(self.tubelet) * 3)
        # VideoMAE's strided 3-D convolution as what it is, one matrix product: kernel [P, D]
        self.patch_embed = nn.Dense(self.width, dtype=self.dtype, kernel_init=init, bias_init=init)
        config = BlockConfig(self.dtype, self.impl, self.scan, self.unroll, self.remat)
        self.blocks = block_stack(self.depth, self.heads, round(self.width * self.mlp_ratio), config)
        if self.final_norm:
            self.norm = layer_norm(self.dtype, None)

    def __call__(self, clip_BxTxHxWx3, visible_BxV=None, train: bool = False, rng: Any = None):
        """Tokens [B,V,D] of the patches `visible` (ids in (time, row, column) order, None: all N of them, in order)."""
        tokens = grid_of(self, clip_BxTxHxWx3)
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
        return Features(tokens.reshape(tokens.shape[0], *grid_of(self, clip_BxTxHxWx3), self.width), pooled)
