"""What every transformer on video is besides its blocks: the clips that it takes, the tokens that they are cut into, how it computes."""

import flax.linen as nn
import jax

from vssl_jax.errors import UserError
from vssl_jax.models.transformer import BlockConfig
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


class VideoTransformer(nn.Module, kw_only=True):
    """Fields: `frames`, `size` (rows = columns, pixels), `pixel_mean` and `pixel_std` say what clips it takes; with `any_size` it takes clips of other
    sizes as well, its positions resized to theirs; `mlp_ratio` is the hidden layer of a block's MLP over the width; `drop_path` is the last layer's rate
    of stochastic depth; the rest is BlockConfig.

    A subclass has `width`, `depth`, `heads`, and `tubelet` (frames, rows, columns) of a patch.
    """

    mlp_ratio: float = 4.0
    frames: int = 16
    size: int = 224
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    drop_path: float = 0.0
    dtype: str = "float32"
    impl: str = "auto"
    unroll: int = 0
    remat: str = "auto"
    any_size: bool = False

    def __post_init__(self):
        """Raises UserError for a width that the heads do not divide, or clips that the tubelets do not."""
        super().__post_init__()
        if self.width % self.heads:
            raise UserError(f"model width {self.width} is not a multiple of its {self.heads} heads: choose one that is")
        if any(n % side for n, side in zip((self.frames, self.size, self.size), self.tubelet, strict=True)):
            raise UserError(
                f"clips of {self.frames} frames of {self.size}x{self.size} are no whole number of {tuple(self.tubelet)} tubelets"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along (time, rows, columns)."""
        t, h, w = self.tubelet
        return (self.frames // t, self.size // h, self.size // w)

    @property
    def hidden(self) -> int:
        """Units of a block's MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def block_config(self) -> BlockConfig:
        return BlockConfig(self.dtype, self.impl, self.unroll, self.remat)

    def grid_of(self, clip_BxTxHxWx3: jax.Array) -> tuple[int, int, int]:
        """Tokens of these clips along (time, rows, columns). Raises UserError where they are no whole number, and for clips of another size than the
        network's, unless it has `any_size`.
        """
        expected, sides = (self.frames, self.size, self.size, 3), clip_BxTxHxWx3.shape[1:]
        if sides != expected and not self.any_size:
            raise UserError(
                f"the model takes clips of (frames, rows, columns, channels) {expected}, got {sides}: read so many frames (sampler.frames of the data), "
                "or train it with model.any_size"
            )
        if any(n % side for n, side in zip(sides[:3], self.tubelet, strict=True)):
            raise UserError(f"clips of {sides[:3]} (frames, rows, columns) are no whole number of {tuple(self.tubelet)} tubelets")
        return tuple(n // side for n, side in zip(sides[:3], self.tubelet, strict=True))


def resized(table_NxD: jax.Array, own: tuple[int, int, int], wanted: tuple[int, int, int]) -> jax.Array:
    """Positions of the tokens `own` (time, rows, columns), resized to `wanted`: as DINO does for small crops (Caron et al. 2021, its code), by a cubic of
    the four next ones. Neighbors are not averaged before: of positions, which differ from one to the next, little would be left.
    """
    if wanted == own:
        return table_NxD
    table = table_NxD.reshape(*own, -1)
    return jax.image.resize(table, (*wanted, table.shape[-1]), "cubic", antialias=False).reshape(-1, table.shape[-1])
