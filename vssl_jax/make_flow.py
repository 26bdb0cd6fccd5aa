"""Optical flow of a source's videos, by TV-L1 on this machine's device, as pictures that data.flow reads: computed once, for many runs.

    python -m vssl_jax.make_flow --source=folder --path=videos --out=flow --side=256

Writes OUT/FOLDER/VIDEO/flow_x_00001.jpg and flow_y_00001.jpg, ... (data/stored_flow.py says what they hold). Settings of the source are given by their names
(--split=test, --world=slide-8, ...). Flow is in pixels of the size that it is found at: with the rows of the recipe's canvas as --side it is what a run
would find itself, of films that fit the canvas with so many rows. Videos that are there already are left as they are: the same command goes on, one process
at a time, and OUT/made_with.json has it refuse other films and settings. Broken videos are left out and named in OUT/broken_videos.jsonl. Videos of one size
share one compiled program.
"""

import argparse
import dataclasses
import functools
import json
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax import cli, folders
from vssl_jax.data import SOURCES, open_source
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.make_shards import in_flags, source_settings
from vssl_jax.data.source import Source, Video
from vssl_jax.data.stored_flow import NAMES, check_names, folders_of
from vssl_jax.errors import UserError
from vssl_jax.perturb import flow as flow_lib

PAIRS_AT_ONCE = 16
BYTES_AT_ONCE = 2**29  # of the frames that are read together


@dataclass(frozen=True)
class Settings:
    """`side`: the shorter side in pixels that larger pictures are reduced to, 0 keeps their size; `bound`: where flow is cut off, in pixels of that size;
    `quality` is JPEG's, up to 100.
    """

    side: int = 256
    bound: float = 20.0
    quality: int = 95

    def __post_init__(self):
        if self.side < 0 or not 1 <= self.quality <= 100 or not self.bound > 0:
            raise UserError(
                f"side must be 0 or more, bound above 0 and quality from 1 to 100, got {self.side}, {self.bound:g} and {self.quality}"
            )


def make_flow(source: Source, out: str | Path, settings: Settings, broken: BrokenRecord, about: Mapping[str, Any] | None = None) -> int:
    """Returns the number of videos written now; `about` says which films they are. Raises UserError where more videos are broken than `broken` allows,
    two films would have one folder, or `out` was made of other films or with other settings.
    """
    out, written = Path(out), 0
    check_names(source)
    out.mkdir(parents=True, exist_ok=True)
    made_with = dataclasses.asdict(settings) | {"tvl1": dataclasses.asdict(flow_lib.TVL1())} | dict(about or {})
    record = out / "made_with.json"
    if not record.exists():
        partial = out / ".made_with.partial"
        partial.write_text(json.dumps(made_with, indent=2) + "\n")
        os.replace(partial, record)
    # Flow that was made before its settings were kept has these.
    elif (before := {"tvl1": made_with["tvl1"]} | json.loads(record.read_text())) != made_with:
        raise UserError(f"{out} was made with {before}, not {made_with}: choose another folder, or remove it")
    for i in range(len(source)):
        folder = out / folders_of(source.name(i))[0]
        if folder.is_dir():
            continue
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _write(source.open(i), partial, settings)
        except BrokenVideo as error:
            shutil.rmtree(partial)
            broken.add(source.name(i), error, len(source))
            continue
        os.replace(partial, folder)
        written += 1
        print(f"{i + 1} of {len(source)} videos", file=sys.stderr)
    return written


def _write(video: Video, folder: Path, settings: Settings) -> None:
    """All pairs of frames, also of what lies outside the part that counts: another entry of a list may count it."""
    from PIL import Image

    height, width = video.index.height, video.index.width
    shrink = min(1.0, settings.side / min(height, width)) if settings.side else 1.0
    canvas = (round(height * shrink), round(width * shrink))
    frames = video.index.num_frames
    if frames < 2:
        raise BrokenVideo("too_short", f"{frames} frames, flow needs two")

    def save(number: int, codes_HxWx2: np.ndarray) -> None:
        for channel, start in enumerate(NAMES.values()):
            Image.fromarray(codes_HxWx2[..., channel]).save(folder / f"{start}{number + 1:05d}.jpg", quality=settings.quality)

    # Many at once, as each time that reading begins again is at the keyframe before.
    pairs_read = PAIRS_AT_ONCE * max(1, BYTES_AT_ONCE // (3 * canvas[0] * canvas[1] * PAIRS_AT_ONCE))
    with ThreadPoolExecutor() as pool:
        for first in range(0, frames - 1, pairs_read):
            read = min(pairs_read, frames - 1 - first)
            arrays, (rows, columns) = video.read(range(first, first + read + 1), "rgb", canvas)
            pictures = arrays[batch_lib.VIDEO][:, :rows, :columns]
            for at in range(0, read, PAIRS_AT_ONCE):
                # The last frame again and again where the film ends: one program for all.
                codes = np.asarray(_codes(pictures[np.minimum(np.arange(at, at + PAIRS_AT_ONCE + 1), read)], settings.bound))
                pairs = min(PAIRS_AT_ONCE, read - at)
                list(pool.map(save, range(first + at, first + at + pairs), codes[:pairs]))


@functools.partial(jax.jit, static_argnames="bound")
def _codes(frames_TxHxWx3: jax.Array, bound: float) -> jax.Array:
    """Flow from each frame to the next, uint8 [T - 1, H, W, 2]."""
    gray = flow_lib.luma(frames_TxHxWx3.astype(jnp.float32))[..., 0]
    picture = flow_lib.to_picture(flow_lib.tvl1_video(gray, flow_lib.TVL1()), bound)
    return jnp.round(255 * picture[..., :2]).astype(jnp.uint8)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--source", required=True, help=", ".join(sorted(SOURCES)))
    parser.add_argument("--path", default="", help="what the source reads")
    parser.add_argument("--out", required=True, help="folder for the flow")
    parser.add_argument("--side", type=int, default=256, help="reduce larger pictures to this shorter side; 0 keeps their size")
    parser.add_argument("--bound", type=float, default=20.0, help="where flow is cut off, in pixels of that size")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs")
    parser.add_argument("--max_broken_fraction", type=float, default=0.05)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args, extra = parser.parse_known_args(argv)
    try:
        settings = Settings(args.side, args.bound, args.quality)
        source = open_source({"source": args.source, "path": args.path, **source_settings(args.source, extra)})
        broken = BrokenRecord(args.max_broken_fraction, args.out)
        path = str(Path(args.path).resolve()) if Path(args.path).exists() else args.path
        about = {"source": args.source, "path": path, **source_settings(args.source, extra)}
        with folders.writable(Path(args.out), "the folder", "--out=DIR"):
            written = make_flow(source, args.out, settings, broken, about)
    except UserError as error:
        raise UserError(in_flags(str(error), canvas="--side")) from error
    print(f"{written} videos written now, of {len(source)}, in {args.out}; broken: {broken.counts() or 'none'}")


if __name__ == "__main__":
    cli.run(main, interrupted="the videos that are done are kept: the same command goes on")
