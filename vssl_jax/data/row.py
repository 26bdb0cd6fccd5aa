"""One row of a batch, from its position alone: pick the video, pick the frames, decode those frames, and where the video is broken go on
with a substitute."""

import re
import zlib
from dataclasses import dataclass

import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.order import index_at, sample_rng, substitute_at
from vssl_jax.data.sample import Sampler
from vssl_jax.data.source import UNLABELED, Source
from vssl_jax.data.stream import Row
from vssl_jax.errors import UserError

MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Input:
    """What to read and how: everything but the place in it. `spec.batch_size` is global; `spec.clips` and `spec.frames` are the
    sampler's."""

    source: Source
    spec: batch_lib.Spec
    sampler: Sampler
    broken: BrokenRecord
    seed: int = 0
    shuffle: bool = True
    workers: int = 0  # threads; 0: one per core
    group: str = ""  # regular expression whose first group, in a video's name, says which recording it was cut from

    def __post_init__(self):
        made, wanted = (self.sampler.clips, self.sampler.frames), (self.spec.clips, self.spec.frames)
        if made != wanted:
            raise ValueError(f"the sampler makes {made[0]} clips of {made[1]} frames, the batch's spec says {wanted[0]} of {wanted[1]}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: it must be 0 or more")
        if bool(self.group) != self.spec.groups:
            raise ValueError(f"the input's group is {self.group!r}, and the batch's spec has groups={self.spec.groups}")


def training_row(input: Input, position: int) -> Row:
    """The row at a position of an endless run; a broken video is recorded and replaced. Raises UserError where too many are broken."""
    videos = len(input.source)
    i = index_at(position, videos, input.seed, input.shuffle)
    for attempt in range(MOST_ATTEMPTS):
        try:
            return _read(input, i, sample_rng(input.seed, position, attempt))
        except BrokenVideo as error:
            input.broken.add(input.source.name(i), error, videos)
        i = substitute_at(position, attempt + 1, videos, input.seed)
    raise input.broken.error(videos, f"no readable video in {MOST_ATTEMPTS} draws for one row")


def evaluation_row(input: Input, i: int) -> Row:
    """Video i, once; a broken one, or i beyond the end, is a row of zeros with WEIGHT 0. Draws depend on (seed, i) only."""
    videos = len(input.source)
    if i >= videos:
        return empty_row(input.spec, -1)
    try:
        return _read(input, i, sample_rng(input.seed, i))
    except BrokenVideo as error:
        input.broken.add(input.source.name(i), error, videos)
        return empty_row(input.spec, i)


def empty_row(spec: batch_lib.Spec, i: int) -> Row:
    """Black picture filling the canvas (a crop of an empty extent would be NaN, and NaN times WEIGHT 0 is NaN), no label."""
    row = {key: np.zeros(s.shape[1:], s.dtype) for key, s in spec.shapes().items()}
    row[batch_lib.EXTENT][:] = (spec.height, spec.width)
    return row | {batch_lib.INDEX: np.int32(i), batch_lib.LABEL: np.int32(UNLABELED)}


def group_of(input: Input, i: int) -> np.int32:
    """A number that videos of one recording share. Raises UserError for a name that `input.group` does not match."""
    found = re.search(input.group, input.source.name(i))
    if found is None:
        raise UserError(f"data.group={input.group} does not match the name {input.source.name(i)!r}: it has to match every video's")
    return np.int32(zlib.crc32(found[1].encode(errors="surrogatepass")) & 0x7FFFFFFF)


def _read(input: Input, i: int, rng: np.random.Generator) -> Row:
    """Video i as a row of the batch."""
    spec = input.spec
    input.broken.meet(i)
    video = input.source.open(i)
    frames_KxT = input.sampler(rng, video.index.seconds, video.span)
    arrays, extent = video.read(frames_KxT.ravel().tolist(), spec.layout, (spec.height, spec.width))
    row = {key: array.reshape(spec.clips, spec.frames, *array.shape[1:]) for key, array in arrays.items()}
    row[batch_lib.TIME] = video.index.seconds[frames_KxT].astype(np.float32)
    row[batch_lib.EXTENT] = np.tile(np.asarray(extent, np.int32), (spec.clips, 1))
    if spec.layout == "yuv420":
        row[batch_lib.YUV_SPACE] = np.full((spec.clips,), video.index.yuv_space, np.int32)
    if spec.groups:
        row[batch_lib.GROUP] = group_of(input, i)
    return row | {batch_lib.LABEL: np.int32(video.label), batch_lib.INDEX: np.int32(i), batch_lib.WEIGHT: np.float32(1)}
