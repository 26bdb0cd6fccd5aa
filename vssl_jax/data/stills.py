"""Videos that are kept as one compressed picture per frame (JPEG, PNG): any frame costs the same, so only the wanted ones are decoded."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.decode import picture_size
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.source import TimeIndex
from vssl_jax.data.tensorflow_host import tensorflow

# What the planes of a layout 'yuv420' are made in here: JPEG's own.
YUV_SPACE = batch_lib.YUV_SPACES.index(("bt601", True))

_RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)


@dataclass(frozen=True)
class StillsVideo:
    """An opened record of pictures (source.Video)."""

    frames: Sequence[bytes]
    index: TimeIndex
    label: int
    span: tuple[float, float] | None = None

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        rows, cols, reduced = picture_size(self.index.height, self.index.width, canvas, even=layout == "yuv420")
        numbers, places = np.unique(np.asarray(wanted), return_inverse=True)
        rgb_NxHxWx3 = np.zeros((len(numbers), *canvas, 3), np.uint8)
        for slot, number in enumerate(numbers.tolist()):
            rgb_HxWx3 = decode(self.frames[number], number)
            if rgb_HxWx3.shape[:2] != (self.index.height, self.index.width):
                raise BrokenVideo("corrupt", f"frame {number} has another size than the first")
            rgb_NxHxWx3[slot, :rows, :cols] = (_resized(rgb_HxWx3, rows, cols) if reduced else rgb_HxWx3)[:rows, :cols]
        if layout == "rgb":
            return {batch_lib.VIDEO: rgb_NxHxWx3[places]}, (rows, cols)
        luma_NxHxW = np.zeros((len(numbers), *canvas), np.uint8)
        chroma_NxHxWx2 = np.full((len(numbers), canvas[0] // 2, canvas[1] // 2, 2), 128, np.uint8)
        luma_NxHxW[:, :rows, :cols], chroma_NxHxWx2[:, : rows // 2, : cols // 2] = rgb_to_yuv420(rgb_NxHxWx3[:, :rows, :cols])
        return {batch_lib.LUMA: luma_NxHxW[places], batch_lib.CHROMA: chroma_NxHxWx2[places]}, (rows, cols)


def open_stills(frames: Sequence[bytes], seconds: np.ndarray, label: int) -> StillsVideo:
    """The size is that of the first picture. Raises BrokenVideo."""
    if not frames:
        raise BrokenVideo("empty", "it holds no frames")
    height, width = _size(frames[0])
    return StillsVideo(frames, TimeIndex(seconds, height, width, YUV_SPACE), label)


def _size(data: bytes) -> tuple[int, int]:
    """Rows and columns, from the header of a JPEG or a PNG."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    tf = tensorflow()
    try:
        height, width, _ = tf.io.extract_jpeg_shape(data).numpy().tolist()
    except tf.errors.InvalidArgumentError as error:
        raise BrokenVideo("corrupt", f"frame 0 is neither JPEG nor PNG: {error.message}") from error
    return height, width


def decode(data: bytes, number: int) -> np.ndarray:
    """uint8 [H, W, 3]."""
    tf = tensorflow()
    try:
        return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise BrokenVideo("corrupt", f"frame {number} is no whole picture: {error.message}") from error


def rgb_to_yuv420(rgb_NxHxWx3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 planes [N,H,W] and [N,H/2,W/2,2] of uint8 RGB with even sides: BT.601, full range (ITU-T T.871), chroma on the even columns and
    between rows."""
    yuv_NxHxWx3 = rgb_NxHxWx3.astype(np.float32) @ _RGB_TO_YUV.T
    uv_NxHxWx2 = yuv_NxHxWx3[..., 1:]
    uv_NxHxWx2 = (uv_NxHxWx2[:, 0::2] + uv_NxHxWx2[:, 1::2]) / 2
    left_NxHxWx2 = np.concatenate([uv_NxHxWx2[:, :, :1], uv_NxHxWx2[:, :, 1:-1:2]], axis=2)
    uv_NxHxWx2 = (left_NxHxWx2 + 2 * uv_NxHxWx2[:, :, 0::2] + uv_NxHxWx2[:, :, 1::2]) / 4
    return _round(yuv_NxHxWx3[..., 0]), _round(uv_NxHxWx2 + 128)


def _resized(rgb_HxWx3: np.ndarray, rows: int, cols: int) -> np.ndarray:
    return _round(tensorflow().image.resize(rgb_HxWx3, (rows, cols), method="area").numpy())


def _round(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
