"""A small source, decoded once: what is read of a video after the first time is copied out of memory.

Opening a film costs more than decoding a clip of it where films are short; the videos of a laptop's experiment fit into memory whole. Training, what
looks on meanwhile and the evaluation after it open the same videos: `shared` keeps them once for all.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.sample import window
from vssl_jax.data.source import Index, Source, Video, VideoOf


@dataclass(frozen=True)
class KeptVideo:
    """A video whose frames are in memory (source.Video), in one layout and on one canvas."""

    index: Index
    label: int
    span: tuple[float, float] | None
    arrays: dict[str, np.ndarray]  # of the frames that count
    extent: tuple[int, int]
    first: int = 0  # the number of the first of them

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The layout and the canvas are those that the frames are kept in, the frames those of the part that counts."""
        places = np.asarray(wanted) - self.first
        if places.min() < 0:
            raise ValueError(f"frame {min(wanted)} is wanted of a part that begins at {self.first}")
        return {key: array[places] for key, array in self.arrays.items()}, self.extent


@dataclass(frozen=True)
class _Unread(VideoOf):
    """Video i of `memory`, whose frames are still in their file: they are read when one of them is asked for, so that its label costs no decoding."""

    memory: "InMemory"
    i: int

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        return self.memory.kept(self.i, self.video).read(wanted, layout, canvas)


class InMemory:
    """`source`, whose frames stay in memory once read, up to `limit_bytes` in all (source.Source). Everything is read in the `layout` and on
    the `canvas` given here. The bytes are those of reading the file: what does not fit, and a film that cannot be read whole, is read from its
    file every time.
    """

    def __init__(self, source: Source, layout: str, canvas: tuple[int, int], limit_bytes: int):
        self.source, self.classes, self.keys = source, source.classes, source.keys
        self._layout, self._canvas, self._limit = layout, tuple(canvas), limit_bytes
        self._kept: dict[int, KeptVideo | None] = {}  # None: it stays in its file
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.source)

    def name(self, i: int) -> str:
        return self.source.name(i)

    def open(self, i: int) -> Video:
        kept = self._kept.get(i)
        if kept is not None:
            return kept
        video = self.source.open(i)
        return video if i in self._kept else _Unread(video, self, i)

    def kept(self, i: int, video: Video) -> Video:
        """`video`, which is number i, with its frames in memory where they fit."""
        if i not in self._kept:
            self._keep(i, video)
        return self._kept[i] or video

    def _keep(self, i: int, video: Video) -> None:
        """Reads the frames that count, if they fit and can be read. Outside the lock: two threads may both read a film, with the same outcome."""
        first, stop = window(video.index.seconds, video.span, 1)
        values = (3 if self._layout == "rgb" else 1.5) + (2 if batch_lib.FLOW in self.keys else 0)  # a pixel's
        size, kept = int((stop - first) * self._canvas[0] * self._canvas[1] * values), None
        with self._lock:  # taken before they are read, so that all threads together stay below the limit
            fits = self._bytes + size <= self._limit
            self._bytes += size if fits else 0
        if fits:
            with contextlib.suppress(BrokenVideo):  # a clip may miss the damage
                arrays, extent = video.read(range(first, stop), self._layout, self._canvas)
                kept = KeptVideo(video.index, video.label, video.span, arrays, extent, first)
        with self._lock:
            if fits and (kept is None or i in self._kept):
                self._bytes -= size
            self._kept.setdefault(i, kept)


class _Opened:
    """`known` are the sources by their settings, `kept` those that were opened again and so outlive their readers."""

    def __init__(self):
        self.known: weakref.WeakValueDictionary[str, InMemory] = weakref.WeakValueDictionary()
        self.kept: list[InMemory] = []


_shared: _Opened | None = None


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Until the body ends, data that are opened with the same settings are one source, whose frames stay in memory. Those of data that are opened once do
    not outlive their reader: evaluation of other videos needs the memory.
    """
    global _shared
    before, _shared = _shared, _Opened()
    try:
        yield
    finally:
        _shared = before


def opened(settings: str, open_it: Callable[[], InMemory]) -> InMemory:
    """What `open_it` opens; inside `shared`, what it opened for these settings before."""
    if _shared is None:
        return open_it()
    source = _shared.known.get(settings)
    if source is None:
        source = _shared.known[settings] = open_it()
    else:
        _shared.kept.append(source)
    return source
