"""Inflated Inception networks: I3D (Carreira, Zisserman 2017, https://arxiv.org/abs/1705.07750), S3D and S3D-G (Xie et al. 2018,
https://arxiv.org/abs/1712.04851).

The one idea: one list of blocks, and two fields. `separable` makes every k x k x k convolution a 1 x k x k and a k x 1 x 1, each with batch
normalization and ReLU (S3D); `gated` weighs the channels of every branch by a sigmoid of their means (S3D-G, section 5; the gates of the
Inception blocks only, MIL-NCE's version has one more after the third convolution).

S3D is torchvision's, weight for weight. Padding is k // 2, as torchvision has it; the authors' TensorFlow pads an even side with stride 2
by one less in front, so their own weights would see every clip shifted.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.models.backbone import Features
from vssl_jax.models.blocks3d import ConvNorm, NetConfig, check_clip, max_pool, mean_of_places
from vssl_jax.models.conv3d import Triple
from vssl_jax.models.resnet3d import KINETICS_MEAN, KINETICS_STD

EPSILON = 1e-3  # of batch normalization: TensorFlow's default, which torchvision kept

# Widths of an Inception block: 1x1x1; reduce and 3x3x3; reduce and 3x3x3; pool and 1x1x1. GoogLeNet's (Szegedy et al. 2015, table 1).
BLOCKS = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# window, strides and padding of the max pools that stand before a block
POOLS = {
    "mixed_3b": ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
}
POOLED_WINDOW = (2, 7, 7)


def windowed_mean(map_BxTxHxWxD: jax.Array, window: Triple = POOLED_WINDOW) -> jax.Array:
    """The mean of the means of all `window`s (stride 1, no padding), float32 [B,D]: what the networks' logits stand on, where they average
    over 2 time slots and 7x7 places before the classifier and over all windows after it. So the first and the last slot count half.

    A side shorter than its window is one window.
    """
    weights_TxHxW = np.ones(())
    for size, side in zip(map_BxTxHxWxD.shape[1:4], window, strict=True):
        side = min(side, size)
        weights = np.convolve(np.ones(size - side + 1), np.ones(side)) / (side * (size - side + 1))  # the share of windows that see a place
        weights_TxHxW = weights_TxHxW[..., None] * weights
    return jnp.sum(map_BxTxHxWxD * jnp.asarray(weights_TxHxW, jnp.float32)[..., None], axis=(1, 2, 3), dtype=jnp.float32)


class Conv(nn.Module):
    """A k x k x k convolution with batch normalization and ReLU, in one or (`separable`) in two steps of `features` channels."""

    features: int
    kernel: int
    stride: int
    separable: bool
    config: NetConfig

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        k, s = self.kernel, self.stride
        if not self.separable:
            return ConvNorm(self.features, (k, k, k), (s, s, s), self.config, name="whole")(x_BxTxHxWxC, train)
        y = ConvNorm(self.features, (1, k, k), (1, s, s), self.config, name="spatial")(x_BxTxHxWxC, train)
        return ConvNorm(self.features, (k, 1, 1), (s, 1, 1), self.config, name="temporal")(y, train)


class Gate(nn.Module):
    """x times the sigmoid of a linear map of its means over time, rows and columns (feature gating, section 5)."""

    config: NetConfig

    @nn.compact
    def __call__(self, x_BxTxHxWxC):
        weights = nn.sigmoid(nn.Dense(x_BxTxHxWxC.shape[-1], name="linear")(mean_of_places(x_BxTxHxWxC)))
        return x_BxTxHxWxC * weights[:, None, None, None].astype(self.config.dtype)


class Block(nn.Module):
    """Four branches side by side in channels, of `widths` as in BLOCKS."""

    widths: tuple[int, int, int, int, int, int]
    separable: bool
    gated: bool
    config: NetConfig

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        w0, r1, w1, r2, w2, w3 = self.widths

        def point(x, width, name):
            return ConvNorm(width, (1, 1, 1), (1, 1, 1), self.config, name=name)(x, train)

        def whole(x, width, name):
            return Conv(width, 3, 1, self.separable, self.config, name=name)(x, train)

        x = x_BxTxHxWxC
        branches = [
            point(x, w0, "branch0"),
            whole(point(x, r1, "reduce1"), w1, "branch1"),
            whole(point(x, r2, "reduce2"), w2, "branch2"),
            point(max_pool(x, (3, 3, 3), (1, 1, 1), (1, 1, 1)), w3, "branch3"),
        ]
        if self.gated:
            branches = [Gate(self.config, name=f"gate{i}")(branch) for i, branch in enumerate(branches)]
        return jnp.concatenate(branches, axis=-1)


class Inception3D(nn.Module):
    """A 7x7x7 stem of stride 2, 1x1x1 and 3x3x3 convolutions, nine Inception blocks, four max pools.

    Fields: `separable` and `gated` as above; `width` multiplies every number of channels (1 is the papers'); `frames` and `size` (rows =
    columns) are what it is trained on: it runs on others. `momentum` is that of batch normalization: the authors and torchvision have .999,
    with which the statistics need thousands of steps before evaluation means anything.
    """

    separable: bool = True
    gated: bool = False
    width: float = 1.0
    frames: int = 64
    size: int = 224
    pixel_mean: tuple[float, float, float] = KINETICS_MEAN
    pixel_std: tuple[float, float, float] = KINETICS_STD
    dtype: str = "float32"
    impl: str = "auto"
    momentum: float = 0.9

    def _width(self, channels: int) -> int:
        return max(1, round(channels * self.width))

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Features of clips of at least 5 frames: the map is T/8, H/32, W/32; `pooled` is the windowed_mean. Raises UserError for clips that
        are too small.
        """
        check_clip(clip_BxTxHxWx3)
        config = NetConfig(self.dtype, self.impl, self.momentum, EPSILON)
        x = Conv(self._width(64), 7, 2, self.separable, config, name="stem")(clip_BxTxHxWx3, train)
        x = max_pool(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = ConvNorm(self._width(64), (1, 1, 1), (1, 1, 1), config, name="conv2")(x, train)
        x = Conv(self._width(192), 3, 1, self.separable, config, name="conv3")(x, train)
        for name, widths in BLOCKS.items():
            if name in POOLS:
                x = max_pool(x, *POOLS[name])
            x = Block(tuple(self._width(w) for w in widths), self.separable, self.gated, config, name=name)(x, train)
        return Features(x, windowed_mean(x))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
