"""Flow that is made once is the flow that is found on the way, up to JPEG; what is there is left, and the same command goes on."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.commands import Done, error_line, run
from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax import make_flow, pretrain
from vssl_jax.data import open_source, pipeline
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.recipe import build_input
from vssl_jax.errors import UserError
from vssl_jax.objectives.simclr import SimCLR
from vssl_jax.perturb import flow_view
from vssl_jax.perturb.flow import TVL1

SIZE = (24, 32)
FRAMES = 18  # 17 pairs: one more than are made at once


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("films")
    (root / "run").mkdir()
    for seed, name in enumerate("ab"):
        write_video(root / "run" / f"{name}.mp4", shapes_NxHxWx3(FRAMES, *SIZE, seed=seed), Clip(gop=6))
    (root / "run" / "c.mp4").write_text("no film")
    return root


def made(films: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """The command."""
    command = [sys.executable, "-m", "vssl_jax.make_flow", "--source=folder", f"--path={films}", f"--out={out}", "--max_broken_fraction=.5"]
    return subprocess.run([*command, "--quality=100", *more], capture_output=True, text=True, cwd=Path(__file__).parents[1])


@pytest.fixture(scope="module")
def flow(films, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("flow")
    done = made(films, out)
    assert done.returncode == 0, done.stderr
    assert "2 videos written now, of 3" in done.stdout and "{'not_a_video': 1}" in done.stdout
    return out


def batch_of(films: Path, flow: Path | str, canvas: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    sampler = {"name": "dense", "frames": FRAMES, "stride": 1, "clips": 1}
    data = config_lib.data() | {"source": "folder", "path": str(films), "flow": str(flow), "canvas": canvas, "sampler": sampler}
    made = pipeline.epoch(build_input(data, 2, 0, BrokenRecord(0.5)))
    try:
        return next(made)
    finally:
        made.close()


def test_stored_flow_is_the_flow_that_is_found(films, flow):
    found = jax.jit(lambda batch: flow_view.of_film(batch, TVL1(), 20.0))(batch_of(films, ""))
    read = flow_view.of_film(batch_of(films, flow), TVL1(), 20.0)
    assert found.keys() == read.keys() and batch_lib.FLOW not in read
    for key in found:
        assert found[key].shape == read[key].shape and found[key].dtype == read[key].dtype, key
    apart = np.abs(np.asarray(found[batch_lib.VIDEO], int) - np.asarray(read[batch_lib.VIDEO], int))
    assert np.ptp(np.asarray(found[batch_lib.VIDEO], int)[..., :2]) > 30 and apart.mean() < 0.5 and np.percentile(apart, 99) <= 2
    np.testing.assert_array_equal(read[batch_lib.VIDEO][..., 2], 128)


def test_the_same_command_goes_on(films, flow, tmp_path):
    """As after a kill: a film is half written, another one is whole."""
    out = tmp_path / "flow"
    shutil.copytree(flow, out)
    (out / "run" / "b").rename(out / "run" / ".b.partial")
    (out / "run" / ".b.partial" / "flow_y_00001.jpg").unlink()
    before = (out / "run" / "a" / "flow_x_00001.jpg").stat().st_mtime_ns
    done = made(films, out)
    assert done.returncode == 0 and "1 videos written now, of 3" in done.stdout, done.stderr
    assert (out / "run" / "a" / "flow_x_00001.jpg").stat().st_mtime_ns == before
    assert {path.name for path in (out / "run").iterdir()} == {"a", "b"}
    for picture in (flow / "run" / "b").iterdir():
        assert (out / "run" / "b" / picture.name).read_bytes() == picture.read_bytes()


def test_other_settings_and_other_films_are_refused(films, flow):
    sourced = open_source({"source": "folder", "path": str(films)})
    for settings, about in (
        (make_flow.Settings(bound=8.0), None),
        (make_flow.Settings(quality=100), {"source": "folder", "path": "elsewhere"}),
    ):
        with pytest.raises(UserError, match=r"was made with .*: choose another folder"):
            make_flow.make_flow(sourced, flow, settings, BrokenRecord(0.5), about)


def test_flow_stored_at_another_size_is_in_pixels_of_the_canvas(films, flow):
    """On a canvas of half the size, half the motion."""
    half_size = (SIZE[0] // 2, SIZE[1] // 2)
    whole, half = (flow_view.of_film(batch_of(films, flow, canvas), TVL1(), 20.0)[batch_lib.VIDEO] for canvas in (SIZE, half_size))
    whole, half = (np.asarray(x, float)[..., :2] - 127.5 for x in (whole, half))
    assert half.shape[3:5] == half_size
    small = whole.reshape(*whole.shape[:3], half_size[0], 2, half_size[1], 2, 2).mean((4, 6))
    assert np.abs(small).mean() > 4 and np.abs(small / 2 - half).mean() < 0.8


def test_flow_of_what_is_seen_is_not_stored(films, flow):
    batch = batch_of(films, flow)
    with pytest.raises(UserError, match=r"leave data\.flow empty, or train with objective\.flow_of=film"):
        flow_view.check_stored(batch, flow_view.OF_VIEW)
    flow_view.check_stored(batch, flow_view.OF_FILM)


def test_a_method_that_looks_at_no_flow_is_told():
    method = object.__new__(SimCLR)
    with pytest.raises(UserError, match=r"SimCLR looks at no flow: leave data.flow empty"):
        pretrain.check_needs(method, frozenset({batch_lib.VIDEO, batch_lib.FLOW}))


def command(*argv: str) -> Done:
    """The command, in this process."""
    return run(make_flow.main, *argv)


def test_what_is_wrong_is_said_of_the_command_s_own_flags(films, tmp_path):
    (tmp_path / "films").mkdir()
    shutil.copy(films / "run" / "c.mp4", tmp_path / "films")
    out = f"--out={tmp_path / 'flow'}"
    said = error_line(command("--source=folder", f"--path={tmp_path / 'films'}", out))
    assert "1 of 1 videos are broken (1 not_a_video), more than --max_broken_fraction=0.05 allows; mend or remove them, or raise it" in said
    said = error_line(command("--source=folder", out))
    assert said == "error: --path is empty: --source=folder needs to be told where the videos are, --path=..."
    assert "--path '/nowhere' is not there" in error_line(command("--source=folder", "--path=/nowhere", out))
    said = error_line(command("--source=rendered", "--world_videos=8", "--side=8", f"{out}2"))
    assert "--side is (8, 8): videos of --source=rendered are 64x64 and are not reduced" in said


def test_told_to_stop_it_says_how_to_go_on(films, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_flow, "make_flow", interrupted)
    done = command("--source=folder", f"--path={films}", f"--out={tmp_path}")
    assert (done.code, done.out) == (130, "") and done.err.startswith("interrupted: ") and done.err.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"bound": 0.0}, {"quality": 0}, {"side": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError, match="side must be 0 or more, bound above 0 and quality from 1 to 100"):
        make_flow.Settings(**wrong)
