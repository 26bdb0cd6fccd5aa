"""Residual networks with basic blocks: R3D-18, MC3-18 and R(2+1)D-18 (Tran et al. 2018, https://arxiv.org/abs/1711.11248), and the 10-layer
ones of VCOP.

The one idea: they differ in what stands where a 3x3x3 convolution could stand, so that is a field, `kinds`, one for each of four stages:

    3d     3x3x3
    2d     1x3x3, which leaves time alone
    2+1d   1x3x3 into `mid` channels, batch normalization, ReLU, 3x1x1: as many parameters as a 3x3x3 has (section 3.5)

The 18-layer nets are torchvision's, weight for weight. The 10-layer nets are those that VCOP (Xu et al. 2019), PRP and PacePred used under
the names of the 18-layer ones: a third of the parameters, and so another row in any table.
"""

from typing import Any

import flax.linen as nn

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.models.backbone import Features
from vssl_jax.models.blocks3d import BatchNorm, Conv3D, ConvNorm, NetConfig, check_clip, mean_of_places
from vssl_jax.models.conv3d import Triple

KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # torchvision's
KINDS = ("3d", "2d", "2+1d")
STEM_MID = 45  # channels between 1x7x7 and 3x1x1 in torchvision's stem; the formula below would give 83


def mid_channels(inputs: int, outputs: int, kernel: Triple = (3, 3, 3)) -> int:
    """Channels between the two halves of a factorized convolution, so that they have as many weights as the whole (Tran et al. 2018, section
    3.5).
    """
    t, area = kernel[0], kernel[1] * kernel[2]
    return t * area * inputs * outputs // (area * inputs + t * outputs)


class Factorized(nn.Module):
    """A convolution in space into `mid` channels, batch normalization, ReLU, and one in time."""

    features: int
    mid: int
    kernel: Triple
    strides: Triple
    config: NetConfig

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        (kt, kh, kw), (st, sh, sw) = self.kernel, self.strides
        y = ConvNorm(self.mid, (1, kh, kw), (1, sh, sw), self.config, name="spatial")(x_BxTxHxWxC, train)
        return Conv3D(self.features, (kt, 1, 1), (st, 1, 1), self.config, name="temporal")(y)


class BasicBlock(nn.Module):
    """Two convolutions of a kind, each with batch normalization, beside a shortcut. `per_conv`: see ResNet3D."""

    features: int
    strides: Triple
    kind: str
    per_conv: bool
    config: NetConfig
    dilation: int = 1  # in time, of the first convolution

    def _conv(self, x, train, inputs: int, strides: Triple, name: str, dilation: int = 1):
        if self.kind == "2+1d":
            mid = mid_channels(inputs, self.features)
            return Factorized(self.features, mid, (3, 3, 3), strides, self.config, name=name)(x, train)
        t = 3 if self.kind == "3d" else 1
        strides = (strides[0] if t == 3 else 1, *strides[1:])
        return Conv3D(self.features, (t, 3, 3), strides, self.config, dilation=dilation, name=name)(x)

    def _shortcut(self, x, train):
        if self.strides == (1, 1, 1) and x.shape[-1] == self.features:
            return x
        strides = (1 if self.kind == "2d" else self.strides[0], *self.strides[1:])
        if self.per_conv and self.kind == "2+1d":
            mid = mid_channels(x.shape[-1], self.features, (1, 1, 1))
            x = Factorized(self.features, mid, (1, 1, 1), strides, self.config, name="shortcut")(x, train)
        else:
            x = Conv3D(self.features, (1, 1, 1), strides, self.config, name="shortcut")(x)
        return BatchNorm(self.config, name="shortcut_norm")(x, train)

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        inputs = x_BxTxHxWxC.shape[-1]
        y = self._conv(x_BxTxHxWxC, train, inputs, self.strides, "conv1", self.dilation)
        y = nn.relu(BatchNorm(self.config, name="norm1")(y, train))
        y = self._conv(y, train, self.features if self.per_conv else inputs, (1, 1, 1), "conv2")
        y = BatchNorm(self.config, name="norm2")(y, train)
        return nn.relu(y + self._shortcut(x_BxTxHxWxC, train))


class ResNet3D(nn.Module):
    """A stem of 3x7x7 (stride 1, 2, 2), no pooling, four stages of `layers` blocks and widths w, 2w, 4w, 8w, the last three with stride 2.

    Fields: `kinds` as above, `stem` '3d' or '2+1d'. `per_conv`: VCOP's form of "2+1d", whose every factorized convolution, shortcuts and
    stem too, has `mid` by its own sizes; torchvision's takes the block's input for both convolutions of a block and factorizes no shortcut.
    `last_time_stride`: of the last stage; 1 leaves twice as many times. `last_time_dilation`: of that stage's first convolution, which with stride 1 and
    dilation 2 sees the frames that it sees with stride 2.
    `frames` and `size` (rows = columns) are what it is trained on: it runs on others.
    """

    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    kinds: tuple[str, str, str, str] = ("3d", "3d", "3d", "3d")
    stem: str = "3d"
    per_conv: bool = False
    last_time_stride: int = 2
    last_time_dilation: int = 1
    width: int = 64
    frames: int = 16
    size: int = 112
    pixel_mean: tuple[float, float, float] = KINETICS_MEAN
    pixel_std: tuple[float, float, float] = KINETICS_STD
    dtype: str = "float32"
    impl: str = "auto"
    momentum: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        for kind in (self.stem, *self.kinds):
            if kind not in KINDS:
                raise unknown_name("kind of convolution", kind, KINDS)
        if not isinstance(self.last_time_dilation, int) or self.last_time_dilation < 1:
            raise UserError(f"model.last_time_dilation is {self.last_time_dilation}: it is frames, a whole number of 1 or more")
        if self.last_time_dilation != 1 and (self.kinds[-1], self.last_time_stride) != ("3d", 1):
            raise UserError(
                f"model.last_time_dilation is {self.last_time_dilation}: it is for a last stage of kind '3d' with last_time_stride=1"
            )

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Features of clips of any length and size: the map is T/8, H/16, W/16 (time whole where all stages but the first are "2d")."""
        check_clip(clip_BxTxHxWx3)
        config = NetConfig(self.dtype, self.impl, self.momentum)
        kernel, strides = (3, 7, 7), (1, 2, 2)
        if self.stem == "2+1d":
            mid = mid_channels(3, self.width, kernel) if self.per_conv else STEM_MID
            x = Factorized(self.width, mid, kernel, strides, config, name="stem")(clip_BxTxHxWx3, train)
        else:
            x = Conv3D(self.width, kernel, strides, config, name="stem")(clip_BxTxHxWx3)
        x = nn.relu(BatchNorm(config, name="stem_norm")(x, train))
        for stage, (blocks, kind) in enumerate(zip(self.layers, self.kinds, strict=True)):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                last = stage == 3 and i == 0
                strides, dilation = (self.last_time_stride if last else stride, stride, stride), self.last_time_dilation if last else 1
                block = BasicBlock(self.width * 2**stage, strides, kind, self.per_conv, config, dilation, name=f"stage{stage + 1}_block{i}")
                x = block(x, train)
        return Features(x, mean_of_places(x))

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
