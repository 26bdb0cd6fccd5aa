"""Shards of JPEG frames from any source: decoding is paid once, and every later epoch reads pictures.

    python -m vssl_jax.data.make_shards --source=folder --path=videos --out=shards --shards=16

Settings of the source are given by their names (--split=test, --classes=names.txt, --world=mixed-8, ...). The shards keep the source's
order; threads make different shards. Broken videos are left out and named in <out>/broken_videos.jsonl.
"""

import argparse
import inspect
import os
import re
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vssl_jax import folders
from vssl_jax.data import SOURCES, open_source
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.sample import window
from vssl_jax.data.source import UNLABELED, Source
from vssl_jax.data.stream import processors
from vssl_jax.data.tensorflow_host import tensorflow
from vssl_jax.data.tfrecord import CLASSES_FILE, serialize
from vssl_jax.errors import UserError, unknown_name

MOST_BYTES = 2**31 - 2**24  # of a record's pictures: protocol buffers end at 2 GiB
BYTES_AT_ONCE = 2**28  # of one thread's frames: each time that reading begins again, it is at the keyframe before


@dataclass(frozen=True)
class Settings:
    """`canvas`: larger pictures are reduced to fit into these rows and columns; None keeps their size. `quality` is JPEG's, up to 100."""

    shards: int
    quality: int = 95
    canvas: tuple[int, int] | None = None
    workers: int = 0  # threads; 0: one per processor

    def __post_init__(self):
        if self.shards < 1 or not 1 <= self.quality <= 100:
            raise UserError(f"shards must be 1 or more and quality from 1 to 100, got {self.shards} and {self.quality}")


def make_shards(source: Source, out: str | Path, settings: Settings, broken: BrokenRecord) -> int:
    """Writes `out`/shard-00000-of-00016.tfrecord ... and classes.txt; returns the number of videos written. Shards get their names when
    they are whole.

    Raises UserError where `out` holds shards already, or more videos are broken than `broken` allows.
    """
    out = Path(out)
    if any(out.glob("*.tfrecord")):
        raise UserError(f"the folder {out} holds shards already: remove them or choose another")
    out.mkdir(parents=True, exist_ok=True)
    if source.classes:
        (out / CLASSES_FILE).write_text("".join(f"{name}\n" for name in source.classes), encoding="utf-8")
    bounds = [len(source) * s // settings.shards for s in range(settings.shards + 1)]

    def write(shard: int) -> int:
        path = out / f"shard-{shard:05d}-of-{settings.shards:05d}.tfrecord"
        return _write_shard(source, range(bounds[shard], bounds[shard + 1]), path, settings, broken, stop)

    stop = threading.Event()
    with ThreadPoolExecutor(settings.workers if settings.workers else processors()) as pool:
        written = 0
        try:
            for shard, videos in enumerate(pool.map(write, range(settings.shards))):
                written += videos
                print(f"shard {shard + 1} of {settings.shards}: {written} videos", file=sys.stderr)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return written


def _write_shard(source: Source, videos: range, path: Path, settings: Settings, broken: BrokenRecord, stop: threading.Event) -> int:
    """How many videos were written. Where it is told to stop there is no shard."""
    partial, written = path.with_suffix(".partial"), 0
    try:
        with tensorflow().io.TFRecordWriter(str(partial)) as writer:
            for i in videos:
                if stop.is_set():
                    break
                try:
                    writer.write(_record(source, i, settings))
                    written += 1
                except BrokenVideo as error:
                    broken.add(source.name(i), error, len(source))
        if not stop.is_set():
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def _record(source: Source, i: int, settings: Settings) -> bytes:
    """Video i, all frames of the part that counts, serialized."""
    video = source.open(i)
    first, stop = window(video.index.seconds, video.span, 1)
    canvas = (video.index.height, video.index.width) if settings.canvas is None else settings.canvas
    encode, frames, total = tensorflow().io.encode_jpeg, [], 0
    count = max(32, BYTES_AT_ONCE // (3 * canvas[0] * canvas[1]))
    for at in range(first, stop, count):
        arrays, (rows, cols) = video.read(range(at, min(at + count, stop)), "rgb", canvas)
        frames += [encode(picture[:rows, :cols], quality=settings.quality).numpy() for picture in arrays["video"]]
        total += sum(map(len, frames[at - first :]))
        if total > MOST_BYTES:
            raise BrokenVideo(
                "unreadable",
                f"its {stop - first} pictures of {rows}x{cols} are more than the 2 GiB that a record may have: "
                "give --canvas, or list parts of it in a manifest",
            )
    seconds = video.index.seconds[first:stop] - video.index.seconds[first]
    name = "" if video.label == UNLABELED else source.classes[video.label]
    return serialize(frames, seconds, video.label, name, source.name(i))


def source_settings(source: str, extra: list[str]) -> Mapping:
    """--name=value arguments as settings of the source, each of the type of its default. Raises UserError for one that it does not have."""
    if source not in SOURCES:
        raise unknown_name("--source", source, SOURCES)
    known = {name: p.default for name, p in inspect.signature(SOURCES[source]).parameters.items() if name != "path"}
    settings = {}
    for argument in extra:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise UserError(f"cannot read the argument {argument!r}: settings of the source are written --name=value")
        if name not in known:
            raise unknown_name(f"setting of the source {source!r}", name, known)
        try:
            settings[name] = type(known[name])(value)
        except ValueError:
            raise UserError(f"--{name}={value}: it must be of the type {type(known[name]).__name__}") from None
    return settings


def in_flags(text: str, **others: str) -> str:
    """What is said of settings of a run's data (data.path, --config.data.path), of this command's flags, which have the same names; `others`: setting -> the
    flag that it follows.
    """
    names = {"source", "path", "max_broken_fraction"}.union(*(inspect.signature(source).parameters for source in SOURCES.values()))
    flags = {name: f"--{name}" for name in names} | others
    return re.sub(rf"(?<![\w./])(?:--config\.)?data\.({'|'.join(sorted(flags))})\b", lambda found: flags[found[1]], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--source", required=True, help=", ".join(sorted(SOURCES)))
    parser.add_argument("--path", default="", help="what the source reads")
    parser.add_argument("--out", required=True, help="folder for the shards")
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs")
    parser.add_argument(
        "--canvas", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="reduce larger pictures to fit; default: keep sizes"
    )
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per processor")
    parser.add_argument("--max_broken_fraction", type=float, default=0.05)
    args, extra = parser.parse_known_args()
    try:
        source = open_source({"source": args.source, "path": args.path, **source_settings(args.source, extra)})
        settings = Settings(args.shards, args.quality, tuple(args.canvas) if args.canvas else None, args.workers)
        broken = BrokenRecord(args.max_broken_fraction, args.out)
        with folders.writable(Path(args.out), "the folder", "--out=DIR"):
            written = make_shards(source, args.out, settings, broken)
    except UserError as error:
        sys.exit(f"error: {in_flags(str(error), canvas='--canvas')}")
    except KeyboardInterrupt:
        print(f"interrupted: shards that were whole are in {args.out}; remove them, they cannot be added to", file=sys.stderr)
        sys.exit(130)
    print(f"{written} of {len(source)} videos in {args.shards} shards in {args.out}; broken: {broken.counts() or 'none'}")


if __name__ == "__main__":
    main()
