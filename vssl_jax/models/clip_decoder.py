"""From a map of features back to a clip: small convolutions between steps of resizing.

The one idea: the sizes between the map's and half the clip's are in geometric progression, so the decoder fits behind any backbone; behind
one that reduces every axis 16 times they double from step to step. The last doubling is a transposed convolution: at half the size each
place makes the 2 x 2 x 2 pixels that stand there, which costs the same products as a convolution at full size, and no array of that size.
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
    """A step for each of `widths`: resizing (linear), a 3x3x3 convolution into so many channels, GroupNorm, ReLU; then a convolution into the RGB of
    `frames` frames of `size`. GroupNorm is per clip, so a decoder has no statistics to keep.
    """

    frames: int
    size: tuple[int, int]
    widths: tuple[int, ...] = (256, 128, 64)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, map_BxTxHxWxD: jax.Array) -> jax.Array:
        """float32 [B, frames, rows, columns, 3], of any range."""
        config = NetConfig(dtype=self.dtype)
        half = tuple(-(-n // 2) for n in (self.frames, *self.size))
        x = map_BxTxHxWxD.astype(self.dtype)
        for i, (width, size) in enumerate(zip(self.widths, sizes_between(x.shape[1:4], half, len(self.widths)), strict=True)):
            x = jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")
            x = Conv3D(width, (3, 3, 3), config=config, name=f"conv{i}")(x)
            x = nn.relu(nn.GroupNorm(num_groups=math.gcd(width, 8), dtype=self.dtype, name=f"norm{i}")(x))
        # Kernels start by their number of outputs: divided by the root of the inputs', the first pictures are near gray.
        x = Conv3D(8 * 3, (3, 3, 3), config=config, use_bias=True, name="rgb")(x / math.sqrt(x.shape[-1]))
        x = x.reshape(-1, *half, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *(2 * n for n in half), 3)
        return 0.5 + x[:, : self.frames, : self.size[0], : self.size[1]].astype(jnp.float32)
