"""How fast clips come in: what decoding alone costs, what each way of reading costs on top of it, and what the whole pipeline gives.

The one idea: on a shared machine only ratios are worth something, and only in CPU time, of runs that alternate. So every clip is read by
every reader in turn before the next clip is, the order turning from clip to clip, and a ratio is taken within one repeat.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vssl_jax.batch import Spec
from vssl_jax.bench_step import spread
from vssl_jax.data import pipeline
from vssl_jax.data.corpus import corpus
from vssl_jax.data.decode import decode_only, read_frames
from vssl_jax.data.files import FileSource, FileVideo
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.order import index_at, sample_rng
from vssl_jax.data.plain import read_plainly
from vssl_jax.data.recipe import broken_record, build_input
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError

MADE = "made"  # the corpus of vssl_jax/data/corpus.py
RECIPE = "recipe"  # what config.data names
PIPELINE_BATCH = 8  # rows of a batch at most: the recipe's global batch is the share of many hosts
# (faster, slower) of a ratio's name: clips per CPU second of the one over the other's.
RATIOS = {
    "yuv_over_decode_only": ("yuv420", "decode_only"),
    "rgb_over_decode_only": ("rgb", "decode_only"),
    "yuv_over_naive": ("yuv420", "naive"),
    "rgb_over_naive": ("rgb", "naive"),
}


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip to read: a film and the numbers of its frames."""

    video: FileVideo
    wanted: tuple[int, ...]


Reader = Callable[[Clip], Any]


def with_corpus(config: ConfigDict, which: str | None, cache: Path) -> tuple[ConfigDict, str]:
    """The config to read by, and 'made' or 'recipe'. `which` None: what the recipe names if it has a path, else films made for this."""
    which = which if which else (RECIPE if config.data.path else MADE)
    config = config.copy_and_resolve_references()
    if which == MADE:
        config.data.source, config.data.path, config.data.classes = "folder", corpus(cache / "bench"), ""
        config.data.group = config.data.flow = ""  # they go by the recipe's own films
    return config, which


def readers(canvas: tuple[int, int]) -> dict[str, Reader]:
    """The ways of reading, by name; all on one thread."""
    return {
        "decode_only": lambda clip: decode_only(clip.video.path, clip.video.index, clip.wanted),
        "yuv420": lambda clip: read_frames(clip.video.path, clip.video.index, clip.wanted, "yuv420", canvas),
        "rgb": lambda clip: read_frames(clip.video.path, clip.video.index, clip.wanted, "rgb", canvas),
        "naive": lambda clip: read_plainly(clip.video.path, clip.video.index, clip.wanted),
    }


def choose_clips(input: Input, count: int) -> tuple[list[Clip], int]:
    """The first `count` clips of a training run that the plain way can read too (it finds frames by time only, and not in every container),
    and how many were passed over. Raises UserError where there are none, or too many videos are broken."""
    clips, left_out, videos = [], 0, len(input.source)
    for position in range(4 * count):
        i = index_at(position, videos, input.seed, input.shuffle)
        try:
            video = input.source.open(i)
            frames_KxT = input.sampler(sample_rng(input.seed, position), video.index.seconds, video.span)
            clip = Clip(video, tuple(frames_KxT[0].tolist()))
            decode_only(video.path, video.index, clip.wanted)
        except BrokenVideo as error:
            input.broken.add(input.source.name(i), error, videos)
            left_out += 1
            continue
        try:
            read_plainly(video.path, video.index, clip.wanted)
        except BrokenVideo:
            left_out += 1
            continue
        clips.append(clip)
        if len(clips) == count:
            break
    if not clips:
        raise UserError(f"none of {left_out} clips could be read by all readers: name other videos, or measure --corpus={MADE}")
    return clips, left_out


def time_readers(ways: dict[str, Reader], clips: Sequence[Clip], repeats: int) -> dict[str, dict[str, list[float]]]:
    """{reader: {"cpu": seconds of each repeat, "wall": likewise}} for reading all clips once, interleaved clip by clip."""
    names = list(ways)
    seconds = {name: {"cpu": [0.0] * repeats, "wall": [0.0] * repeats} for name in names}
    for repeat in range(repeats):
        for number, clip in enumerate(clips):
            turn = (repeat + number) % len(names)
            for name in names[turn:] + names[:turn]:
                cpu, wall = time.process_time(), time.perf_counter()
                ways[name](clip)
                seconds[name]["cpu"][repeat] += time.process_time() - cpu
                seconds[name]["wall"][repeat] += time.perf_counter() - wall
    return seconds


def report_readers(seconds: dict[str, dict[str, list[float]]], clips: int) -> dict[str, Any]:
    """Clips per second and the ratios of RATIOS."""
    rates = {
        name: {
            "clips_per_cpu_second": spread([clips / s for s in both["cpu"]]),
            "clips_per_second": spread([clips / s for s in both["wall"]]),
        }
        for name, both in seconds.items()
    }
    ratios = {
        name: spread([below / above for above, below in zip(seconds[fast]["cpu"], seconds[slow]["cpu"], strict=True)])
        for name, (fast, slow) in RATIOS.items()
    }
    return {"readers": rates, "ratios": ratios}


def time_pipeline(batches: Iterator, spec: Spec, count: int, repeats: int) -> dict[str, Any]:
    """Batches of `spec` that nobody uses, `count` a repeat. The first ones are not timed: they start the threads, and fill the memory of indices."""
    for _ in range(2):
        next(batches)
    cpus, walls, clips = [], [], count * spec.batch_size * spec.clips
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            next(batches)
        cpus.append(clips / (time.process_time() - cpu))
        walls.append(clips / (time.perf_counter() - wall))
    return {"batch_size": spec.batch_size, "clips_per_second": spread(walls), "clips_per_cpu_second": spread(cpus)}


def measure(config: ConfigDict, clips: int, repeats: int) -> dict[str, Any]:
    """The input's figures, JSON-ready. Sources that are not video files have a pipeline, but no decoders to compare.

    Raises UserError for a wrong path, data without video, too many broken videos, or noise, which is not read at all.
    """
    if config.data.source == "synthetic":
        raise UserError(f"data.source=synthetic reads nothing: leave it out, or measure --corpus={MADE}")
    config = config.copy_and_resolve_references()
    config.data.memory_gb = 0.0  # frames that are kept are not read
    batch_size = min(config.train.batch_size, PIPELINE_BATCH)
    broken = broken_record(config.data)
    input = build_input(config.data, batch_size, config.seed, broken)
    sampler = {name: value for name, value in config.data.sampler.items() if name in ("frames", "stride", "clips")}
    out = {"source": config.data.source, "videos": len(input.source), "canvas": list(config.data.canvas), "sampler": sampler}
    if isinstance(input.source, FileSource):
        chosen, left_out = choose_clips(input, clips)
        megabytes = statistics.mean(Path(clip.video.path).stat().st_size for clip in chosen) / 1e6
        seconds = time_readers(readers(tuple(config.data.canvas)), chosen, repeats)
        out |= {"clips": len(chosen), "left_out": left_out, "megabytes_per_video": round(megabytes, 3), "repeats": repeats}
        out |= report_readers(seconds, len(chosen))
    made = pipeline.batches(input, 0)
    try:
        out["pipeline"] = {"layout": config.data.layout} | time_pipeline(made, input.spec, max(1, clips // batch_size), repeats)
    finally:
        made.close()
    return out
