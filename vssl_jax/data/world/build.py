"""A split of a world as a folder of files, made once and kept.

    <cache>/<world>-<digest>/<split>-<n>/    00000.mp4 ...   the videos
                                             manifest.csv    path,label: what a manifest source reads (step videos: one row per video, no label)
                                             steps.csv       path,label,start,end: one row per step (seconds)
                                             classes.txt     the class names, in the order of their labels
                                             truth.jsonl     per video: label, caption, counterpart, onsets, steps
                                             meta.json       the spec and the version, with which video.py's truths (masks, flow) can be made again

The folder appears under its name when all of it is there. A build that was stopped goes on where it was; two builds of one folder take turns by a lock, and
the second finds it done. Large builds share the work among processes of their own (`python -m vssl_jax.data.world.build`), which works from notebooks too.
"""

import argparse
import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vssl_jax.data.world import captions, encode, images, render, sound
from vssl_jax.data.world import spec as specs
from vssl_jax.data.world.scene import draw_scene, label_of
from vssl_jax.data.world.spec import WorldSpec
from vssl_jax.data.world.steps import steps
from vssl_jax.errors import UserError

VIDEOS_PER_PROCESS = 100  # at least: fewer are made faster than a process starts
REPORT_SECONDS = 2.0


def build(spec: WorldSpec | str, split: str, cache_dir: str | os.PathLike, num_videos: int | None = None) -> Path:
    """Makes the files of a split ('train', 'validation', 'test') unless they are there, and returns their folder. Progress goes to stderr.

    Video i is the same whatever `num_videos` is (None: the world's own number). Raises UserError for an unknown world or split.
    """
    spec = specs.find(spec) if isinstance(spec, str) else spec
    count = spec.split_size(split) if num_videos is None else num_videos
    if count < 1:
        raise UserError(f"a world needs at least one video, num_videos is {count}")
    draw_scene(spec, split, 0)  # a spec that cannot be drawn fails here, with its own message
    folder = split_folder(spec, split, cache_dir, count)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            partial.mkdir(exist_ok=True)
            _make_videos(spec, split, partial, count)
            _write_tables(spec, split, partial, count)
            for leftover in partial.glob(".*.mp4.*"):  # of a process that was killed
                leftover.unlink()
            os.replace(partial, folder)
    return folder


def split_folder(spec: WorldSpec, split: str, cache_dir: str | os.PathLike, num_videos: int) -> Path:
    """Where a split is kept: its name holds all that its content depends on."""
    specs.split_number(split)
    pictures = "" if spec.images is None else f"-{images.digest(spec.images)}"
    return Path(cache_dir).absolute() / f"{spec.name}-{spec.digest()}{pictures}" / f"{split}-{num_videos}"


def write_video(spec: WorldSpec, split: str, index: int, path: Path) -> None:
    """Renders and encodes one video."""
    scene = draw_scene(spec, split, index)
    encode.write_mp4(path, render.render(scene, spec), sound.soundtrack(scene, spec), encode.key_frames(scene, spec), spec)


def file_name(index: int) -> str:
    """'00042.mp4'."""
    return f"{index:05d}.mp4"


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One builder at a time; the lock goes when its process does."""
    with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"world: waiting for another process that builds {folder}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_videos(spec: WorldSpec, split: str, folder: Path, count: int) -> None:
    """Every video of range(count) that is not in the folder yet."""
    missing = sum(not (folder / file_name(i)).exists() for i in range(count))
    processes = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, missing // VIDEOS_PER_PROCESS
    )
    start = time.monotonic()
    if processes < 2:
        _make_share(spec, split, folder, range(count))
    else:
        _run_processes(spec, split, folder, count, processes)
    if missing:
        print(
            f"\rworld: {spec.name} {split}: {count} videos ({missing} new) in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
        )


def _make_share(spec: WorldSpec, split: str, folder: Path, indices: range) -> None:
    for index in indices:
        path = folder / file_name(index)
        if not path.exists():
            write_video(spec, split, index, path)


def _run_processes(spec: WorldSpec, split: str, folder: Path, count: int, processes: int) -> None:
    """Each process makes every `processes`-th video. They import this package from where it is now, whatever the working directory."""
    root = str(Path(__file__).parents[3])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JAX_PLATFORMS": "cpu",
    }
    fields = json.dumps(dataclasses.asdict(spec))
    command = [
        sys.executable,
        "-m",
        "vssl_jax.data.world.build",
        f"--spec={fields}",
        f"--split={split}",
        f"--folder={folder}",
        f"--count={count}",
    ]
    children = [
        subprocess.Popen([*command, f"--share={share}", f"--shares={processes}"], env=environment, stdin=subprocess.DEVNULL)
        for share in range(processes)
    ]
    try:
        while any(child.poll() is None for child in children):
            _report(spec, split, folder, count)
            with contextlib.suppress(subprocess.TimeoutExpired):
                next(child for child in children if child.returncode is None).wait(REPORT_SECONDS)
            if any(child.returncode for child in children):
                break
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
            child.wait()
    if any(child.returncode for child in children):
        codes = [child.returncode for child in children]
        raise RuntimeError(f"building {folder} failed: its processes ended with {codes}, what they said is above")


def _report(spec: WorldSpec, split: str, folder: Path, count: int) -> None:
    done = sum(entry.name.endswith(".mp4") for entry in os.scandir(folder))
    print(f"\rworld: {spec.name} {split}: {done} of {count} videos", end="", file=sys.stderr, flush=True)


def _write_tables(spec: WorldSpec, split: str, folder: Path, count: int) -> None:
    truths, step_rows = [], [("path", "label", "start", "end")]
    for index in range(count):
        scene, label = draw_scene(spec, split, index), label_of(spec, split, index)
        done = steps(scene, spec)
        step_rows += [(file_name(index), step.name, repr(step.start), repr(step.end)) for step in done]
        truth = {
            "path": file_name(index),
            "label": None if spec.long else spec.classes[label],
            "caption": captions.caption(scene),
            "counterpart": captions.counterpart(scene),
            "onsets": sound.onsets(scene, spec),
            "steps": [dataclasses.astuple(step) for step in done],
        }
        truths.append(truth)
    rows = [("path",) if spec.long else ("path", "label")]
    rows += [(truth["path"],) if spec.long else (truth["path"], truth["label"]) for truth in truths]
    for name, table in (("manifest.csv", rows), ("steps.csv", step_rows)):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in spec.classes))
    (folder / "truth.jsonl").write_text("".join(json.dumps(truth) + "\n" for truth in truths))
    meta = {"version": specs.VERSION, "split": split, "num_videos": count, "classes": spec.classes, "spec": dataclasses.asdict(spec)}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def spec_from_json(text: str) -> WorldSpec:
    """The spec that dataclasses.asdict and json wrote: tuples come back as tuples."""
    return WorldSpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()})


def _main() -> None:
    parser = argparse.ArgumentParser(description="Makes one process's share of a world's videos; build() starts it.")
    for name in ("spec", "split", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("count", "share", "shares"):
        parser.add_argument(f"--{name}", required=True, type=int)
    args = parser.parse_args()
    _make_share(spec_from_json(args.spec), args.split, Path(args.folder), range(args.share, args.count, args.shares))


if __name__ == "__main__":
    _main()
