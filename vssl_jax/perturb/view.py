"""From the batch's uint8 frames to the normalized clips that a network reads.

The one idea: crop, resize and flip are one separable resampling, RGB and YUV420 batches differ only in which planes it is applied to, and
all that is drawn for a clip (box, flip, colors) is drawn once and shared by its frames, unless a recipe asks for each frame's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import crop as crop_lib
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import resample, yuv

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Pixels(NamedTuple):
    """The pictures a backbone takes: its side (or rows, columns) in pixels, and what `normalize` takes."""

    size: int | tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


ColorOp = Callable[[jax.Array, jax.Array], jax.Array]  # (key, rgb_TxHxWx3 in [0, 1]) -> the same, see perturb/color.py and blur.py


Crop = crop_lib.RandomResizedCrop | crop_lib.MultiScaleCrop | crop_lib.SquareCrop | crop_lib.CenterCrop | crop_lib.WholePicture


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a view's size."""
    return (size, size) if isinstance(size, int) else tuple(size)


def normalize(rgb: jax.Array, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> jax.Array:
    """(rgb - mean) / std per channel, float32; rgb in [0, 1]."""
    return (rgb - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)


def denormalize(clip: jax.Array, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> jax.Array:
    """RGB in [0, 1] from a normalized clip, float32: the inverse of normalize."""
    return clip.astype(jnp.float32) * jnp.array(std, jnp.float32) + jnp.array(mean, jnp.float32)


def resampled_rgb(
    batch: batch_lib.Batch, box_BxKx4: jax.Array, flip_BxK: jax.Array, size: tuple[int, int], antialias: bool = True
) -> jax.Array:
    """The boxes cut out, resized, and mirrored where flip is set.

    Chroma is resampled at its own size and place and meets luma at the output's size: the picture is never built at full size in RGB.

    Args:
        batch: VIDEO, or LUMA, CHROMA and YUV_SPACE; and EXTENT.
        box_BxKx4: float (top, left, height, width) in pixels, inside the extent.
        flip_BxK: bool, left-right.
        size: output (rows, columns).
        antialias: see resample.

    Returns:
        float32 [B, K, T, h, w, 3] in [0, 1].
    """
    top, left, height, width = jnp.moveaxis(box_BxKx4, -1, 0)
    down, across = resample.Line(top, height, jnp.zeros_like(flip_BxK)), resample.Line(left, width, flip_BxK)
    extent_BxKx2 = batch[batch_lib.EXTENT]

    def apply(plane, picture_BxKx2, rows: resample.Sampling, columns: resample.Sampling):
        rows_BxKxhxH = resample.weights(down, (size[0], plane.shape[3]), picture_BxKx2[..., 0], antialias, rows)
        columns_BxKxwxW = resample.weights(across, (size[1], plane.shape[4]), picture_BxKx2[..., 1], antialias, columns)
        return resample.apply(rows_BxKxhxH, columns_BxKxwxW, plane)

    if batch_lib.VIDEO in batch:
        return jnp.clip(apply(batch[batch_lib.VIDEO], extent_BxKx2, resample.FULL, resample.FULL) / 255, 0, 1)
    luma = apply(batch[batch_lib.LUMA][..., None], extent_BxKx2, resample.FULL, resample.FULL)
    chroma = apply(batch[batch_lib.CHROMA], (extent_BxKx2 + 1) // 2, resample.CHROMA_ROWS, resample.CHROMA_COLUMNS)
    return yuv.to_rgb(luma, chroma, batch[batch_lib.YUV_SPACE])


def unit_rgb(batch: batch_lib.Batch) -> jax.Array:
    """The batch's pictures as they are, whole canvas: float32 [B, K, T, H, W, 3] in [0, 1]; black outside the extent."""
    extent_BxKx2 = batch[batch_lib.EXTENT]
    canvas = (batch[batch_lib.VIDEO] if batch_lib.VIDEO in batch else batch[batch_lib.LUMA]).shape[3:5]
    box_BxKx4 = jnp.broadcast_to(jnp.array([0, 0, *canvas], jnp.float32), (*extent_BxKx2.shape[:2], 4))
    rgb = resampled_rgb(batch, box_BxKx4, jnp.zeros(extent_BxKx2.shape[:2], bool), canvas)
    rows, columns = jnp.arange(canvas[0])[:, None], jnp.arange(canvas[1])
    height, width = extent_BxKx2[..., 0, None, None], extent_BxKx2[..., 1, None, None]
    inside_BxKxHxW = (rows < height) & (columns < width)
    return rgb * inside_BxKxHxW[:, :, None, :, :, None]


def _frames_as_clips(batch: batch_lib.Batch) -> dict[str, jax.Array]:
    """The video keys with every frame as a clip of its own: [B, K*T, 1, ...]."""
    out = {}
    for key in (batch_lib.VIDEO, batch_lib.LUMA, batch_lib.CHROMA):
        if key in batch:
            x = batch[key]
            frames = x.shape[2]
            out[key] = x.reshape(x.shape[0], -1, 1, *x.shape[3:])
    for key in (batch_lib.EXTENT, batch_lib.YUV_SPACE):
        if key in batch:
            out[key] = jnp.repeat(batch[key], frames, axis=1)
    return out


@dataclass(frozen=True)
class RandomView:
    """One randomly drawn view of every clip.

    Attributes:
        size: output side, or (rows, columns).
        crop: a crop of perturb/crop.py.
        flip: probability of mirroring left-right.
        color: operations on RGB in [0, 1], in this order: perturb/color.py, perturb/blur.py.
        mean, std: what normalize takes.
        per: who shares draws: 'clip' (a clip's frames), 'video' (all of a video's clips), 'frame' (nobody).
        shift: with per='video', each clip's box is moved by up to that share of its sides, inside the picture, so that clips cannot be
            told apart or put in order by where still things stand.
        antialias: see resample.
        dtype: of the result; everything before is float32.
    """

    size: int | tuple[int, int]
    crop: Crop = field(default_factory=crop_lib.RandomResizedCrop)
    flip: float = 0.5
    color: tuple[ColorOp, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    per: str = "clip"
    shift: float = 0.0
    antialias: bool = True
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if not 0 <= self.shift < 1 or (self.shift and self.per != "video"):
            raise UserError(f"view has shift={self.shift}: it is for per='video', a share of the crop from 0 to below 1")
        if self.per not in ("clip", "video", "frame"):
            raise UserError(f"view has per={self.per!r}: it must be 'clip', 'video' or 'frame'")
        if not 0 <= self.flip <= 1:
            raise UserError(f"view has flip={self.flip}: a probability is from 0 to 1")

    def __call__(self, keys_B: jax.Array, batch: batch_lib.Batch, colored_B: jax.Array | None = None) -> jax.Array:
        """The normalized view, [B, K, T, h, w, 3] of `dtype`. `colored_B`, bool: which videos' colors are changed; None: all."""
        return normalize(self.unit(keys_B, batch, colored_B), self.mean, self.std).astype(self.dtype)

    def unit(self, keys_B: jax.Array, batch: batch_lib.Batch, colored_B: jax.Array | None = None) -> jax.Array:
        """The view before normalization, float32 [B, K, T, h, w, 3] in [0, 1]."""
        size = pair(self.size)
        shape = batch[batch_lib.VIDEO if batch_lib.VIDEO in batch else batch_lib.LUMA].shape[:3]
        if self.per == "frame":
            batch = _frames_as_clips(batch)
        extent_BxKx2 = batch[batch_lib.EXTENT]
        clips = extent_BxKx2.shape[1]
        keys_BxK = keys_lib.unit_keys(keys_B, clips)
        own_BxK = keys_BxK
        if self.per == "video":
            keys_BxK = jnp.broadcast_to(keys_BxK[:, :1], keys_BxK.shape)

        def draw(key, extent_2):
            crop_key, flip_key, color_key = jax.random.split(key, 3)
            return self.crop.draw(crop_key, extent_2, size), jax.random.bernoulli(flip_key, float(self.flip)), color_key

        box_BxKx4, flip_BxK, keys_BxK = jax.vmap(jax.vmap(draw))(keys_BxK, extent_BxKx2)
        if self.shift:
            box_BxKx4 = jax.vmap(jax.vmap(self._shifted))(own_BxK, box_BxKx4, extent_BxKx2)
        plain = rgb = resampled_rgb(batch, box_BxKx4, flip_BxK, size, self.antialias)
        for i, op in enumerate(self.color):
            op_keys_BxK = jax.vmap(jax.vmap(lambda key, i=i: jax.random.fold_in(key, i)))(keys_BxK)
            rgb = jax.vmap(jax.vmap(op))(op_keys_BxK, rgb)
        if colored_B is not None:
            rgb = jnp.where(colored_B.reshape(-1, *[1] * (rgb.ndim - 1)), rgb, plain)
        return rgb.reshape(*shape, *size, 3)

    def _shifted(self, key: jax.Array, box_4: jax.Array, extent_2: jax.Array) -> jax.Array:
        """The box, moved by a uniform share of its sides and kept inside the picture."""
        corner_2, sides_2 = box_4[:2], box_4[2:]
        # The first clip's key is the one that the common box was drawn from.
        by_2 = jax.random.uniform(keys_lib.apart(key), (2,), minval=-self.shift, maxval=self.shift) * sides_2
        return jnp.concatenate([jnp.clip(corner_2 + by_2, 0, jnp.maximum(extent_2 - sides_2, 0)), sides_2])


@dataclass(frozen=True)
class EvalView:
    """Views that draw nothing: the short side resized to `short_side` (default: size), then crops of `size`.

    One crop is in the middle; several are spread evenly from end to end of the longer side.
    """

    size: int | tuple[int, int]
    short_side: int | None = None
    crops: int = 1
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    antialias: bool = True
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if self.crops < 1:
            raise UserError(f"evaluation view has crops={self.crops}: it must be at least 1")
        if self.short_side is not None and self.short_side < max(pair(self.size)):
            raise UserError(
                f"evaluation view resizes the short side to {self.short_side}, less than the crop of {self.size}: raise short_side"
            )

    def __call__(self, batch: batch_lib.Batch) -> jax.Array:
        """The normalized views, [B, K * crops, T, h, w, 3] of `dtype`; a clip's crops stand together."""
        size = pair(self.size)
        fraction = 1.0 if self.short_side is None else max(size) / self.short_side
        positions = [0.5] if self.crops == 1 else [i / (self.crops - 1) for i in range(self.crops)]
        extent_BxKx2 = batch[batch_lib.EXTENT]
        flip_BxK = jnp.zeros(extent_BxKx2.shape[:2], bool)
        views = []
        for position in positions:
            box_BxKx4 = jax.vmap(jax.vmap(lambda extent_2, p=position: crop_lib.centered(extent_2, size, fraction, p)))(extent_BxKx2)
            views.append(resampled_rgb(batch, box_BxKx4, flip_BxK, size, self.antialias))
        rgb = jnp.stack(views, axis=2)
        rgb = rgb.reshape(rgb.shape[0], -1, *rgb.shape[3:])
        return normalize(rgb, self.mean, self.std).astype(self.dtype)
