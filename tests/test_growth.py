"""Slopes of known curves, what is compiled for each axis, and the picture; the compiler is a sum."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tests.commands import CONFIGS, SMOKE, error_line, run
from vssl_jax import bench_step, growth, growth_svg
from vssl_jax.compilations import Compilation, Compilations
from vssl_jax.growth import Axis, Curve
from vssl_jax.models import MAE_DECODERS, MODELS

VITB = f"--config={CONFIGS / 'videomae_vitb.py'}"


def figures(wanted: Compilation) -> dict:
    """FLOPs quadratic in frames, traffic linear in everything, temporaries constant; what is sent, by the devices."""
    s = wanted.settings
    chips = math.prod(int(side) for side in wanted.topology.split(":")[1].split("x"))
    frames, rows = s.get("model.frames", 16), s["train.batch_size"] / chips
    size = list(MAE_DECODERS).index(s.get("model.name", "vit_base")) + 1
    pixels = s.get("model.size", 224) ** 2
    turn = {
        "fits": True,
        "flops": frames**2 * rows * size * pixels,
        "traffic_bytes": frames * rows * size * pixels,
        "kernel_flops": 0,
        "touched_bytes": 4 * frames * rows * size * pixels,
        "temporary_bytes": 1000,
        "collectives": [{"sent_bytes": 2 * (chips - 1) / chips}] if chips > 1 else [],
    }
    return {"turns": {"train": turn}, "parameters": 10**size}


@pytest.fixture
def compiler(monkeypatch):
    asked = []
    monkeypatch.setattr(growth, "Compilations", lambda path: Compilations(path, lambda wanted: asked.append(wanted) or figures(wanted)))
    monkeypatch.setattr(growth, "check_compiler", lambda: None)
    return asked


def test_a_slope_is_an_exponent():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    curve = Curve("c", x, 3 * x**1.5)
    assert curve.slope == pytest.approx(1.5) and curve.last == pytest.approx(1.5)
    bent = Curve("c", x, x + x**3)
    assert 1 < bent.slope < bent.last < 3


def test_one_axis_is_changed_at_a_time():
    config = Compilation(str(CONFIGS / "videomae_vitb.py"), "").config()
    points = list(growth.points(config, "v5e"))
    by_axis = {axis: [p for p in points if p.axis == axis] for axis in growth.AXES}
    assert [p.x for p in by_axis["frames"]] == [16, 32, 64, 128]
    assert [p.settings["model.size"] for p in by_axis["resolution"]] == [112, 224, 336, 448]
    assert [p.settings["train.batch_size"] for p in by_axis["batch"]] == [4, 8, 16, 32, 64]
    assert [p.settings["model.name"] for p in by_axis["size"]] == list(MAE_DECODERS)
    assert all(p.label == growth.SIZES[p.settings["model.name"]] and p.settings["model.name"] in MODELS for p in by_axis["size"])
    assert [p.settings["train.batch_size"] for p in by_axis["devices"]] == [8, 32, 128, 512]
    for point in points:  # every one is a recipe
        given = Compilation(str(CONFIGS / "videomae_vitb.py"), "", point.settings).config()
        assert given.data.sampler.frames == given.model.frames
        assert given.objective.eval_view.short_side == given.model.size
    keys = {Compilation(str(CONFIGS / "videomae_vitb.py"), f"v5e:{p.devices}", p.settings).key for p in points}
    assert len(keys) == len(points) - 4, "the recipe itself stands on all five axes and is compiled once"


def test_a_recipe_of_a_network_of_given_sizes_has_no_axis_of_sizes():
    config = Compilation(str(CONFIGS / "videomae_vitb.py") + ":smoke", "").config()
    assert {p.axis for p in growth.points(config, "local")} == set(growth.AXES) - {"size"}


def test_the_command_compiles_once_and_draws(compiler, tmp_path):
    command = [VITB, "--chip=v5e", f"--results={tmp_path / 'g.jsonl'}", f"--picture={tmp_path / 'p' / 'growth.svg'}"]
    done = run(growth.main, *command)
    assert done.code == 0, done.err
    assert len(compiler) == 18 and all(c.settings["model.remat"] == "dots" for c in compiler)
    assert done.out.count(" | 0.25 | ") == 22, "a quarter of what is touched, of every point"
    table = {line.split(" | ")[0].strip("| "): line for line in done.out.splitlines()}
    assert "| 2.00 (2.00) | 1.00 (1.00) | 0.00 (0.00) |" in table["frames, 16 to 128"]
    assert "| 1.00 (1.00) | 1.00 (1.00) |" in table["batch, 1 to 16"]
    assert "0.06 (0.01)" in table["devices, 4 to 256"]
    root = ElementTree.fromstring(Path(tmp_path / "p" / "growth.svg").read_text())
    said = " ".join(root.itertext())
    for word in ("frames", "resolution", "112\u00b2", "linear growth", "2.00", "videomae_vitb", "by the TPU's compiler, for v5e"):
        assert word in said
    run(growth.main, *command)
    assert len(compiler) == 18


def test_an_axis_alone_and_settings_of_ones_own(compiler, tmp_path):
    command = [VITB, "--chip=v5e", "--only=batch", f"--results={tmp_path / 'g.jsonl'}", "--picture=", "--config.model.remat=none"]
    done = run(growth.main, *command)
    assert done.code == 0 and len(compiler) == 5 and done.out.count("\n") == 3 + 1 + 7
    assert all(c.config().model.remat == "none" for c in compiler)


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        (["--config.model.remat", "none"], "model.remat", "none"),
        (["-config.objective.mask_ratio=0.5"], "objective.mask_ratio", 0.5),
        (["--noconfig.objective.normalize_target"], "objective.normalize_target", False),
        (["--config.model.tubelet=2,8,8", "--config.model.tubelet=(2,32,32)"], "model.tubelet", (2, 32, 32)),
    ],
)
def test_settings_are_compiled_in_whatever_form_they_are_given(compiler, tmp_path, given, key, value):
    done = run(growth.main, VITB, "--chip=v5e", "--only=batch", f"--results={tmp_path / 'g.jsonl'}", "--picture=", *given)
    assert done.code == 0, done.err
    room, name = key.split(".")
    assert compiler and all(c.config()[room][name] == value for c in compiler)


def test_a_network_without_the_usual_setting_has_slopes_too(compiler, tmp_path):
    recipe = f"--config={CONFIGS / 'rotation_r3d18.py'}"
    done = run(growth.main, recipe, "--chip=v5e", "--only=batch", f"--results={tmp_path / 'g.jsonl'}", "--picture=")
    assert done.code == 0, done.err
    assert len(compiler) == len(growth.BATCHES) and all("remat" not in c.config().model for c in compiler)


def test_what_does_not_fit_is_left_out_and_named(monkeypatch, compiler, tmp_path):
    def tight(wanted):
        frames = wanted.settings.get("model.frames", 16)
        return {"turns": {"train": {"fits": False, "peak_bytes": 1}}} if frames == 128 else figures(wanted)

    monkeypatch.setattr(growth, "Compilations", lambda path: Compilations(path, tight))
    done = run(growth.main, VITB, "--chip=v5e", "--only=frames", f"--results={tmp_path / 'g.jsonl'}", "--picture=")
    assert "frames, 16 to 64" in done.out and "frames 128: more memory than the chip has" in done.out


def test_one_device_sends_nothing(compiler, tmp_path):
    done = run(growth.main, VITB, "--chip=local", "--only=devices", f"--results={tmp_path / 'g.jsonl'}", "--picture=")
    assert done.code == 0 and [c.topology for c in compiler] == ["local:1", "local:2", "local:4", "local:8"]
    assert "|  |\n\n" in done.out


def test_times_are_ratios(monkeypatch, compiler):
    def measured(config, steps, warmup, repeats):
        return {"step_seconds": {"median": 0.5 * config.train.batch_size}}, None

    monkeypatch.setattr(bench_step, "measure", measured)
    done = run(growth.main, SMOKE, "--time", "--only=batch")
    assert done.code == 0 and not compiler
    assert [line.split(", ")[1] for line in done.out.splitlines()] == [f"{n:.2f} x the first" for n in (1, 2, 4, 8, 16)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only=frame"], "frames"),
        (["--chip=h100"], "v5e"),
        (["--config.train.batch_size=8"], "2 rows a chip"),
        (["--config.model.heigth=8"], "model.heigth"),
    ],
)
def test_mistakes_are_one_line(compiler, tmp_path, arguments, says):
    assert says in error_line(run(growth.main, VITB, f"--results={tmp_path / 'g.jsonl'}", *arguments))


@pytest.mark.parametrize(("low", "high"), [(0.9, 2), (0.9, 20), (0.5, 3000), (0.9, 1e6), (1, 1e12)])
def test_ticks_are_round_and_few(low, high):
    ticks = growth_svg.ticks(low, high)
    assert 2 <= len(ticks) <= 6 and all(low <= t <= high for t in ticks)
    assert all(f"{t:.0e}"[0] in "1235" for t in ticks)


def test_the_picture_keeps_its_curves_inside():
    x = np.array([1.0, 10.0])
    axis = Axis("batch", ["1", "10"], [Curve("a", x, x**2), Curve("b", x, 1 / x)])
    root = ElementTree.fromstring(growth_svg.draw([axis], growth.AXES, "t"))
    circles = [e for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert all(0 <= float(c.get("cx")) <= 320 and 0 <= float(c.get("cy")) <= 280 for c in circles) and len(circles) >= 2
