"""Video files as a source: a path, a label and perhaps a part of the film each. Folder, manifest and the embedded world differ only in how
they list them.

The index of a file (one pass over its packets, a few milliseconds) is kept in memory, up to a limit of bytes, so that only the first epoch pays.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl_jax.data.decode import read_frames
from vssl_jax.data.index import VideoIndex, index_video
from vssl_jax.data.source import UNLABELED, keys_with_labels

INDICES_BYTES = 2**28  # 300,000 and more films of evenly spaced frames, 80,000 others of ten seconds


@dataclass(frozen=True)
class FileEntry:
    """One line of a list of films. `span` is the part that counts, [start, end) in seconds, or None for all of it."""

    path: str
    label: int = UNLABELED
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class FileVideo:
    """An indexed film (source.Video)."""

    path: str
    index: VideoIndex
    label: int
    span: tuple[float, float] | None

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        return read_frames(self.path, self.index, wanted, layout, canvas)


class FileSource:
    """Films of a list (source.Source)."""

    def __init__(self, entries: Sequence[FileEntry], classes: tuple[str, ...] = ()):
        self.entries = tuple(entries)
        self.classes = classes
        self.keys = keys_with_labels(classes)
        self._indices: dict[str, VideoIndex] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, i: int) -> str:
        """The path, with the part where the list names one: two parts of one film are two videos."""
        entry = self.entries[i]
        return entry.path if entry.span is None else f"{entry.path}[{entry.span[0]:g},{entry.span[1]:g}]"

    def open(self, i: int) -> FileVideo:
        entry = self.entries[i]
        return FileVideo(entry.path, self._index(entry.path), entry.label, entry.span)

    def _index(self, path: str) -> VideoIndex:
        if (known := self._indices.get(path)) is not None:
            return known
        index = index_video(path)  # outside the lock: two threads may both do it, with the same outcome
        with self._lock:
            # The first ones stay: of those that come last, in another order every epoch, hardly one would be there when it comes again.
            if path not in self._indices and self._bytes + index.nbytes <= INDICES_BYTES:
                self._indices[path] = index
                self._bytes += index.nbytes
        return index


def absolute(path: Path) -> str:
    """Recorded paths stay right when the run is started from another folder."""
    return str(path.absolute())
