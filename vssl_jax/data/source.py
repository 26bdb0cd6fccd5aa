"""A source is a numbered list of videos: what it is stored in is nobody else's business.

Everything after this (which frames, in which order, on which host) sees `len(source)` and `source.open(i)` only, so that files, shards,
TFDS and the embedded world go through the same sampling, the same accounting of broken videos and the same order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError, unknown_name

UNLABELED = -1

# What every source of videos can put in a batch; LABEL is added where there are labels, LUMA and CHROMA take VIDEO's place in the layout
# 'yuv420'.
VIDEO_KEYS = frozenset({batch_lib.VIDEO, batch_lib.EXTENT, batch_lib.TIME, batch_lib.INDEX, batch_lib.WEIGHT})


class Index(Protocol):
    """What is known of a video before any frame is decoded."""

    num_frames: int
    seconds: np.ndarray  # float64 [num_frames], increasing, from the first frame
    height: int  # as shown, after rotation
    width: int
    yuv_space: int  # position in batch.YUV_SPACES


class Video(Protocol):
    """One opened video."""

    index: Index
    label: int  # or UNLABELED
    span: tuple[float, float] | None  # the part that counts, [start, end) in seconds from the first frame; None: all of it

    def read(self, wanted: Sequence[int], layout: str, canvas: tuple[int, int]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The frames numbered `wanted` (in any order, repeats allowed) in the top-left corner of a canvas: {VIDEO: uint8 [n,H,W,3]} or
        {LUMA: [n,H,W], CHROMA: [n,H/2,W/2,2]}, and the rows and columns that hold picture. Raises BrokenVideo."""
        ...


@dataclass(frozen=True)
class VideoOf:
    """The base of a Video that differs from `video` in what is read of it: a subclass has `read`."""

    video: Video

    @property
    def index(self) -> Index:
        return self.video.index

    @property
    def label(self) -> int:
        return self.video.label

    @property
    def span(self) -> tuple[float, float] | None:
        return self.video.span


@runtime_checkable
class Source(Protocol):
    """A numbered list of videos. Threads open several at a time."""

    classes: tuple[str, ...]  # names; () where there are no labels
    keys: frozenset[str]  # the batch keys that it can give

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What a person finds the video by: its path, or shard and record."""
        ...

    def open(self, i: int) -> Video:
        """Raises BrokenVideo."""
        ...


@dataclass(frozen=True)
class TimeIndex:
    """An Index for videos that are not files with a container: the times are known."""

    seconds: np.ndarray
    height: int
    width: int
    yuv_space: int

    @property
    def num_frames(self) -> int:
        return len(self.seconds)


def keys_with_labels(classes: Sequence[str]) -> frozenset[str]:
    return VIDEO_KEYS | ({batch_lib.LABEL} if classes else frozenset())


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The names in a text file, one a line, in the order of their numbers. It keeps the numbers the same in a train and a test split."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}; give a text file with one name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise UserError(f"the class names in {path} must be one or more different names, one a line")
    return names


MOST_CLASSES = 100_000  # more than any data set names: such labels are no counts of classes


def name_labels(labels: Iterable[str], classes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, int]]:
    """(class names, label -> number) of labels that are names. Given `classes` are kept as they are; else they are the labels, sorted."""
    classes = classes if classes else tuple(sorted(set(labels)))
    numbers = {name: i for i, name in enumerate(classes)}
    for label in sorted(set(labels) - set(numbers)):
        raise unknown_name("class", label, classes)
    return classes, numbers


def number_labels(labels: Iterable[str], classes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, int]]:
    """(class names, label -> number). Labels that are all non-negative integers are numbers, and their classes all from 0 to the largest; others are names.
    Among numbers -1 is none.
    """
    found = set(labels)
    none = found & {str(UNLABELED)}
    integers = found > none and all(label.isascii() and label.isdigit() for label in found - none)
    if not integers:
        return name_labels(found, classes)
    classes, numbers = _counted(found - none, classes)
    return classes, numbers | dict.fromkeys(none, UNLABELED)


def _counted(found: set[str], classes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, int]]:
    """As `number_labels`, of integers."""
    if not classes:
        largest = max(map(int, found))
        if largest >= MOST_CLASSES:
            raise UserError(
                f"the label {largest} would be one of {largest + 1:,} classes: integers count classes from 0; name a file of class names, or write names"
            )
        classes = tuple(str(i) for i in range(largest + 1))
    if set(classes) >= found:
        return name_labels(found, classes)
    if max(map(int, found)) >= len(classes):
        raise UserError(f"label {max(map(int, found))} is beyond the {len(classes)} class names: labels count from 0")
    return classes, {label: int(label) for label in found}
