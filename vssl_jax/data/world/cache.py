"""A split of a world as a folder of files, made once and kept.

    <cache>/<world>-<digest>/<split>-<n>/
        00000.mp4 ...   the videos
        manifest.csv    path,label: for a manifest source (worlds of step videos have the column path only)
        steps.csv       path,label,start,end: one row per step, seconds from the first frame, for a manifest source too
        classes.txt     the class names in the order of their labels, one a line
        truth.jsonl     per video: label, caption, counterpart, onsets, steps
        meta.json       the spec: with it `video` makes the masks and the flow of any of the files again

The folder appears under its name when all of it is there. A build that was stopped goes on where it was; two builds of one folder take
turns by a lock, and the second finds it done. Large builds are shared among processes started by command, not forked and not spawned:
that is safe beside the threads of JAX, and works from notebooks and from scripts without a main guard.
"""

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

from vssl_jax.data.world import captions, images, sound
from vssl_jax.data.world import spec as specs
from vssl_jax.data.world.scene import draw_scene, label_of
from vssl_jax.data.world.spec import WorldSpec
from vssl_jax.data.world.steps import steps
from vssl_jax.data.world.videos import file_name, write_missing
from vssl_jax.errors import UserError

VIDEOS_PER_PROCESS = 200  # at least: fewer are made faster than a process starts
POLL_SECONDS = 0.2


def build(spec: WorldSpec | str, split: str, cache_dir: str | os.PathLike, num_videos: int | None = None) -> Path:
    """Makes the files of a split ('train', 'validation', 'test') unless they are there, and returns their folder.

    Video i is the same whatever `num_videos` is (None: the world's own number). Progress goes to stderr. Raises UserError for an unknown
    world or split, or pictures that are missing; RuntimeError if one of its processes fails, which says why on stderr.
    """
    spec = specs.find(spec) if isinstance(spec, str) else spec
    count = spec.split_size(split) if num_videos is None else num_videos
    if count < 1:
        raise UserError(f"num_videos is {count}: a split needs at least one video")
    folder = split_folder(spec, split, cache_dir, count)
    if folder.exists():
        return folder
    draw_scene(spec, split, 0)  # a spec that cannot be drawn fails here, with its own message
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to the cache folder {str(cache_dir)!r} ({error}): name another one") from error
    with _lock(folder):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            partial.mkdir(exist_ok=True)
            _write_videos(spec, split, partial, count)
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


def _write_videos(spec: WorldSpec, split: str, folder: Path, count: int) -> None:
    missing = sum(not (folder / file_name(i)).exists() for i in range(count))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    start = time.monotonic()
    if min(cores, missing // VIDEOS_PER_PROCESS) < 2:
        write_missing(spec, split, folder, range(count))
    else:
        _share(spec, split, folder, count, min(cores, missing // VIDEOS_PER_PROCESS))
    took = time.monotonic() - start
    print(f"world: {spec.name} {split}: made {missing} of {count} videos in {took:.0f} s", file=sys.stderr, flush=True)


def _share(spec: WorldSpec, split: str, folder: Path, count: int, shares: int) -> None:
    """Runs the processes. They import this package from where it is now, whatever the working directory."""
    search = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(search), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "vssl_jax.data.world.worker", f"--spec={json.dumps(dataclasses.asdict(spec))}", f"--split={split}"]
    command += [f"--folder={folder}", f"--count={count}", f"--shares={shares}", f"--parent={os.getpid()}"]
    children: list[subprocess.Popen] = []
    try:
        for share in range(shares):
            children.append(subprocess.Popen([*command, f"--share={share}"], env=environment, stdin=subprocess.DEVNULL))
        progress = _Progress(f"world: {spec.name} {split}:", folder, count)
        while any(child.poll() is None for child in children) and not any(child.returncode for child in children):
            progress.show()
            time.sleep(POLL_SECONDS)
    finally:
        for child in children:
            child.terminate()  # of a child that has ended: nothing
            child.wait()
    if any(child.returncode for child in children):
        codes = [child.returncode for child in children]
        raise RuntimeError(f"building {folder} failed: its processes ended with {codes}; what they said is above")


class _Progress:
    """One line that counts the files in a folder: rewritten on a terminal every second, else printed anew every 15."""

    def __init__(self, title: str, folder: Path, count: int):
        self._title, self._folder, self._count = title, folder, count
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def show(self) -> None:
        if time.monotonic() - self._shown < (1.0 if self._terminal else 15.0):
            return
        self._shown = time.monotonic()
        done = sum(entry.name.endswith(".mp4") for entry in os.scandir(self._folder))
        line = f"{self._title} {done} of {self._count} videos"
        print(line, end="\r" if self._terminal else "\n", file=sys.stderr, flush=True)


def _write_tables(spec: WorldSpec, split: str, folder: Path, count: int) -> None:
    import av

    truths = [_truth(spec, split, index) for index in range(count)]
    rows = [("path",) if spec.long else ("path", "label")]
    rows += [(truth["path"],) if spec.long else (truth["path"], truth["label"]) for truth in truths]
    step_rows = [("path", "label", "start", "end")]
    step_rows += [(truth["path"], name, start, end) for truth in truths for start, end, name in truth["steps"]]
    for name, table in (("manifest.csv", rows), ("steps.csv", step_rows)):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in spec.classes))
    (folder / "truth.jsonl").write_text("".join(json.dumps(truth) + "\n" for truth in truths))
    meta = {"version": specs.VERSION, "pyav": av.__version__, "split": split, "num_videos": count, "classes": spec.classes}
    (folder / "meta.json").write_text(json.dumps(meta | {"spec": dataclasses.asdict(spec)}, indent=1) + "\n")


def _truth(spec: WorldSpec, split: str, index: int) -> dict:
    scene = draw_scene(spec, split, index)
    return {
        "path": file_name(index),
        "label": None if spec.long else spec.classes[label_of(spec, split, index)],
        "caption": captions.caption(scene),
        "counterpart": captions.counterpart(scene),
        "onsets": sound.onsets(scene, spec),
        "steps": [dataclasses.astuple(step) for step in steps(scene, spec)],
    }
