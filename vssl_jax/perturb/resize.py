"""Pictures resized to a random size and back, which hides what compression and earlier resizing left in single pixels.

The one idea: both ways together are one linear map of each axis, so a traced size needs no array of that size.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.perturb import resample


def there_and_back(side: int, middle: jax.Array, most: int) -> jax.Array:
    """float32 [..., side, side]: an axis of `side` pixels resized to `middle` of them (whole numbers from 1 to `most`, float [...]) and back.
    Rows are non-negative and sum to one.
    """
    flip = jnp.zeros(middle.shape, bool)
    # Only the first `middle` of the `most` rows cover the picture; the way back reads no others.
    there = resample.weights(resample.Line(jnp.zeros_like(middle), side * most / middle, flip), (most, side), jnp.full_like(middle, side))
    back = resample.weights(resample.Line(jnp.zeros_like(middle), middle, flip), (side, most), middle)
    return jnp.matmul(back, there, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class ResizeAndBack:
    """Draws a factor from [low, high] for every clip, shared by its frames, and resizes rows and columns by it and back."""

    low: float
    high: float

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise UserError(f"resize is ({self.low}, {self.high}): it must be (low, high) with 0 < low <= high, in sides of the picture")

    def __call__(self, keys_BxK: jax.Array, clips_BxKxTxHxWxC: jax.Array) -> jax.Array:
        """The same shape and dtype, whatever the scale of the values."""
        factor_BxK = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (), minval=self.low, maxval=self.high)))(keys_BxK)

        def matrix(side):
            return there_and_back(side, jnp.maximum(jnp.round(factor_BxK * side), 1), max(round(self.high * side), 1))

        height, width = clips_BxKxTxHxWxC.shape[3:5]
        return resample.apply(matrix(height), matrix(width), clips_BxKxTxHxWxC).astype(clips_BxKxTxHxWxC.dtype)
