"""Gaussian blur as two products with a banded matrix, so that sigma may be traced and drawn per clip.

A convolution of 23 taps with a traced kernel does not map onto the matrix unit; the matrix does. Outside the frame the picture is mirrored
with its edge repeated (..., 1, 0 | 0, 1, ...): the matrix is then symmetric with rows and columns that sum to one, so blurring keeps the
mean exactly.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.perturb.checks import check_probability
from vssl_jax.perturb.color import maybe


def blur_matrix(size: int, sigma: jax.Array, radius: int) -> jax.Array:
    """float32 [size, size]: convolution with exp(-d^2 / (2 sigma^2)), |d| <= radius < size pixels, normalized to sum one."""
    i, j = jnp.arange(size)[:, None], jnp.arange(size)

    def kernel(distance):
        return jnp.where(jnp.abs(distance) <= radius, jnp.exp(-0.5 * (distance / sigma) ** 2), 0.0)

    folded = kernel(i - j) + kernel(i + j + 1) + kernel(i + j + 1 - 2 * size)
    return folded / kernel(jnp.arange(-radius, radius + 1)).sum()


def gaussian_blur(rgb: jax.Array, sigma: jax.Array, radius: int) -> jax.Array:
    """rgb [..., H, W, C] blurred along H and W; sigma in pixels, may be traced."""
    rows_HxH, columns_WxW = (blur_matrix(n, sigma, min(radius, n - 1)) for n in rgb.shape[-3:-1])
    rgb = jnp.einsum("yH,...HWc->...yWc", rows_HxH, rgb, precision=jax.lax.Precision.HIGH)
    return jnp.einsum("xW,...yWc->...yxc", columns_WxW, rgb, precision=jax.lax.Precision.HIGH)


@dataclass(frozen=True)
class GaussianBlur:
    """Blur with sigma drawn uniformly from `sigma`, in pixels of the view (SimCLR, appendix A: 0.1 to 2.0 at 224).

    The kernel is cut off at `radius` pixels; without one at three times the largest sigma.
    """

    prob: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    radius: int | None = None

    def __post_init__(self):
        check_probability("blur", self.prob)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise UserError(f"blur sigma is {self.sigma}: it must be (low, high) with 0 < low <= high")

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        prob_key, sigma_key = jax.random.split(key)
        sigma = jax.random.uniform(sigma_key, minval=self.sigma[0], maxval=self.sigma[1])
        radius = math.ceil(3 * self.sigma[1]) if self.radius is None else self.radius
        return maybe(prob_key, self.prob, jnp.clip(gaussian_blur(rgb, sigma, radius), 0, 1), rgb)
