"""A small (2+1)-D convolution network: the supervised control of the embedded dataset, and a backbone that trains in minutes on a CPU.

The one idea: space-to-depth instead of early layers. The stem folds 4x4 pixels into channels, so the first convolution already sees a
16th of the positions. Normalization is GroupNorm, not BatchNorm: per example, so a result does not depend on the batch, the number of
devices or the micro-batches, and a control trained on ordered clips and read on shuffled ones carries no statistics of the former.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.backbone import Features
from vssl_jax.models.blocks3d import Conv3D, NetConfig
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


def space_to_depth(clip_BxTxHxWxC: jax.Array, factor: int) -> jax.Array:
    """[B,T,H/f,W/f,f*f*C]: blocks of f x f pixels become channels in (row, column, channel) order."""
    b, t, h, w, c = clip_BxTxHxWxC.shape
    x = clip_BxTxHxWxC.reshape(b, t, h // factor, factor, w // factor, factor, c).transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(b, t, h // factor, w // factor, factor * factor * c)


class Conv2Plus1D(nn.Module):
    """A 3x3 convolution in space, then a 3 in time (Tran et al. 2018), each with GroupNorm and ReLU; the spatial one strides."""

    width: int
    stride: int
    config: NetConfig = NetConfig()

    @nn.compact
    def __call__(self, x_BxTxHxWxC):
        s, dtype = self.stride, self.config.dtype
        in_space = Conv3D(self.width, (1, 3, 3), (1, s, s), self.config, kernel_init=nn.initializers.lecun_normal(), name="spatial")
        in_time = Conv3D(self.width, (3, 1, 1), (1, 1, 1), self.config, kernel_init=nn.initializers.he_normal(), name="temporal")
        y = nn.relu(nn.GroupNorm(num_groups=4, dtype=dtype, name="spatial_norm")(in_space(x_BxTxHxWxC)))
        return nn.relu(nn.GroupNorm(num_groups=4, dtype=dtype, name="temporal_norm")(in_time(y)))


class CNN(nn.Module):
    """A space-to-depth stem and four (2+1)-D stages of widths w, 2w, 4w, 4w; the middle two halve the rows and columns. Time keeps its
    length.
    """

    width: int = 16
    stem: int = 4
    frames: int = 8  # what it is trained on: it runs on other lengths and sizes
    size: int = 64
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    dtype: str = "float32"
    impl: str = "auto"  # of convolutions (models/conv3d.py)

    def __post_init__(self):
        super().__post_init__()
        if self.width % 4:
            raise UserError(f"cnn width {self.width} is not a multiple of 4, its groups of normalization")

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Features of clips of any length and of rows and columns that are multiples of `stem`. Deterministic: `train` and `rng` change
        nothing.
        """
        if clip_BxTxHxWx3.shape[2] % self.stem or clip_BxTxHxWx3.shape[3] % self.stem:
            raise UserError(f"the cnn takes clips whose sides are multiples of {self.stem}, got {clip_BxTxHxWx3.shape[2:4]}")
        x = space_to_depth(clip_BxTxHxWx3.astype(self.dtype), self.stem)
        config = NetConfig(self.dtype, self.impl)
        for i, (mult, stride) in enumerate(((1, 1), (2, 2), (4, 2), (4, 1))):
            x = Conv2Plus1D(mult * self.width, stride, config, name=f"stage{i}")(x)
        return Features(x, jnp.mean(x, axis=(1, 2, 3), dtype=jnp.float32))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
