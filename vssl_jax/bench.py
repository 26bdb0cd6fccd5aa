"""Speed, one JSON line a stage: python -m vssl_jax.bench --config=configs/videomae_vitb.py --stage=input|step|all

  --stage=step     the compiled step on batches of noise made on the device: clips/s, TFLOP/s, MFU, peak memory, compile seconds
  --stage=input    clips/s of decoding, of every way of reading, and of the pipeline
  --stage=all      both, and the pipeline feeding the step
  --corpus=recipe  read what config.data names; made: films made for this, in ~/.cache/vssl_jax/bench (default where data.path is empty)
  --steps=10 --warmup=3 --repeats=3      timed steps a repeat, untimed ones before, repeats of the step
  --clips=16 --input_repeats=7           clips a repeat, repeats of the input
  --config.KEY=VALUE                     any setting, e.g. --config.train.batch_size=2 --config.model.dtype=float32

Figures are medians with the least and the greatest of the repeats. The stage step needs no TensorFlow and no decoder.
"""

import json
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from absl import flags as absl_flags
from ml_collections import ConfigDict

from vssl_jax import bench_step, cache, cli
from vssl_jax.errors import UserError
from vssl_jax.train import distributed, sharding
from vssl_jax.train.feed import Feed

STAGES = ("input", "step", "all")
PACKAGES = {
    "step": ("jax", "jaxlib", "flax"),
    "input": ("av", "tensorflow", "tensorflow-cpu", "numpy"),
    "end_to_end": ("jax", "jaxlib", "flax", "av"),
}


def _define(values: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_enum("stage", "all", STAGES, "What to measure.", flag_values=values)
    absl_flags.DEFINE_enum("corpus", None, ("made", "recipe"), "What the stage input reads.", flag_values=values)
    for name, default in {"steps": 10, "warmup": 3, "repeats": 3, "clips": 16, "input_repeats": 7}.items():
        least = 0 if name == "warmup" else 1
        absl_flags.DEFINE_integer(name, default, "See the usage.", lower_bound=least, flag_values=values)


def recipe_name(argv: list[str]) -> str:
    """'videomae_vitb:smoke'."""
    path, _, variant = cli.recipe_of(argv).partition(":")
    return Path(path).stem + (f":{variant}" if variant else "")


def versions(stage: str) -> dict[str, str]:
    """Of the packages that the stage's figures hang on, where they are installed; nothing is imported."""
    found = {"python": platform.python_version()}
    for package in PACKAGES[stage]:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def end_to_end(stepper: bench_step.Stepper, config: ConfigDict, steps: int, warmup: int, repeats: int) -> dict[str, Any]:
    """The pipeline feeding the step as a run does; `data_wait` is the share of the time that the step waits for its batch."""
    from vssl_jax import pretrain
    from vssl_jax.data import pipeline
    from vssl_jax.data.recipe import broken_record, build_input

    input = build_input(config.data, config.train.batch_size, config.seed, broken_record(config.data))
    pretrain.check_needs(stepper.plan.objective, input.source.keys)
    made = pipeline.batches(input, 0, jax.process_index(), jax.process_count())
    walls, waits = [], []
    with Feed(made, lambda batch: sharding.global_batch(batch, stepper.plan.mesh)) as feed, jax.set_mesh(stepper.plan.mesh):
        for _ in range(warmup):
            stepper.step(next(feed))
        for _ in range(repeats):
            stepper.wait()
            start, waited = time.perf_counter(), feed.waited
            for _ in range(steps):
                stepper.step(next(feed))
            stepper.wait()
            walls.append((time.perf_counter() - start) / steps)
            waits.append((feed.waited - waited) / steps / walls[-1])
    figures = {"source": config.data.source, "videos": len(input.source), "batch_size": config.train.batch_size, "steps": steps}
    figures |= {"repeats": repeats, "step_seconds": bench_step.spread(walls), "data_wait": bench_step.spread(waits)}
    return figures | {"clips_per_second": stepper.plan.clips / statistics.median(walls)}


def _rounded(figures: Any) -> Any:
    """Floats in 5 digits."""
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    return float(f"{figures:.5g}") if isinstance(figures, float) else figures


def _show(stage: str, name: str, figures: dict[str, Any]) -> None:
    if jax.process_index() == 0:
        print(json.dumps({"stage": stage, "config": name, **_rounded(figures), "versions": versions(stage)}), flush=True)


def main(argv: list[str]) -> None:
    """Compiled programs are not taken from the cache of earlier runs: compile_seconds would be those of reading it."""
    config, flags = cli.parse(argv, __doc__, _define)
    jax.config.update("jax_enable_compilation_cache", False)  # which the environment may have named
    name = recipe_name(argv)
    distributed.initialize(config.distributed)
    if flags.stage in ("input", "all"):
        from vssl_jax import bench_input  # brings the data room in, which the stage step does without

        if jax.process_count() > 1:
            raise UserError(f"--stage={flags.stage} measures one host: start it on one, or use --stage=step")
        read, which = bench_input.with_corpus(config, flags.corpus, cache.FOLDER)
        _show("input", name, {"corpus": which} | bench_input.measure(read, flags.clips, flags.input_repeats))
    if flags.stage in ("step", "all"):
        counts = (flags.steps, flags.warmup, flags.repeats)
        figures, stepper = bench_step.measure(config, *counts)
        _show("step", name, figures)
        if flags.stage == "all":
            _show("end_to_end", name, {"corpus": which} | end_to_end(stepper, read, *counts))


if __name__ == "__main__":
    cli.run(main)
