"""Optical flow that was computed once and is read beside the frames: pictures of u and of v in the layout of TSN's tools.

    FLOW/CLASS/VIDEO/flow_x_00001.jpg, flow_y_00001.jpg, ...    or FLOW/VIDEO/..., named as the video without its extension

The pictures, sorted by name, are from frame n to frame n + 1 of the film, gray values of u and v cut off at a bound (20 pixels, customarily) and mapped
linearly to 0..255. `python -m vssl_jax.make_flow` makes them; so do dense_flow (Wang et al. 2016, TSN) and denseflow (OpenMMLab).

The one idea: flow is one more array of a video, with as many rows as frames are asked for, so that all that cuts clips in time cuts it too. Of the last frame
of a film, which has no next one, it is the flow before.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.folder import EXTENSIONS
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.source import Index, Source, Video
from vssl_jax.errors import UserError

NAMES = {"u": "flow_x_", "v": "flow_y_"}


def folders_of(name: str) -> tuple[Path, Path]:
    """Where the flow of a source's video is looked for: (CLASS/VIDEO, VIDEO). Two parts of one film have one flow."""
    path = Path(re.sub(r"\[[^\[\]]*\]$", "", name))
    path = path.with_suffix("") if path.suffix.lower() in EXTENSIONS else path
    return Path(path.parent.name) / path.name, Path(path.name)


@dataclass(frozen=True)
class FlowVideo:
    """A video (source.Video) that gives its flow too: `pictures` are the files of u and of v."""

    video: Video
    pictures: tuple[Sequence[Path], Sequence[Path]]

    @property
    def index(self) -> Index:
        return self.video.index

    @property
    def label(self) -> int:
        return self.video.label

    @property
    def span(self) -> tuple[float, float] | None:
        return self.video.span

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The frames, and FLOW: uint8 [n,H,W,2], in the same corner of the canvas, resized where it was stored at another size. Raises BrokenVideo."""
        arrays, extent = self.video.read(wanted, layout, canvas)
        numbers, places = np.unique(np.minimum(np.asarray(wanted), len(self.pictures[0]) - 1), return_inverse=True)
        flow = np.zeros((len(numbers), *canvas, 2), np.uint8)
        for channel, files in enumerate(self.pictures):
            for row, number in enumerate(numbers):
                flow[row, : extent[0], : extent[1], channel] = _read(files[number], extent)
        return arrays | {batch_lib.FLOW: flow[places]}, extent


@dataclass(frozen=True)
class WithFlow:
    """`source` (source.Source), with the flow that is stored in `folder`."""

    source: Source
    folder: Path

    def __post_init__(self):
        if not self.folder.is_dir():
            raise UserError(f"data.flow {str(self.folder)!r} is no folder: it is where vssl_jax.make_flow wrote flow, or empty for none")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def keys(self) -> frozenset[str]:
        return self.source.keys | {batch_lib.FLOW}

    def __len__(self) -> int:
        return len(self.source)

    def name(self, i: int) -> str:
        return self.source.name(i)

    def open(self, i: int) -> FlowVideo:
        """Raises BrokenVideo("no_flow") where there is none, or not of all frames."""
        video = self.source.open(i)
        looked = [self.folder / name for name in folders_of(self.source.name(i))]
        folder = next((path for path in looked if path.is_dir()), None)
        if folder is None:
            raise BrokenVideo("no_flow", f"neither {looked[0]} nor {looked[1]} is a folder")
        u, v = (sorted(folder.glob(f"{start}*.jpg")) for start in NAMES.values())
        frames = video.index.num_frames
        if len(u) != len(v) or len(u) not in (frames - 1, frames) or not u:
            raise BrokenVideo("no_flow", f"{folder} has {len(u)} pictures of u and {len(v)} of v, the film has {frames} frames")
        return FlowVideo(video, (u, v))


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A gray picture, uint8 [rows, columns] of `size`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            gray = picture.convert("L")
            return np.asarray(gray if gray.size == size[::-1] else gray.resize(size[::-1], Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenVideo("corrupt", f"flow {path}: {error}") from error
