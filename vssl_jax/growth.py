"""How the cost of a step grows: python -m vssl_jax.growth --config=configs/videomae_vitb.py

  --chip=v5e                     whose compiler says it: v5e, v5p (more memory), or local, this machine's own for simulated devices (the
                                 default where the TPU's compiler is not installed)
  --results=.results/growth.jsonl     where each compilation is kept; what stands there is not compiled again
  --only=frames                  one axis (frames, resolution, batch, size, devices)
  --picture=.pictures/growth.svg      where the curves are drawn; empty: nowhere
  --time                         instead, seconds a step of the devices that are here, as ratios (on a CPU: a small variant)
  --config.KEY=VALUE             any setting, e.g. --config.model.remat=none

One axis is changed at a time; the rest stays at the recipe's frames and resolution, 2 rows of the batch on each of 4 chips, and, where the
model has such a setting, remat=dots. Of one chip and one step: FLOPs of matrix products (loops counted in full), bytes between chip and
memory, bytes of temporaries, and bytes sent to other chips. A slope is that of a straight line through the logarithms: 1 is linear, 2
quadratic. By it stands the slope between the last two points, where the term that grows fastest shows. A second table has the figures
themselves, the share of the products in attention kernels, and memory traffic as a share of all that instructions read and write: the rest
stays in the chip's own memory.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from vssl_jax import bench_step, cli, growth_svg, overrides
from vssl_jax.chips import GIB
from vssl_jax.compilations import Compilation, Compilations, check_compiler
from vssl_jax.errors import UserError
from vssl_jax.models import MAE_DECODERS

ROWS = 2  # of the batch, on each chip
AXES = {  # axis: what stands along it
    "frames": "frames of a clip",
    "resolution": "pixels of a frame",
    "batch": "rows a chip",
    "size": "parameters",
    "devices": "chips, with as many rows each",
}
FRAMES = (1, 2, 4, 8)  # times the recipe's
SIDES = (0.5, 1, 1.5, 2)  # times the recipe's
BATCHES = (1, 2, 4, 8, 16)
SIZES = {"vit_small": "S", "vit_base": "B", "vit_large": "L", "vit_huge": "H", "vit_giant": "g"}
SLICES = {
    "v5e": {4: "2x2", 16: "4x4", 64: "8x8", 256: "16x16"},
    "v5p": {4: "2x2x1", 16: "2x2x4", 64: "4x4x4", 256: "4x8x8"},
    "local": {1: "1", 2: "2", 4: "4", 8: "8"},
}
CHIPS = 4
QUANTITIES = {  # name: of a turn's figures
    "matrix products": lambda turn: turn["flops"],
    "memory traffic": lambda turn: turn["traffic_bytes"],
    "temporaries": lambda turn: turn["temporary_bytes"],
    "sent to others": lambda turn: sum(c["sent_bytes"] for c in turn["collectives"]),
}


@dataclass(frozen=True)
class Point:
    """One step on an axis; `x` is None for what only the compiled step tells (its parameters)."""

    axis: str
    label: str
    x: float | None
    devices: int
    settings: Mapping[str, Any]


def points(config: ConfigDict, chip: str) -> Iterator[Point]:
    """All that is compiled, axis by axis; the recipe itself stands on each of them."""
    frames, side, name = config.model.frames, config.model.size, config.model.name

    def point(axis: str, label: str, x: float | None, rows: int = ROWS, devices: int = CHIPS, **settings: Any) -> Point:
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        return Point(axis, label, x, devices, {"train.batch_size": rows * devices, **changed})

    for factor in FRAMES:
        n = frames * factor
        sampled = {"data__sampler__frames": config.data.sampler.frames * factor}
        yield point("frames", str(n), n, model__frames=n, **sampled)
    for factor in SIDES:
        n = round(side * factor)
        seen = {"objective__eval_view__short_side": n} if config.objective.eval_view.short_side else {}  # which must not be less
        yield point("resolution", f"{n}\u00b2", n * n, model__size=n, **seen)
    for rows in BATCHES:
        yield point("batch", str(rows), rows, rows=rows)
    if name in MAE_DECODERS:
        for other, decoder in MAE_DECODERS.items():
            sized = {f"objective__decoder__{key}": value for key, value in decoder.items()} if "decoder" in config.objective else {}
            yield point("size", SIZES.get(other, other), None, model__name=other, **sized)
    for devices in SLICES[chip]:
        yield point("devices", str(devices), devices, devices=devices)


@dataclass(frozen=True)
class Curve:
    """One quantity along one axis."""

    name: str
    x_N: np.ndarray
    y_N: np.ndarray

    @property
    def slope(self) -> float:
        """Of the line through the logarithms, by least squares."""
        return _slope(self.x_N, self.y_N)

    @property
    def last(self) -> float:
        """Between the last two points."""
        return _slope(self.x_N[-2:], self.y_N[-2:])


def _slope(x_N: np.ndarray, y_N: np.ndarray) -> float:
    return float(np.polyfit(np.log(x_N), np.log(y_N), 1)[0])


@dataclass(frozen=True)
class Axis:
    """What was found along one axis, in the order of x."""

    name: str
    labels: Sequence[str]
    curves: Sequence[Curve]


def axis_of(name: str, rows: Sequence[tuple[Point, Mapping[str, Any]]]) -> Axis | None:
    """The curves of the points that compiled; None where fewer than two did."""
    rows = [(point, found) for point, found in rows if "error" not in found and all("flops" in turn for turn in found["turns"].values())]
    xs = [found["parameters"] if point.x is None else point.x for point, found in rows]
    order = sorted(range(len(rows)), key=lambda i: xs[i])
    if len(rows) < 2:
        return None
    curves = []
    for quantity, read in QUANTITIES.items():
        values = [sum(read(turn) for turn in rows[i][1]["turns"].values()) for i in order]
        if min(values) > 0:  # one device sends nothing
            curves.append(Curve(quantity, np.array([xs[i] for i in order], float), np.array(values, float)))
    return Axis(name, [rows[i][0].label for i in order], curves)


def details(rows: Sequence[tuple[Point, Mapping[str, Any]]]) -> list[str]:
    """A table of the points in Markdown: what the slopes are of, and the two shares that bend them."""
    out = ["| | TFLOP | in attention kernels | GiB of traffic | of what is touched | GiB of temporaries | MiB sent |", "|---|" + "---|" * 6]
    for point, found in rows:
        if _failure(point, found) is None:
            turns = list(found["turns"].values())
            flops, moved, kept, sent = (sum(map(read, turns)) for read in QUANTITIES.values())
            kernels, touched = (sum(turn[name] for turn in turns) for name in ("kernel_flops", "touched_bytes"))
            cells = (f"{flops / 1e12:.3g}", f"{kernels / flops:.2f}", f"{moved / GIB:.3g}", f"{moved / touched:.2f}", f"{kept / GIB:.3g}")
            out.append(f"| {point.axis} {point.label} | " + " | ".join(cells) + f" | {sent / 2**20:.4g} |")
    return out


def lines(axes: Sequence[Axis], failed: Sequence[str]) -> list[str]:
    """A table of slopes in Markdown, and what did not compile or fit."""
    out = ["| | " + " | ".join(QUANTITIES) + " |", "|---|" + "---|" * len(QUANTITIES)]
    for axis in axes:
        found = {curve.name: f"{growth_svg.two_digits(curve.slope)} ({growth_svg.two_digits(curve.last)})" for curve in axis.curves}
        out.append(
            f"| {axis.name}, {axis.labels[0]} to {axis.labels[-1]} | " + " | ".join(found.get(name, "") for name in QUANTITIES) + " |"
        )
    return [*out, *failed]


def _failure(point: Point, found: Mapping[str, Any]) -> str | None:
    """Why a point has no figures."""
    if "error" in found:
        return f"{point.axis} {point.label}: {found['error']}"
    return (
        None if all("flops" in turn for turn in found["turns"].values()) else f"{point.axis} {point.label}: more memory than the chip has"
    )


def compile_all(recipe: str, given: Mapping[str, Any], wanted: Sequence[Point], chip: str, results: Compilations):
    """{axis: [(point, figures)]}, compiling what is missing."""
    rows: dict[str, list[tuple[Point, dict[str, Any]]]] = {}
    for i, point in enumerate(wanted):
        compilation = Compilation(recipe, f"{chip}:{SLICES[chip][point.devices]}", {**given, **point.settings})
        if results.get(compilation) is None:
            print(f"[{i + 1}/{len(wanted)}] {point.axis} {point.label}", file=sys.stderr, flush=True)
        rows.setdefault(point.axis, []).append((point, results.measure(compilation)))
    return rows


def time_all(recipe: str, given: Mapping[str, Any], wanted: Sequence[Point]) -> list[str]:
    """Median seconds of a step of the devices here, each point's beside the first of its axis."""
    out, first = [], {}
    for point in wanted:
        settings = {**given, **point.settings, "train.batch_size": point.settings["train.batch_size"] // point.devices}
        figures, _ = bench_step.measure(Compilation(recipe, "", settings).config(), steps=2, warmup=1, repeats=3)
        seconds = figures["step_seconds"]["median"]
        base = first.setdefault(point.axis, seconds)
        out.append(f"{point.axis} {point.label}: {seconds:.3g} s a step, {seconds / base:.2f} x the first")
        print(out[-1], flush=True)
    return out


def _define(values: flags.FlagValues) -> None:
    chip = "v5e" if importlib.util.find_spec("libtpu") else "local"
    flags.DEFINE_enum("chip", chip, tuple(SLICES), "See the usage.", flag_values=values)
    flags.DEFINE_string("results", ".results/growth.jsonl", "See the usage.", flag_values=values)
    flags.DEFINE_enum("only", None, tuple(AXES), "See the usage.", flag_values=values)
    flags.DEFINE_string("picture", ".pictures/growth.svg", "See the usage.", flag_values=values)
    flags.DEFINE_bool("time", False, "See the usage.", flag_values=values)


def _given(config: ConfigDict, argv: Sequence[str]) -> dict[str, str]:
    """The command line's settings of the recipe `config`. Raises UserError where one is of those that the axes change."""
    settings = (argument for argument in overrides.read(config, argv) if argument.startswith("--config."))
    given = dict(argument.removeprefix("--config.").split("=", 1) for argument in settings)
    if "train.batch_size" in given:
        raise UserError(f"--config.train.batch_size: the batch is {ROWS} rows a chip here, and an axis")
    return given


def main(argv: list[str]) -> None:
    config, values = cli.parse(argv, __doc__, _define)
    recipe, given = cli.recipe_of(argv), _given(config, argv)
    if "frames" not in config.model or "size" not in config.model:
        raise UserError(f"{recipe} names no model.frames and model.size to change")
    wanted = [point for point in points(config, values.chip) if values.only in (None, point.axis)]
    if values.time:
        time_all(recipe, given, [point for point in wanted if point.axis != "devices"])
        return
    if values.chip != "local":
        check_compiler()
    with cli.stoppable("the compilations that are done are kept: the same command goes on"):
        usual = {"model.remat": "dots"} if "remat" in config.model else {}  # convolution networks have none
        rows = compile_all(recipe, usual | given, wanted, values.chip, Compilations(values.results))
    axes = [axis for name, found in rows.items() if (axis := axis_of(name, found))]
    failed = [text for found in rows.values() for row in found if (text := _failure(*row))]
    print("\n".join([*lines(axes, failed), "", *details([row for found in rows.values() for row in found])]))
    if values.picture and axes:
        by = "this machine's own compiler" if values.chip == "local" else f"the TPU's compiler, for {values.chip}"
        path = Path(values.picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(growth_svg.draw(axes, AXES, f"{Path(recipe).stem.split(':')[0]}, one chip and one step, by {by}"))
        print(f"drawn into {path}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, interrupted="the compilations that are done are kept: the same command goes on")
