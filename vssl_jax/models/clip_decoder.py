"""From a map of features back to a clip: small convolutions between steps of resizing.

The one idea: the sizes between the map's and the clip's are in geometric progression, so the decoder fits behind any backbone; behind
one that reduces every axis 16 times they double from step to step.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.blocks3d import Conv3D, NetConfig

Triple = tuple[int, int, int]


def sizes_between(start: Triple, end: Triple, steps: int) -> list[Triple]:
    """The sizes after each of `steps` steps from `start` to `end`."""
    return [tuple(round(a * (b / a) ** (i / steps)) for a, b in zip(start, end, strict=True)) for i in range(1, steps + 1)]


class ClipDecoder(nn.Module):
    """A step for each of `widths`: resizing (linear), a 3x3x3 convolution into so many channels, GroupNorm, ReLU; then resizing to `frames` frames of
    `size`, and a convolution into RGB. GroupNorm is per clip, so a decoder has no statistics to keep.
    """

    frames: int
    size: tuple[int, int]
    widths: tuple[int, ...] = (256, 128, 64)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, map_BxTxHxWxD: jax.Array) -> jax.Array:
        """float32 [B, frames, rows, columns, 3], of any range."""
        config = NetConfig(dtype=self.dtype)
        sizes = sizes_between(map_BxTxHxWxD.shape[1:4], (self.frames, *self.size), len(self.widths) + 1)
        x = map_BxTxHxWxD.astype(self.dtype)
        for i, (width, size) in enumerate(zip(self.widths, sizes, strict=False)):
            x = jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")
            x = Conv3D(width, (3, 3, 3), config=config, name=f"conv{i}")(x)
            x = nn.relu(nn.GroupNorm(num_groups=math.gcd(width, 8), dtype=self.dtype, name=f"norm{i}")(x))
        x = jax.image.resize(x, (x.shape[0], *sizes[-1], x.shape[-1]), "linear")
        # Kernels start by their number of outputs, 3 here: by the root of the inputs' the first pictures are near gray and not far out of [0, 1].
        x = x / math.sqrt(x.shape[-1])
        return 0.5 + Conv3D(3, (3, 3, 3), config=config, use_bias=True, name="rgb")(x).astype(jnp.float32)
