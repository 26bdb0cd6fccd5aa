"""A box of noise (random erasing: Zhong et al. 2020) or of black (cutout: DeVries and Taylor 2017), at the same place in all frames of a clip.

The noise is standard normal where the network reads it, so it is made here as the RGB that normalization turns into that: it leaves [0, 1],
and that operation comes last.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import Limit, at_least, check_limits
from vssl_jax.perturb.checks import check_probability, check_range

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class RandomErase:
    """With probability `prob`, one box gets new noise in every pixel and frame (timm's mode "pixel", SlowFast's "cube").

    The box takes a share of the picture uniform in `area`, with an aspect (rows / columns) log-uniform in `aspect`. `attempts` boxes are
    drawn at once and the first that is smaller than the picture is used; where none is, nothing is erased. `mean` and `std` are the view's.
    """

    prob: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    attempts: int = 10
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self):
        check_probability("erase", self.prob)
        area = Limit("(low, high), 0 < low <= high <= 1", lambda value: 0 < value[0] <= value[1] <= 1)
        aspect = Limit("(low, high), 0 < low <= high", lambda value: 0 < value[0] <= value[1])
        check_limits("erase", area=(self.area, area), aspect=(self.aspect, aspect), attempts=(self.attempts, at_least(1)))

    def box(self, key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """(top, left, rows, columns) of the box in whole pixels, and whether there is one."""
        rows, columns = size
        area_key, aspect_key, place_key = jax.random.split(key, 3)
        area_A = rows * columns * jax.random.uniform(area_key, (self.attempts,), minval=self.area[0], maxval=self.area[1])
        low, high = jnp.log(jnp.array(self.aspect))
        aspect_A = jnp.exp(jax.random.uniform(aspect_key, (self.attempts,), minval=low, maxval=high))
        sides_Ax2 = jnp.round(jnp.stack([jnp.sqrt(area_A * aspect_A), jnp.sqrt(area_A / aspect_A)], -1))
        room_Ax2 = jnp.array(size) - sides_Ax2
        fits_A = ((room_Ax2 > 0) & (sides_Ax2 >= 1)).all(-1)
        first = fits_A.argmax()
        place_2 = jnp.floor(jax.random.uniform(place_key, (2,)) * (room_Ax2[first] + 1))
        return jnp.concatenate([place_2, sides_Ax2[first]]), fits_A.any()

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        """rgb_TxHxWx3 in [0, 1] -> the same outside the box."""
        box_key, on_key, noise_key = jax.random.split(key, 3)
        (top, left, height, width), found = self.box(box_key, rgb.shape[1:3])
        inside = _inside(rgb, top, left, height, width)
        noise = jnp.array(self.mean) + jnp.array(self.std) * jax.random.normal(noise_key, rgb.shape)
        on = found & jax.random.bernoulli(on_key, float(self.prob))
        return jnp.where((on & inside)[..., None], noise, rgb)


@dataclass(frozen=True)
class Cutout:
    """With probability `prob`, one box becomes black: its top left corner is anywhere in the picture, its sides are whole pixels uniform in `sides`, both
    ends included, and what sticks out is cut off.
    """

    sides: tuple[int, int] = (9, 18)
    prob: float = 0.5

    def __post_init__(self):
        check_probability("cutout", self.prob)
        check_range("cutout's sides, in pixels,", self.sides, 1, whole=True)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        """rgb_TxHxWx3 -> the same outside the box."""
        place_key, sides_key, on_key = jax.random.split(key, 3)
        top, left = jax.random.randint(place_key, (2,), 0, jnp.array(rgb.shape[1:3]))
        inside = _inside(rgb, top, left, *jax.random.randint(sides_key, (2,), self.sides[0], self.sides[1] + 1))
        return jnp.where((jax.random.bernoulli(on_key, float(self.prob)) & inside)[..., None], 0.0, rgb)


def _inside(rgb_TxHxWx3, top, left, height, width):
    """Which pixels are in the box, bool [H,W]."""
    row, column = jnp.arange(rgb_TxHxWx3.shape[1])[:, None], jnp.arange(rgb_TxHxWx3.shape[2])
    return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
