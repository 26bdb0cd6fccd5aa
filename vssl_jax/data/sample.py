"""Which frames make a clip: chosen before anything is decoded, by pure functions of a generator and the frames' times.

A sampler returns frame numbers int64 [K, T], never decreasing along T. A video with too few frames is BrokenVideo("too_short"): a clip is
never wrapped, padded or slowed down silently, because a network learns such seams. `pad` is for protocols that say so: a video that is too
short is shown from its start, and its last frame stays until the clip is full (segments: frames are shown more than once).

With `target_fps` the stride counts frames of that rate instead of the file's own, picked by their times (right for variable frame rates
too); a file slower than that rate shows some frames twice, as any player would.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vssl_jax.data.index import BrokenVideo
from vssl_jax.errors import UserError


class Sampler(Protocol):
    """`clips` K and `frames` T are the shape of what it returns, `span` the least number of frames that it can use (at `target_fps`, where
    that is set)."""

    frames: int
    clips: int

    @property
    def span(self) -> int: ...

    def __call__(self, rng: np.random.Generator, seconds: np.ndarray, part: tuple[float, float] | None = None) -> np.ndarray:
        """Frame numbers int64 [K, T] inside `part` (start and end in seconds; None: the whole video). Raises BrokenVideo("too_short")."""
        ...


@dataclass(frozen=True)
class _Strided:
    """Clips of `frames` frames, `stride` apart."""

    frames: int
    stride: int = 1
    clips: int = 1
    target_fps: float = 0.0
    pad: bool = False

    def __post_init__(self):
        _check(self)

    @property
    def span(self) -> int:
        return (self.frames - 1) * self.stride + 1

    def _window(self, seconds: np.ndarray, part: tuple[float, float] | None) -> tuple[int, int]:
        """`window` of a clip; with `pad` one frame is enough."""
        return window(seconds, part, 1 if self.pad else self.span)


@dataclass(frozen=True)
class Dense(_Strided):
    """Training clips of `frames` frames, `stride` apart, each from a uniformly random start."""

    def __call__(self, rng, seconds, part=None):
        if self.target_fps == 0:
            first, stop = self._window(seconds, part)
            starts_K = rng.integers(first, max(stop - self.span, first) + 1, size=self.clips)
        else:
            first, last = _time_range(self, seconds, part)
            starts_K = rng.uniform(first, last, size=self.clips)
        return _strided(self, seconds, starts_K, part)


@dataclass(frozen=True)
class Views(_Strided):
    """Evaluation clips: as Dense, but the starts are evenly spaced from the first possible to the last; a single one is in the middle."""

    def __call__(self, rng, seconds, part=None):
        places_K = np.linspace(0.0, 1.0, self.clips) if self.clips > 1 else np.array([0.5])
        if self.target_fps == 0:
            first, stop = self._window(seconds, part)
            starts_K = first + np.floor(places_K * max(stop - first - self.span, 0) + 0.5).astype(np.int64)
        else:
            first, last = _time_range(self, seconds, part)
            starts_K = first + places_K * (last - first)
        return _strided(self, seconds, starts_K, part)


@dataclass(frozen=True)
class Segments:
    """TSN's sparse sampling (Wang et al. 2016, section 3.1): the video is cut into `frames` equal segments and gives one frame of each, a
    random one in training; in evaluation (`random=False`) clip k of K takes the frame at (k + 1/2) / K of every segment, the middle where K
    is 1."""

    frames: int
    clips: int = 1
    random: bool = True
    pad: bool = False

    def __post_init__(self):
        _check(self)

    @property
    def span(self) -> int:
        return self.frames

    def __call__(self, rng, seconds, part=None):
        first, stop = window(seconds, part, 1 if self.pad else self.span)
        bounds = first + np.arange(self.frames + 1) * (stop - first) // self.frames
        if self.random:
            return rng.integers(bounds[:-1], np.maximum(bounds[1:], bounds[:-1] + 1), size=(self.clips, self.frames))
        places_Kx1 = (np.arange(self.clips)[:, None] + 0.5) / self.clips
        return bounds[:-1] + np.floor(np.diff(bounds) * places_Kx1).astype(np.int64)


@dataclass(frozen=True)
class Interval(_Strided):
    """Two clips as Dense's, the nearer in time the likelier (CVRL, Qian et al. 2021, section 3.2): the distance of their starts has a density that
    falls linearly to 0 at the longest distance that there is; the first start is uniform in what is left, and either clip comes first."""

    clips: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.clips != 2 or self.target_fps:
            raise UserError(
                f"data.sampler.name=interval draws 2 clips, by frames: data.sampler.clips is {self.clips} and target_fps {self.target_fps:g}, set "
                "them to 2 and 0"
            )

    def __call__(self, rng, seconds, part=None):
        first, stop = self._window(seconds, part)
        longest = max(stop - first - self.span, 0)
        distance = round(longest * (1 - float(np.sqrt(1 - rng.random()))))  # the law's inverse: F(d) = 2 d / D - (d / D)^2
        start = first + rng.integers(0, longest - distance + 1)
        return _strided(self, seconds, rng.permutation(np.array([start, start + distance])), part)


SAMPLERS = {
    "dense": Dense,
    "interval": Interval,
    "segments": Segments,
    "views": Views,
    "segment_views": functools.partial(Segments, random=False),
}


def drawing(sampler: Sampler) -> Sampler:
    """The sampler that draws at random such clips as `sampler` shows at fixed places: Dense for Views, random Segments for the others. One that draws already
    is itself.
    """
    if isinstance(sampler, Views):
        return Dense(**dataclasses.asdict(sampler))
    return dataclasses.replace(sampler, random=True) if isinstance(sampler, Segments) and not sampler.random else sampler


def window(seconds: np.ndarray, part: tuple[float, float] | None, least: int) -> tuple[int, int]:
    """The frames [first, stop) whose times are in [start, end) of `part`. Raises BrokenVideo("too_short") where they are fewer than
    `least`."""
    first, stop = 0, len(seconds)
    if part is not None:
        # Within a microsecond of an end is at it: lists round times, and what is the first of one part must not be the last of another.
        first, stop = (int(i) for i in np.searchsorted(seconds, np.array(part) - 1e-6, side="left"))
    if stop - first < least:
        within = "" if part is None else f" in {part[0]:g}..{part[1]:g} s"
        raise BrokenVideo("too_short", f"{stop - first} frames{within}, a clip needs {least}")
    return first, stop


def _time_range(sampler: _Strided, seconds: np.ndarray, part: tuple[float, float] | None) -> tuple[float, float]:
    """The first and last time a clip at `target_fps` may start."""
    first, stop = window(seconds, part, 1)
    length = (sampler.frames - 1) * sampler.stride / sampler.target_fps
    last = seconds[stop - 1] - length
    if last < seconds[first] - 1e-6 and not sampler.pad:
        raise BrokenVideo(
            "too_short", f"{seconds[stop - 1] - seconds[first]:.2f} s, a clip at {sampler.target_fps:g} frames/s needs {length:.2f} s"
        )
    return float(seconds[first]), float(max(last, seconds[first]))


def _strided(sampler: _Strided, seconds: np.ndarray, starts_K: np.ndarray, part: tuple[float, float] | None) -> np.ndarray:
    """Frames at starts + stride * t: numbers of frames, or, at `target_fps`, the frames nearest in time within `part`."""
    steps_T = np.arange(sampler.frames) * sampler.stride
    first, stop = window(seconds, part, 1)
    if sampler.target_fps == 0:
        return np.minimum(starts_K[:, None] + steps_T, stop - 1).astype(np.int64)
    times_KxT = starts_K[:, None] + steps_T / sampler.target_fps
    middles = (seconds[first : stop - 1] + seconds[first + 1 : stop]) / 2
    return first + np.searchsorted(middles, times_KxT, side="left")


def _check(sampler) -> None:
    for name in ("frames", "stride", "clips"):
        if getattr(sampler, name, 1) < 1:
            raise UserError(f"data.sampler.{name} is {getattr(sampler, name)}: it must be 1 or more")
    if not getattr(sampler, "target_fps", 0.0) >= 0:
        raise UserError(f"data.sampler.target_fps is {sampler.target_fps}: it must be above 0, or 0 for the file's own rate")
