"""Optical flow that was computed once and is read beside the frames: pictures of u and of v in the layout of TSN's tools.

    FLOW/FOLDER/VIDEO/flow_x_00001.jpg, flow_y_00001.jpg, ...    or FLOW/VIDEO/...: the video's name without its extension, and the folder it is in

The pictures are numbered without gaps, from frame n to frame n + 1 of the film: gray values of u and v in pixels, cut off at a bound (20, customarily) and
mapped linearly to 0..255. `python -m vssl_jax.make_flow` makes them; so do dense_flow (Wang et al. 2016, TSN) and denseflow (OpenMMLab).

The one idea: flow is one more array of a video, with as many rows as frames are asked for, so that all that cuts clips in time cuts it too. Of the last frame
of a film, which has no next one, it is the flow before. Like flow that is computed, it is in pixels of the film as it is on the canvas: stored at another size,
it is resized and its vectors are scaled alike.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.folder import EXTENSIONS
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.source import Source, VideoOf
from vssl_jax.errors import UserError

NAMES = {"u": "flow_x_", "v": "flow_y_"}


def film_of(name: str) -> str:
    """A source's name of a video, without the part of it that counts ([start,end], data/files.py): two parts of one film have one flow."""
    return re.sub(r"\[[^\[\],]+,[^\[\],]+\]$", "", name)


def folders_of(name: str) -> tuple[Path, Path]:
    """Where the flow of a source's video is looked for: (FOLDER/VIDEO, VIDEO)."""
    path = Path(film_of(name))
    path = path.with_suffix("") if path.suffix.lower() in EXTENSIONS else path
    return Path(path.parent.name) / path.name, Path(path.name)


def check_names(source: Source) -> None:
    """Raises UserError where two films would have one folder of flow."""
    films: dict[Path, str] = {}
    for i in range(len(source)):
        film = film_of(source.name(i))
        other = films.setdefault(folders_of(film)[0], film)
        if other != film:
            raise UserError(
                f"{other} and {film} would have their flow in one folder, {folders_of(film)[0]}: rename one of them or its folder"
            )


@dataclass(frozen=True)
class Pictures:
    """The flow of one film: `count` pictures each of u and v in `folder`, the first numbered `first`, in at least `digits` digits."""

    folder: Path
    first: int
    count: int
    digits: int

    def path(self, start: str, n: int) -> Path:
        """Of frame n."""
        return self.folder / f"{start}{self.first + min(n, self.count - 1):0{self.digits}d}.jpg"

    @classmethod
    def listed(cls, folder: Path) -> "Pictures":
        """Raises BrokenVideo("no_flow") where there are none, or some are missing."""
        names = [[path.stem.removeprefix(start) for path in folder.glob(f"{start}*.jpg")] for start in NAMES.values()]
        u, v = (sorted(int(name) for name in of if name.isdecimal()) for of in names)
        if not u or u != v or u != list(range(u[0], u[0] + len(u))):
            raise BrokenVideo(
                "no_flow", f"{folder} has {len(u)} pictures of u and {len(v)} of v, which are not numbered alike without gaps"
            )
        return cls(folder, u[0], len(u), min(len(name) for name in names[0]))


@dataclass(frozen=True)
class FlowVideo(VideoOf):
    """A video that gives its flow too."""

    pictures: Pictures

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The frames, and FLOW: uint8 [n,H,W,2], in the same corner of the canvas. Raises BrokenVideo."""
        arrays, extent = self.video.read(wanted, layout, canvas)
        numbers, places = np.unique(np.asarray(wanted), return_inverse=True)
        flow = np.zeros((len(numbers), *canvas, 2), np.uint8)
        for channel, start in enumerate(NAMES.values()):
            for row, number in enumerate(numbers):
                flow[row, : extent[0], : extent[1], channel] = _read(self.pictures.path(start, int(number)), extent, axis=1 - channel)
        return arrays | {batch_lib.FLOW: flow[places]}, extent


@dataclass(frozen=True)
class WithFlow:
    """`source` (source.Source), with the flow that is stored in `folder`. Raises UserError where it is no folder, or films cannot be told apart in it."""

    source: Source
    folder: Path
    _listed: dict[str, Pictures] = field(default_factory=dict, repr=False)  # of films that were opened

    def __post_init__(self):
        if not self.folder.is_dir():
            raise UserError(f"data.flow {str(self.folder)!r} is no folder: it is where vssl_jax.make_flow wrote flow, or empty for none")
        check_names(self.source)

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
        video, film = self.source.open(i), film_of(self.source.name(i))
        if film not in self._listed:
            self._listed[film] = self._list(film)
        pictures, frames = self._listed[film], video.index.num_frames
        if pictures.count not in (frames - 1, frames):
            raise BrokenVideo("no_flow", f"{pictures.folder} has flow of {pictures.count} frames, the film has {frames}")
        return FlowVideo(video, pictures)

    def _list(self, film: str) -> Pictures:
        looked = [self.folder / name for name in folders_of(film)]
        for folder in looked:
            if folder.is_dir():
                return Pictures.listed(folder)
        raise BrokenVideo("no_flow", f"neither {looked[0]} nor {looked[1]} is a folder")


def _read(path: Path, size: tuple[int, int], axis: int) -> np.ndarray:
    """u (along axis 1) or v (along axis 0) as a gray picture, uint8 [rows, columns] of `size`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            gray, stored = picture.convert("L"), picture.size[::-1]
            if stored == size:
                return np.asarray(gray)
            resized = np.asarray(gray.resize(size[::-1], Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenVideo("corrupt", f"flow {path}: {error}") from error
    codes = 127.5 + (np.arange(256) - 127.5) * (size[axis] / stored[axis])
    return np.clip(np.rint(codes), 0, 255).astype(np.uint8)[resized]
