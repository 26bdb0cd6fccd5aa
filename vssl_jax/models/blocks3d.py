"""What the 3-D convolution networks are made of: convolution, batch normalization, pooling.

Batch normalization is torch's, because the published networks were trained with it: the running variance is the unbiased one (flax keeps
the biased one), and `momentum` is flax's, the share of the old value that stays (.9 is torch's .1). In training the mean and variance are
those of the batch, and a step is written for all devices together, so they are of the *global* batch, whatever the number of devices
("synchronized"). With gradient accumulation they are of a micro-batch, and the running statistics move once per micro-batch: then a step
does not equal the step of one large batch, as it does without batch normalization.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vssl_jax.errors import UserError
from vssl_jax.models.backbone import STATS
from vssl_jax.models.conv3d import Triple, conv3d
from vssl_jax.platform import platform

# He et al. 2015, by the number of outputs: torchvision's and PySlowFast's. The variance is that of a normal distribution not cut off.
KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclasses.dataclass(frozen=True)
class NetConfig:
    """How a network computes: `dtype` of activations (parameters and statistics are float32), `impl` of convolutions (models/conv3d.py);
    `momentum` and `epsilon` of batch normalization.
    """

    dtype: str = "float32"
    impl: str = "auto"
    momentum: float = 0.9
    epsilon: float = 1e-5


class Conv3D(nn.Module):
    """A convolution with padding k // 2; no bias, which batch normalization would take away again, unless it is asked for."""

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    config: NetConfig = NetConfig()
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    dilation: int = 1  # in time

    @nn.compact
    def __call__(self, x_BxTxHxWxC):
        kernel = self.param("kernel", self.kernel_init, (*self.kernel, x_BxTxHxWxC.shape[-1], self.features))
        dtype = self.config.dtype
        y = conv3d(x_BxTxHxWxC.astype(dtype), kernel.astype(dtype), self.strides, self.config.impl, self.dilation)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(dtype) if self.use_bias else y


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias per channel, in float32 at least; see the file's docstring. `scale` starts at
    `start`; without `affine` it stays 1 and the bias 0.
    """

    config: NetConfig = NetConfig()
    start: float = 1.0
    affine: bool = True

    @nn.compact
    def __call__(self, x, train: bool):
        width = x.shape[-1:]
        mean = self.variable(STATS, "mean", jnp.zeros, width)
        var = self.variable(STATS, "var", jnp.ones, width)
        scale, bias = jnp.ones(width), jnp.zeros(width)
        if self.affine:
            scale = self.param("scale", nn.initializers.constant(self.start), width)
            bias = self.param("bias", nn.initializers.zeros, width)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            axes = tuple(range(x.ndim - 1))
            batch_mean = jnp.mean(x, axes)
            batch_var = jnp.mean(jnp.square(x - batch_mean), axes)  # two passes: digits stay where the mean is large
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                for running, batch in ((mean, batch_mean), (var, batch_var * (count / max(count - 1, 1)))):
                    running.value = self.config.momentum * running.value + (1 - self.config.momentum) * batch
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * lax.rsqrt(batch_var + self.config.epsilon)
        return (x * factor + (bias - batch_mean * factor)).astype(self.config.dtype)


class ConvNorm(nn.Module):
    """A convolution, batch normalization and, unless `relu` is off, ReLU."""

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    config: NetConfig = NetConfig()
    relu: bool = True
    start: float = 1.0

    @nn.compact
    def __call__(self, x_BxTxHxWxC, train: bool):
        y = Conv3D(self.features, self.kernel, self.strides, self.config, name="conv")(x_BxTxHxWxC)
        y = BatchNorm(self.config, self.start, name="norm")(y, train)
        return nn.relu(y) if self.relu else y


def max_pool(x_BxTxHxWxC: jax.Array, window: Triple, strides: Triple, padding: Triple = (0, 0, 0)) -> jax.Array:
    """The largest value of each window; what is padded (at both ends of a side) is never it. Raises UserError where no window fits.

    On a CPU it is taken side by side, which with its gradient is 3 to 13 times faster than XLA's. Where values of a window tie, XLA's gradient
    goes to the first and this one to all; behind a ReLU, whose zeros are what ties, none arrives either way.
    """
    sides = x_BxTxHxWxC.shape[1:4]
    if any(n + 2 * p < w for n, w, p in zip(sides, window, padding, strict=True)):
        raise UserError(f"the clips are too small for this network: {sides} (frames, rows, columns) are left where it pools {window}")
    if platform() != "cpu":
        return nn.max_pool(x_BxTxHxWxC, window, strides, [(p, p) for p in padding])
    x = jnp.pad(x_BxTxHxWxC, ((0, 0), *((p, p) for p in padding), (0, 0)), constant_values=-jnp.inf)
    for axis, (w, s) in enumerate(zip(window, strides, strict=True), 1):
        out = (x.shape[axis] - w) // s + 1
        x = functools.reduce(jnp.maximum, [lax.slice_in_dim(x, i, i + (out - 1) * s + 1, s, axis=axis) for i in range(w)])
    return x


def check_clip(clip_BxTxHxWxC: jax.Array) -> None:
    """Raises UserError for what is no batch of RGB clips."""
    if clip_BxTxHxWxC.ndim != 5 or clip_BxTxHxWxC.shape[-1] != 3 or 0 in clip_BxTxHxWxC.shape:
        raise UserError(f"the model takes clips [batch, frames, rows, columns, 3], got {clip_BxTxHxWxC.shape}")


def mean_of_places(map_BxTxHxWxD: jax.Array) -> jax.Array:
    """The mean over time, rows and columns, float32 [B,D]."""
    return jnp.mean(map_BxTxHxWxD, axis=(1, 2, 3), dtype=jnp.float32)
