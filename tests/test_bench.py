"""A benchmark prints one line of JSON a stage, whose figures fit each other, and times the same frames by every reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import fast_compilation
from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax import bench, bench_input, bench_step
from vssl_jax import config as config_lib
from vssl_jax.data import corpus, open_source
from vssl_jax.data.decode import read_frames
from vssl_jax.data.index import index_video
from vssl_jax.data.plain import read_plainly
from vssl_jax.errors import UserError

ROOT = Path(__file__).parents[1]
SMOKE = f"--config={ROOT / 'configs' / 'videomae_vitb.py'}:smoke"
STEP_KEYS = set(
    "stage config device devices batch_size dtype steps repeats compile_seconds step_seconds clips_per_second tflops mfu peak_bytes "
    "peak_bytes_from compiled_bytes versions".split()
)


@pytest.fixture(autouse=True)
def the_cache_of_programs():
    """A benchmark turns it off, for the other tests of this process too."""
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for seed in range(3):
        write_video(folder / f"{seed}.mp4", shapes_NxHxWx3(30, seed=seed), Clip(gop=10))
    return folder


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_step_runs_where_neither_tensorflow_nor_a_decoder_is_installed():
    counts = ["--steps=2", "--warmup=1", "--repeats=3", "--config.train.batch_size=2", "--config.model.dtype=bfloat16"]
    program = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "av", "tensorboardX", "clu", "torch", "PIL"):
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from vssl_jax import bench
bench.main({[SMOKE, "--stage=step", *counts]!r})
data = sorted(name for name in sys.modules if name.startswith("vssl_jax.data"))
assert not data, data
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": fast_compilation.FLAGS}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert set(found) == STEP_KEYS
    assert (found["config"], found["batch_size"], found["dtype"], found["devices"]) == ("videomae_vitb:smoke", 2, "bfloat16", 1)
    seconds = found["step_seconds"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"] < 60
    assert found["clips_per_second"] == pytest.approx(2 / seconds["median"], rel=1e-3)
    assert found["mfu"] is None  # nobody says what a CPU's peak is
    assert found["compile_seconds"] > 0 and found["tflops"] > 0
    assert found["peak_bytes"] == found["compiled_bytes"] > 1e5
    assert {"jax", "jaxlib", "flax", "python"} <= set(found["versions"])


def test_work_is_counted_per_device(monkeypatch):
    """10 GFLOP in 2 s on 8 devices is 0.625 GFLOP/s each; of a peak of 2.5 GFLOP/s a quarter."""

    class Program:
        flops = 10e9

    class Mesh:
        devices, size = np.array(["device"] * 8), 8

    class Plan:
        mesh, clips = Mesh(), 4

    stepper = bench_step.Stepper(Plan(), Program(), None)
    monkeypatch.setattr(bench_step.chips, "peak_flops", lambda device: 2.5e9)
    assert bench_step.rates(stepper, 2.0) == {"clips_per_second": 2.0, "tflops": pytest.approx(0.625e-3), "mfu": pytest.approx(0.25)}
    monkeypatch.setattr(Program, "flops", None)
    assert bench_step.rates(stepper, 2.0) == {"clips_per_second": 2.0, "tflops": None, "mfu": None}


def test_all_stages_on_a_folder(films, capsys):
    """And nothing is read from the cache of programs, which the environment may have named."""
    counts = ["--steps=1", "--warmup=1", "--repeats=2", "--clips=2", "--input_repeats=3"]
    bench.main([SMOKE, "--stage=all", *counts, "--config.data.source=folder", f"--config.data.path={films}"])
    assert not jax.config.jax_enable_compilation_cache
    read, step, both = lines(capsys)
    assert [line["stage"] for line in (read, step, both)] == ["input", "step", "end_to_end"]
    assert read["corpus"] == both["corpus"] == "recipe" and read["videos"] == both["videos"] == 3
    assert (read["clips"], read["left_out"], read["repeats"]) == (2, 0, 3)
    assert set(read["readers"]) == {"decode_only", "yuv420", "rgb", "naive"} and set(read["ratios"]) == set(bench_input.RATIOS)
    for rates in [*read["readers"].values(), read["pipeline"]]:
        for clock in ("clips_per_second", "clips_per_cpu_second"):
            assert 0 < rates[clock]["min"] <= rates[clock]["median"] <= rates[clock]["max"]
    assert both["clips_per_second"] == pytest.approx(both["batch_size"] / both["step_seconds"]["median"], rel=1e-3)
    assert 0 <= both["data_wait"]["min"] <= both["data_wait"]["max"] <= 1


def test_made_films_have_no_recordings_and_no_stored_flow_of_a_recipes(monkeypatch):
    monkeypatch.setattr(bench_input, "corpus", lambda cache: "films")
    config = config_lib.base()
    config.data.update({"group": r"(v_.*_g\d+)_c\d+", "flow": "FLOW"})
    read, which = bench_input.with_corpus(config, None, Path("cache"))
    assert which == "made" and (read.data.path, read.data.group, read.data.flow) == ("films", "", "") and config.data.group


def test_ratios_are_of_clips_per_cpu_second_within_a_repeat():
    cpu = {"decode_only": [9.0, 1.0, 4.0], "yuv420": [10.0, 2.0, 5.0], "rgb": [18.0, 2.0, 8.0], "naive": [20.0, 1.0, 10.0]}
    found = bench_input.report_readers({name: {"cpu": values, "wall": [1.0] * 3} for name, values in cpu.items()}, clips=2)
    assert found["ratios"]["yuv_over_decode_only"] == {"median": 0.8, "min": 0.5, "max": 0.9}
    assert found["ratios"]["rgb_over_decode_only"] == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert found["ratios"]["yuv_over_naive"] == {"median": 2.0, "min": 0.5, "max": 2.0}
    assert found["readers"]["yuv420"]["clips_per_cpu_second"] == {"median": 0.4, "min": 0.2, "max": 1.0}


def test_readers_take_turns():
    order = []
    ways = {name: (lambda clip, name=name: order.append((clip, name))) for name in "abc"}
    bench_input.time_readers(ways, ["x", "y"], repeats=3)
    assert [clip for clip, _ in order[:6]] == ["x"] * 3 + ["y"] * 3
    assert {name: sum(n == name for _, n in order) for name in "abc"} == dict.fromkeys("abc", 6)
    assert {order[i][1] for i in (0, 6, 12)} == set("abc"), "each is once the first to meet a clip"


def test_the_plain_reader_reads_the_same_frames(films):
    """Up to color rounding: its conversion is PyAV's default, which is up to 3 levels darker and repeats chroma."""
    path, wanted = str(films / "0.mp4"), [3, 11, 12, 25]
    index = index_video(path)
    plain, ours = read_plainly(path, index, wanted), read_frames(path, index, wanted, "rgb", (48, 64))[0]["video"]
    distance = np.array([[np.abs(a.astype(int) - b).mean() for b in ours] for a in plain])
    assert np.array_equal(distance.argmin(1), np.arange(4)) and distance.diagonal().max() < 12


def test_a_film_is_drawn_from_its_seed():
    first, again, other = (list(corpus._film(np.random.default_rng((seed, 0)), 4)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first[0].shape == (256, 340, 3) and not np.array_equal(first[0], first[1])


def test_a_corpus_is_made_once_and_is_what_decoders_find_in_the_wild(tmp_path, monkeypatch):
    root = Path(corpus.corpus(tmp_path, videos=2, frames=60))
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.mp4")) == ["even/000.mp4", "odd/001.mp4"]
    assert open_source({"source": "folder", "path": str(root)}).classes == ("even", "odd"), "who asks for labels finds some"
    monkeypatch.setattr(corpus, "_write", None)
    assert corpus.corpus(tmp_path, videos=2, frames=60) == str(root)
    index = index_video(str(root / "even/000.mp4"))
    assert (index.num_frames, index.height, index.width, index.skippable) == (60, 256, 340, True)
    assert len(index.keyframes) == 2
    times = _decoding_order(root / "even" / "000.mp4")
    assert times != sorted(times), "there are B-frames"


def _decoding_order(path: Path) -> list[int]:
    import av

    with av.open(str(path)) as container:
        return [packet.pts for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--stage=decode", "stage"),
        ("--steps=0", "steps"),
        ("--config.data.path=nowhere", "nowhere"),
        ("--config.train.batchsize=2", "did you mean --config.train.batch_size?"),
    ],
)
def test_mistakes_are_one_line(argument, message):
    with pytest.raises(UserError, match=message) as caught:
        bench.main([SMOKE, "--stage=input", "--config.data.source=folder", argument])
    assert "\n" not in str(caught.value)


def test_noise_is_not_read():
    with pytest.raises(UserError, match="synthetic reads nothing"):
        bench.main([SMOKE, "--stage=input", "--corpus=recipe", "--config.data.source=synthetic"])
