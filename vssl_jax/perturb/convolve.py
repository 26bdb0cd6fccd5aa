"""Random convolution (Lee et al. 2020, https://arxiv.org/abs/1910.05396; Xu et al. 2021, https://arxiv.org/abs/2007.13003): a layer of random
weights in front of the network changes colors and textures and leaves shapes and motion.

The one idea: every size of kernel is the largest one with zeros around, so a size that is drawn per clip is a mask, and one program serves all.
The result has either sign and leaves [0, 1], so this operation comes last.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.perturb.checks import check_probability
from vssl_jax.perturb.color import maybe

# Of a standard normal distribution cut off at two deviations.
CUT_STD = 0.87962566103423978


def random_kernel(key: jax.Array, size: int) -> jax.Array:
    """float32 [size, size, 3, 3]: in its middle a kernel of odd side k, each of 1, 3, ... `size` as likely, zeros around it; He's distribution (He et
    al. 2015) for 3 k^2 inputs.
    """
    side_key, weight_key = jax.random.split(key)
    half = jax.random.randint(side_key, (), 0, size // 2 + 1)
    away = jnp.abs(jnp.arange(size) - size // 2)
    inside_sxs = jnp.maximum(away[:, None], away) <= half
    std = jnp.sqrt(2.0 / (3 * (2 * half + 1) ** 2)) / CUT_STD
    weights = std * jax.random.truncated_normal(weight_key, -2.0, 2.0, (size, size, 3, 3))
    return jnp.where(inside_sxs[:, :, None, None], weights, 0.0)


def convolve(rgb_TxHxWx3: jax.Array, kernel_sxsx3x3: jax.Array) -> jax.Array:
    """Every frame by the kernel [rows, columns, from, to] of odd side s, beyond the picture zeros: a clip of the same shape.

    Each row of the kernel is a banded matrix (perturb/blur.py): a kernel per clip makes a grouped convolution of three channels, which on a CPU takes
    three to six times as long.
    """
    s, (t, h, w, c) = len(kernel_sxsx3x3), rgb_TxHxWx3.shape
    tap_WxW = jnp.arange(w)[:, None] - jnp.arange(w) + s // 2
    inside_WxW = (tap_WxW >= 0) & (tap_WxW < s)
    band_sxWxWx3x3 = jnp.where(inside_WxW[:, :, None, None], kernel_sxsx3x3[:, jnp.clip(tap_WxW, 0, s - 1)], 0.0)
    band_sxW3xW3 = jnp.swapaxes(band_sxWxWx3x3, 2, 3).reshape(s, w * c, w * c)
    rows = jnp.pad(rgb_TxHxWx3.reshape(t, h, w * c), ((0, 0), (s // 2, s // 2), (0, 0)))
    out = sum(jnp.matmul(rows[:, i : i + h], band_sxW3xW3[i], precision=jax.lax.Precision.HIGH) for i in range(s))
    return out.reshape(rgb_TxHxWx3.shape)


@dataclass(frozen=True)
class RandomConvolution:
    """One random kernel for all frames of a clip, `size` pixels or less wide."""

    prob: float = 1.0
    size: int = 11

    def __post_init__(self):
        check_probability("random convolution", self.prob)
        if self.size < 1 or self.size % 2 == 0:
            raise UserError(f"random convolution has size={self.size}: the largest kernel has an odd side of 1 or more")

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        kernel_key, prob_key = jax.random.split(key)
        return maybe(prob_key, self.prob, convolve(rgb, random_kernel(kernel_key, self.size)), rgb)
