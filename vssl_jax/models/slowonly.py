"""Residual networks of 50 layers that keep time: SlowOnly (Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, section 4.1), the
R3D-50 of CVRL (Qian et al. 2021, https://arxiv.org/abs/2008.03800, table 1) and TSM (Lin et al. 2019, https://arxiv.org/abs/1811.08383).

The one idea: an image's ResNet-50 whose blocks also look at the frames before and after; nothing after the stem shortens time. SlowOnly and CVRL
look with a 3x1x1 in place of the first 1x1x1 of each block of the last two stages, TSM with some of the channels of every block, which are the
neighbors' (`shift`), and so with no weight more than the image's network.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models.backbone import Features
from vssl_jax.models.blocks3d import ConvNorm, NetConfig, check_clip, max_pool, mean_of_places
from vssl_jax.models.conv3d import Triple

SLOWFAST_MEAN, SLOWFAST_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # PySlowFast's


def temporal_shift(x_BxTxHxWxC: jax.Array, share: float) -> jax.Array:
    """The first `share` of the channels are the next frame's, as many after them the frame's before, the rest stays; zeros come in at both ends."""
    n, frames = int(share * x_BxTxHxWxC.shape[-1]), x_BxTxHxWxC.shape[1]
    padded = jnp.pad(x_BxTxHxWxC[..., : 2 * n], ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([padded[:, 2:, ..., :n], padded[:, :frames, ..., n:], x_BxTxHxWxC[..., 2 * n :]], axis=-1)


class Bottleneck(nn.Module):
    """tx1x1, 1x3x3 (which strides), 1x1x1 into `4 * width` channels, beside a shortcut. `last_scale`: where the last normalization's scale starts;
    at zero a block is its shortcut at first (Goyal et al. 2017, section 5.1). `shift`: the share of the channels that come from the next frame, and as
    many from the one before, ahead of the first convolution; the shortcut has its own frame's (the residual shift of Lin et al. 2019).
    """

    width: int
    taps: int
    stride: int
    config: NetConfig
    shift: float = 0.0
    last_scale: float = 0.0

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        strides = (1, self.stride, self.stride)
        y = temporal_shift(x_BxTxHxWxC, self.shift) if self.shift else x_BxTxHxWxC
        y = ConvNorm(self.width, (self.taps, 1, 1), (1, 1, 1), self.config, name="conv1")(y, train)
        y = ConvNorm(self.width, (1, 3, 3), strides, self.config, name="conv2")(y, train)
        y = ConvNorm(4 * self.width, (1, 1, 1), (1, 1, 1), self.config, relu=False, start=self.last_scale, name="conv3")(y, train)
        shortcut = x_BxTxHxWxC
        if self.stride > 1 or shortcut.shape[-1] != 4 * self.width:
            shortcut = ConvNorm(4 * self.width, (1, 1, 1), strides, self.config, relu=False, name="shortcut")(shortcut, train)
        return nn.relu(y + shortcut)


class SlowOnly(nn.Module):
    """A stem of `stem_kernel` and `stem_strides`, a 1x3x3 max pool of stride (1, 2, 2), four stages of `layers` blocks; the last 3 of the
    stages halve rows and columns.

    Fields: `taps` in time of each stage's blocks, and the `shift` and `last_scale` of all of them; `width` of the first stage's bottlenecks (the
    features are 32 times that); `frames` and `size` (rows = columns) are what it is trained on: it runs on others.
    """

    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    taps: tuple[int, int, int, int] = (1, 1, 3, 3)
    shift: float = 0.0
    last_scale: float = 0.0
    width: int = 64
    stem_kernel: Triple = (1, 7, 7)
    stem_strides: Triple = (1, 2, 2)
    frames: int = 8
    size: int = 224
    pixel_mean: tuple[float, float, float] = SLOWFAST_MEAN
    pixel_std: tuple[float, float, float] = SLOWFAST_STD
    dtype: str = "float32"
    impl: str = "auto"
    momentum: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.shift <= 0.5:
            raise UserError(f"model.shift is {self.shift}: a share of the channels from 0 to .5, since as many come from either side")

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Features of clips of any length and size: the map is H/32, W/32, and in time as long as the stem leaves it."""
        check_clip(clip_BxTxHxWx3)
        config = NetConfig(self.dtype, self.impl, self.momentum)
        x = ConvNorm(self.width, self.stem_kernel, self.stem_strides, config, name="stem")(clip_BxTxHxWx3, train)
        x = max_pool(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for stage, (blocks, taps) in enumerate(zip(self.layers, self.taps, strict=True)):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                block = Bottleneck(
                    self.width * 2**stage, taps, stride, config, self.shift, self.last_scale, name=f"stage{stage + 1}_block{i}"
                )
                x = block(x, train)
        return Features(x, mean_of_places(x))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
