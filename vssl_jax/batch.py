"""THE CONTRACT: what a batch holds, from the host's input to the device's loss.

A batch is a flat dict of arrays. Every array's first axis is B, the global batch (each host makes its own contiguous rows of it). Axis letters, used in
variable names all over the code (`clip_BxTxHxWx3`); a file of objectives/ or models/ in which one of them is something else says so at its head:

    B  videos in the batch          K  clips of one video            T  frames of a clip (or time slots of a feature map)
    H  rows      W  columns         C  channels (3 = RGB)            N  tokens          V  visible tokens        M  masked tokens
    D  width of a feature           P  values of one patch           L  layers          S  views (clips x crops)

Frames travel as uint8 and are cropped, resized, converted and normalized on the device. Videos differ in size, batches cannot: every frame stands in the
top-left corner of a canvas of fixed size (`data.canvas`), reduced on the host only if it is larger than the canvas, and `extent` says how many rows and
columns of the canvas are picture; the rest is zero and a crop never reaches it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

VIDEO = "video"  # uint8 [B,K,T,H,W,3]: RGB
LUMA = "luma"  # uint8 [B,K,T,H,W]: the Y plane (with CHROMA instead of VIDEO: half the conversion work on the host)
CHROMA = "chroma"  # uint8 [B,K,T,H/2,W/2,2]: the U and V planes at half size, 4:2:0, left-sited
YUV_SPACE = "yuv_space"  # int32 [B,K]: which YUV the planes are in, see YUV_SPACES
FLOW = "flow"  # uint8 [B,K,T,H,W,2]: u and v from each frame to the film's next, 128 for no motion; where the recipe names stored flow (data.flow)
EXTENT = "extent"  # int32 [B,K,2]: rows and columns of the canvas that hold picture
TIME = "time"  # float32 [B,K,T]: seconds from the video's first frame
LABEL = "label"  # int32 [B]: class, or -1 where there is none
INDEX = "index"  # int32 [B]: which video of the source this is
WEIGHT = "weight"  # float32 [B]: 1, or 0 for the padding of a last evaluation batch
GROUP = "group"  # int32 [B]: which recording the video was cut from; where the recipe says how to tell (data.group)
SLOT = "slot"  # int32 [B]: row in the global batch; the train step adds it, see perturb/keys.py

# (matrix, full range): the four that video files use. The position in this tuple is the code in YUV_SPACE.
YUV_SPACES = (("bt601", False), ("bt601", True), ("bt709", False), ("bt709", True))

_DTYPES = {
    VIDEO: np.uint8, LUMA: np.uint8, CHROMA: np.uint8, FLOW: np.uint8, YUV_SPACE: np.int32, EXTENT: np.int32, TIME: np.float32,
    LABEL: np.int32, INDEX: np.int32, WEIGHT: np.float32, SLOT: np.int32, GROUP: np.int32,
}  # fmt: skip
_RANKS = {VIDEO: 6, LUMA: 5, CHROMA: 6, FLOW: 6, YUV_SPACE: 2, EXTENT: 3, TIME: 3, LABEL: 1, INDEX: 1, WEIGHT: 1, SLOT: 1, GROUP: 1}

Batch = Mapping[str, jax.Array | np.ndarray]


@dataclass(frozen=True)
class Spec:
    """The sizes of a batch of video. `layout` is 'rgb' (VIDEO) or 'yuv420' (LUMA, CHROMA, YUV_SPACE); height and width are the canvas; `groups`: whether it
    says which recording each video is of (GROUP); `flow`: whether it has stored flow (FLOW).
    """

    batch_size: int
    clips: int
    frames: int
    height: int
    width: int
    layout: str = "rgb"
    groups: bool = False
    flow: bool = False

    def __post_init__(self):
        if self.layout not in ("rgb", "yuv420"):
            raise ValueError(f"layout is {self.layout!r}: it must be 'rgb' or 'yuv420'")
        if self.layout == "yuv420" and (self.height % 2 or self.width % 2):
            raise ValueError(f"a yuv420 canvas needs even sides, got {self.height}x{self.width}")

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The batch as ShapeDtypeStructs, for eval_shape and compilation without data."""
        b, k, t, h, w = self.batch_size, self.clips, self.frames, self.height, self.width
        if self.layout == "rgb":
            shapes = {VIDEO: (b, k, t, h, w, 3)}
        else:
            shapes = {LUMA: (b, k, t, h, w), CHROMA: (b, k, t, h // 2, w // 2, 2), YUV_SPACE: (b, k)}
        shapes |= {EXTENT: (b, k, 2), TIME: (b, k, t), LABEL: (b,), INDEX: (b,), WEIGHT: (b,)}
        shapes |= {GROUP: (b,)} if self.groups else {}
        shapes |= {FLOW: (b, k, t, h, w, 2)} if self.flow else {}
        return {key: jax.ShapeDtypeStruct(shape, _DTYPES[key]) for key, shape in shapes.items()}


def fake(spec: Spec, rng: jax.Array, num_classes: int = 2) -> dict[str, jax.Array]:
    """A batch of uniform noise with the canvas full: made on the device, for benchmarks, smoke runs and tests without files."""
    out = {}
    for i, (key, s) in enumerate(spec.shapes().items()):
        if s.dtype == np.uint8:
            out[key] = jax.random.bits(jax.random.fold_in(rng, i), s.shape, jnp.uint8)
        else:
            out[key] = jnp.zeros(s.shape, s.dtype)
    b, k, t = spec.batch_size, spec.clips, spec.frames
    out[EXTENT] = jnp.broadcast_to(jnp.array([spec.height, spec.width], jnp.int32), (b, k, 2))
    out[TIME] = jnp.broadcast_to(jnp.arange(t, dtype=jnp.float32) / 25.0, (b, k, t))
    out[INDEX] = jnp.arange(b, dtype=jnp.int32)
    out[LABEL] = out[INDEX] % num_classes
    out |= {GROUP: out[INDEX]} if spec.groups else {}
    out[WEIGHT] = jnp.ones((b,), jnp.float32)
    return out


def check(batch: Batch) -> None:
    """Raises ValueError, in one line, where a batch breaks the contract."""
    sizes = {key: value.shape[0] for key, value in batch.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"all entries of a batch share their first axis, got {sizes}")
    for key, value in batch.items():
        if key in _DTYPES and value.dtype != _DTYPES[key]:
            raise ValueError(f"batch[{key!r}] is {value.dtype}: it must be {np.dtype(_DTYPES[key])}")
        if key in _RANKS and value.ndim != _RANKS[key]:
            raise ValueError(f"batch[{key!r}] has shape {tuple(value.shape)}: it must have {_RANKS[key]} axes")
