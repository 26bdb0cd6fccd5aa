"""Whole commands: recipes' `:smoke` from its command to its artifacts, and what they say where the data, the workdir or a name is wrong."""

import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import fast_compilation
from tests.commands import CONFIGS, NOISE, SMOKE, TINY, error_line, files, run
from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from tests.train.processes import Run
from vssl_jax import cli, evaluate, main, pretrain
from vssl_jax.data import files as data_files
from vssl_jax.data import pipeline
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.recipe import build_input
from vssl_jax.errors import UserError
from vssl_jax.evals import features, probes
from vssl_jax.train import fit, loop
from vssl_jax.train.metrics import read_metrics

RECIPES = sorted(path.stem for path in CONFIGS.glob("*_*.py") if not path.stem.startswith("__"))
# VideoMAE's is `whole`, below, and rotation's training the instrument's test: here they are `slow`, since what is their own, their methods' tests show.
SMOKES = [pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
PROBES = f"--config={CONFIGS / 'eval' / 'probes.py'}:smoke"
EVALUATED = ("--config.eval.protocols=knn", "--config.eval.baseline=false")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[str, ...]:
    """Arguments that keep the embedded dataset out of the home folder: of training, and of the evaluation's training and test videos."""
    folder = tmp_path_factory.mktemp("world")
    return tuple(f"--config.{data}.cache={folder}" for data in ("data", "eval.train", "eval.test"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a tiny run without an evaluation, after one that was refused before its first step. Not to be changed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "device_bytes", lambda device: 1000)
        error_line(run(main.main, *TINY, f"--workdir={workdir}", "--config.checkpoint.keep=7"))
    assert files(workdir.parent) == []
    done = run(main.main, *TINY, f"--workdir={workdir}")
    assert done.code == 0, done.err
    return workdir


def write_films(folder, count=3, frames=70):
    folder.mkdir(parents=True)
    for seed in range(count):
        write_video(folder / f"{seed}.mp4", shapes_NxHxWx3(frames, seed=seed), Clip(gop=10))
    return folder


# Every recipe.


@pytest.mark.parametrize("name", SMOKES)
def test_the_smoke_of_every_recipe_runs_to_its_artifacts(name, tmp_path, world):
    """Without the evaluation, which all have in common: see `whole`."""
    argv = (f"--config={CONFIGS / name}.py:smoke", f"--workdir={tmp_path}", *world, "--config.eval.protocols=")
    done = run(main.main, *argv)
    assert done.code == 0 and done.out == "", done.err
    check_training(tmp_path, importlib.import_module(f"configs.{name}").get_config("smoke"))
    assert f"report: {tmp_path}" in done.err and not (tmp_path / "eval.json").exists()


def check_training(workdir, smoke):
    """What a run of the recipe leaves behind but for its evaluation."""
    config = json.loads((workdir / "config.json").read_text())
    assert (config["objective"]["name"], config["train"]["steps"]) == (smoke.objective.name, smoke.train.steps)
    assert [line["step"] for line in read_metrics(workdir)] == list(range(1, smoke.train.steps + 1))
    losses = [line["loss"] for line in read_metrics(workdir)]  # a temperature of .07 makes large logits; 0 where nothing is learned yet
    assert all(0 <= loss < 100 for loss in losses) and losses[-1] > 0
    assert json.loads((workdir / "export" / "meta.json").read_text())["step"] == smoke.train.steps
    assert (workdir / "checkpoints" / str(smoke.train.steps)).is_dir() and list((workdir / "tensorboard").iterdir())
    shown = smoke.train.picture_every > 0
    assert ('id="pictures"' in (workdir / "report" / "index.html").read_text()) == shown


def check_evaluation(workdir, table, protocols):
    """eval.json, and what was printed of it."""
    result = json.loads((workdir / "eval.json").read_text())
    assert {row["name"] for row in result["protocols"]} == protocols
    for row in result["protocols"]:
        assert row["n"] == 16 and 0 <= row["value"] <= 1 and 0 <= row["baseline"] <= 1
        assert any(line.startswith(row["name"]) and row["metric"] in line for line in table.splitlines())
    assert "random init" in table


# A run as it is, in a process of its own: what is deprecated and called by this package, or says that it is jax's, flax's, optax's or orbax's, is an
# error there.
RUNNER = r"""
import runpy, sys, warnings
for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
    warnings.filterwarnings("error", module=r"vssl_jax(\.|$)", category=kind)
    warnings.filterwarnings("error", message=r"(?i).*\b(jax|flax|optax|orbax)\b.*(deprecated|removed)", category=kind)
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("message", "code"),
    [("jax.tree_map is deprecated: use jax.tree.map", 1), ("Flax: this will be removed", 1), ("ast.Num is deprecated", 0)],
)
def test_the_runner_stops_at_what_is_deprecated(tmp_path, message, code):
    (tmp_path / "older.py").write_text(f"import warnings\nwarnings.warn({message!r}, DeprecationWarning)\n")
    done = subprocess.run([sys.executable, "-c", RUNNER, "older"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and ("Traceback" in done.stderr) == bool(code), done.stderr


# How the lines of a calm run begin, in their order.
CALM = (
    r"world: slide-8 train: made 16 of 16 videos in \d+ s",
    r"world: slide-8 test: made 16 of 16 videos in \d+ s",
    r"compiling videomae with vit for 1 device\(s\); the run is kept in ",
    r"parameter +shape +sharding +decay +count",
    r"-+",
    r"(encoder|decoder)/[\w/]+ .*",
    r"-+",
    r"[\d,]+ parameters in \d+ arrays",
    r"1 x cpu; the step needs [\d,]+ MiB per device",
    r"step \d/4 .*",
    r"goodput [\d.]+%: ",
    r"exported to ",
    r"evaluating knn, linear, attentive, finetune on 16 videos, seeds \(0,\)",
    r"evaluated in \d+ s",
    r"report: ",
)


@pytest.fixture(scope="module", params=["compiled as the suite's", pytest.param("compiled as a user's", marks=pytest.mark.slow)])
def whole(request, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """`main --config=configs/videomae_vitb.py:smoke` with nothing left out: (workdir, process)."""
    folder = tmp_path_factory.mktemp("whole")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "TF_", "SLURM_"))}
    environment |= {"PYTHONPATH": str(CONFIGS.parent), "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    if request.param == "compiled as the suite's":
        environment["XLA_FLAGS"] = fast_compilation.FLAGS
    command = [sys.executable, "-c", RUNNER, "vssl_jax.main", SMOKE, f"--workdir={folder / 'run'}"]
    return folder / "run", subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def test_a_whole_run_is_calm(whole):
    """stderr has our own lines, each kind in its place, and nothing of any library; no deprecated name is used on the way."""
    _, done = whole
    assert done.returncode == 0, done.stderr
    kinds = iter(CALM)
    kind = next(kinds)
    for line in done.stderr.splitlines():
        while not re.match(kind, line):
            kind = next(kinds, None)
            assert kind is not None, f"a line out of place: {line!r} in\n{done.stderr}"
    assert kind == CALM[-1], done.stderr


def test_a_whole_run_has_all_its_artifacts(whole):
    workdir, done = whole
    check_training(workdir, importlib.import_module("configs.videomae_vitb").get_config("smoke"))
    check_evaluation(workdir, done.stdout, {"knn", "linear", "attentive", "finetune"})
    page = (workdir / "report" / "index.html").read_text().lower()
    assert "nearest neighbors" in page and "attentive" in page
    assert not [name for name in files(workdir) if "partial" in name or ".new" in name]


def test_the_smoke_of_the_evaluation_reads_a_run_and_an_export(finished, tmp_path, world):
    """The same numbers of both. Protocols that train are in `whole`."""
    caches = [argument.replace("config.eval.", "config.") for argument in world[1:]]
    values = []
    for checkpoint, settings in ((finished, ()), (finished / "export", ("--config.baseline=false",))):
        workdir = tmp_path / checkpoint.name
        argv = (PROBES, f"--config.checkpoint={checkpoint}", f"--workdir={workdir}", "--config.protocols=knn,retrieval", *caches, *settings)
        done = run(evaluate.main, *argv)
        assert done.code == 0, done.err
        if not settings:
            check_evaluation(workdir, done.out, {"knn", "retrieval"})
        values.append([(row["name"], row["metric"], row["value"]) for row in json.loads((workdir / "eval.json").read_text())["protocols"]])
    assert values[0] == values[1]
    assert not (finished / "eval.json").exists()


def test_a_film_that_training_has_read_is_not_read_again_to_evaluate(tmp_path, world, monkeypatch):
    """Training and evaluation that read all that the recipe's settings name, and compute nothing."""
    reads = Counter()
    monkeypatch.setattr(
        data_files, "read_frames", lambda path, *wanted, read=data_files.read_frames: reads.update([path]) or read(path, *wanted)
    )

    def read_all(settings):
        input = build_input(settings, 8, 0, BrokenRecord(0.0))
        assert sum(1 for _ in pipeline.epoch(input)) == 2
        return input

    def pretrained(config, workdir, before, **_):
        plan = read_all(config.data)
        before(())  # asked while the plan is there
        del plan
        return workdir

    monkeypatch.setattr(pretrain, "pretrain", pretrained)
    monkeypatch.setattr(main, "follow", lambda config, export, workdir: read_all(config.eval.train))
    done = run(main.main, SMOKE, *world, f"--workdir={tmp_path}")
    assert done.code == 0, done.err
    assert len(reads) == 16 and set(reads.values()) == {1}


# Several processes.


@pytest.mark.slow
def test_process_0_evaluates_and_the_others_wait_for_it(tmp_path, world):
    """Training on both, then the evaluation on one, which reads an export alone."""
    settings = (NOISE, "--config.model.depth=1", "--config.train.picture_every=0", *world[1:], *EVALUATED)
    with Run(tmp_path / "run", tmp_path / "xla", *settings, count=2, recipe=SMOKE.partition("=")[2]) as both:
        assert both.wait() == [0, 0], both.output()
    first, second = (log.read_text() for log in both.logs)
    assert "evaluated in" in first and "report: " in first and "evaluat" not in second and "error" not in second.lower()
    assert json.loads((tmp_path / "run" / "eval.json").read_text())["protocols"][0]["n"] == 16


@pytest.mark.slow
def test_an_evaluation_that_is_started_in_several_processes_is_one(finished, tmp_path, world):
    caches = [argument.replace("config.eval.", "config.") for argument in world[1:]]
    settings = (f"--config.checkpoint={finished}", "--config.protocols=knn", "--config.baseline=false", *caches)
    evaluation = {"recipe": PROBES.partition("=")[2], "module": "vssl_jax.evaluate"}
    with Run(tmp_path / "numbers", tmp_path / "xla", *settings, count=2, **evaluation) as both:
        assert both.wait() == [0, 0], both.output()
    first, second = (log.read_text() for log in both.logs)
    assert "evaluated in" in first and "evaluat" not in second
    assert json.loads((tmp_path / "numbers" / "eval.json").read_text())["protocols"][0]["n"] == 16


# Runs that go on.


def test_without_a_protocol_there_is_a_report_and_no_evaluation(finished):
    assert "metrics.jsonl" in files(finished) and "report/index.html" in files(finished) and "eval.json" not in files(finished)


def test_a_checkpoint_of_another_model_is_not_gone_on_from(finished):
    before = {name: (finished / name).read_bytes() for name in files(finished) if (finished / name).is_file()}
    line = error_line(run(main.main, *TINY, f"--workdir={finished}", "--config.model.width=48"))
    assert "is a checkpoint of another model" in line and "use a new workdir" in line
    assert {name: (finished / name).read_bytes() for name in files(finished) if (finished / name).is_file()} == before


def test_config_json_is_of_the_run_that_began(finished):
    """Not of one that was refused before its first step: the settings it names were never used."""
    assert json.loads((finished / "config.json").read_text())["checkpoint"]["keep"] == 2


class Told(loop.Feed):
    """The first batch comes with a SIGTERM."""

    def __enter__(self):
        signal.raise_signal(signal.SIGTERM)
        return super().__enter__()


@pytest.mark.parametrize("where", ["features", "probe"])
def test_a_run_told_to_stop_while_it_evaluates_says_how_to_go_on(where, finished, world, monkeypatch):
    """Neither trains anything: the run is finished."""
    argv = (*TINY, *world[1:], "--config.eval.protocols=linear", "--config.eval.baseline=false", f"--workdir={finished}")
    metrics = (finished / "metrics.jsonl").read_bytes()
    if where == "features":
        monkeypatch.setattr(features, "extract", lambda *args, **settings: signal.raise_signal(signal.SIGTERM))
    else:  # in the loop, which listens to signals itself
        trained = probes.train
        monkeypatch.setattr(probes, "train", lambda plan: (monkeypatch.setattr(loop, "Feed", Told), trained(plan))[1])
    stopped = run(main.main, *argv)
    assert stopped.code == 42 and stopped.out == "", stopped.err
    assert stopped.err.splitlines()[-1] == (
        "preempted: stopped while evaluating; training is done and exported, and the same command evaluates again"
    )
    assert (finished / "metrics.jsonl").read_bytes() == metrics and "eval.json" not in files(finished)


def test_a_finished_run_trains_nothing_and_evaluates(finished, tmp_path, world):
    """So what was stopped while it evaluated goes on, and so does a run with another evaluation."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    metrics = (workdir / "metrics.jsonl").read_bytes()
    done = run(main.main, *TINY, *world[1:], *EVALUATED, f"--workdir={workdir}")
    assert done.code == 0 and "step 1" not in done.err, done.err
    assert (workdir / "metrics.jsonl").read_bytes() == metrics
    assert {row["name"] for row in json.loads((workdir / "eval.json").read_text())["protocols"]} == {"knn"}
    assert "not measured" in done.out  # the baseline was switched off


def test_a_run_told_to_stop_while_it_trains_goes_on_and_has_no_report_where_none_is_asked_for(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Feed", Told)
        stopped = run(main.main, *TINY, f"--workdir={tmp_path}")
    assert stopped.code == 42 and stopped.err.splitlines()[-1].startswith("preempted: stopped at step 0 of 2"), stopped.err
    assert run(main.main, *TINY, f"--workdir={tmp_path}", "--config.report=false").code == 0
    assert "export/meta.json" in files(tmp_path) and not any(name.startswith("report") for name in files(tmp_path))


# What a person can get wrong.


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("data.source=foldr", "unknown data.source 'foldr': did you mean 'folder'?"),
        ("data.sampler.name=dens", "unknown data.sampler.name 'dens': did you mean 'dense'?"),
        ("data.sampler.stride=0", "data.sampler.stride is 0: it must be 1 or more"),
        ("data.videos=0", "needs videos >= 1"),
        ("optimizer.name=adamww", "unknown optimizer 'adamww': did you mean 'adamw'?"),
        ("optimizer.schedule=cosin", "unknown schedule 'cosin': did you mean 'cosine'?"),
        ("optimizer.warmup_steps=5", "optimizer.warmup_steps=5 is more than the 2 steps"),
        ("objective.name=videomea", "unknown objective 'videomea': did you mean 'videomae'?"),
        ("objective.name=classify", "objective 'classify' needs a setting"),
        ("objective.view.crop.name=whoel", "unknown crop 'whoel': did you mean 'whole'?"),
        ("model.name=vit_bas", "unknown model 'vit_bas': did you mean 'vit_base'?"),
        ("model.heads=5", "model width 24 is not a multiple of its 5 heads"),
        ("model.size=30", "are no whole number of (2, 16, 16) tubelets"),
        ("model.remat=ful", "unknown remat 'ful': did you mean 'full'?"),
        ("objective.mask_ratio=0.001", "leaves 8 of 8 patches visible: some must be, and not all"),
        ("model.frames=8", "the model takes clips of"),
        ("train.steps=0", "train.steps is 0: it must be 1 or more"),
        ("train.grad_accumulation=3", "train.batch_size=8 is not a multiple of train.grad_accumulation=3"),
        ("train.batch_size=4", "does not split over 8 data-parallel devices"),
        ("mesh.fsdp=3", "does not fill 8 devices"),
        ("mesh.data=0", "give positive sizes"),
        ("distributed=of", "unknown distributed mode 'of': did you mean 'off'?"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path, argument, says):
    done = run(main.main, *TINY, f"--config.{argument}", f"--workdir={tmp_path / 'runs' / 'run'}")
    assert says in error_line(done) and files(tmp_path) == []


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("protocols=knn,lineal", "unknown protocol 'lineal': did you mean 'linear'?"),
        ("knn.k=17", "kNN with k=17 needs at least k training videos and k >= 1, there are 16"),
        ("knn.center=all", "unknown centering 'all': use one of none, train, each"),
        ("retrieval.k=1,17", "retrieval with k=17 needs at least k training videos and k >= 1, there are 16"),
        ("retrieval.k=0", "retrieval.k is (0,): it must be one or more whole numbers, each 1 or more"),
        ("features=flow", "unknown feature 'flow': known: video"),
        ("features=", "features is (): it must be one or more names"),
        ("linear.head.name=linea", "unknown head 'linea': did you mean 'linear'?"),
        ("attentive.head.heads=5", "the attentive head has 5 heads, which do not divide the 24 channels"),
        ("linear.optimizer.name=adamww", "unknown optimizer 'adamww'"),
        ("finetune.view.crop.name=whoel", "unknown crop 'whoel'"),
        ("finetune.labels=99", "finetune.labels asks for 99 labels of 16 training videos"),
        ("finetune.drop=norn", "finetune.drop names norn, which the model does not have"),
        ("train.source=foldr", "unknown train.source 'foldr': did you mean 'folder'"),
        ("train.world=slide8", "unknown world 'slide8': did you mean 'slide-8'?"),
        ("test.world=slide-2", "training and test data have other classes (8, such as"),
        ("test.sampler.name=view", "unknown test.sampler.name 'view': did you mean 'views'?"),
        ("test.sampler.frames=8", "the model takes clips of"),
    ],
)
def test_a_mistake_in_the_evaluation_is_said_before_the_training(tmp_path, world, argument, says):
    all_of_them = "--config.eval.protocols=knn,retrieval,linear,attentive,finetune"
    done = run(main.main, *TINY, *world[1:], all_of_them, f"--config.eval.{argument}", f"--workdir={tmp_path / 'run'}")
    assert says in error_line(done) and files(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["source=folder"], "data.path is empty: data.source=folder needs to be told where the videos are"),
        (["source=folder", "path={here}/nowhere"], "nowhere' is not there: the source 'folder' needs a folder"),
        (["source=folder", "path={here}/a file"], "a file' is a file: the source 'folder' needs a folder"),
        (["source=folder", "path={here}/empty"], "is empty: put files named"),
        (["source=folder", "path={here}/texts"], "holds no video file: put files named"),
        (["source=folder", "path={here}/films", "classes={here}/nowhere"], "cannot read the class names"),
        (["source=manifest", "path={here}/nowhere.csv"], "cannot read the manifest"),
        (["source=manifest", "path={here}/of nothing.csv"], "none of the 1 videos that"),
        (["source=tfrecord", "path={here}/nowhere"], "nowhere' is not there: the source 'tfrecord' needs"),
        (["source=tfrecord", "path={here}/empty"], "holds no file with '.tfrecord' in its name"),
        (["source=tfds", "path=no_such_dataset"], "TFDS has no dataset 'no_such_dataset'"),
        (["source=embedded", "world=slide8"], "unknown world 'slide8': did you mean 'slide-8'?"),
        (["source=embedded", "world=real-8"], "real-8"),
        (["source=embedded", "split=trian"], "unknown split 'trian': did you mean 'train'?"),
        (["source=embedded", "cache={here}/a file/cache"], "cannot write to the cache folder"),
    ],
)
def test_data_that_are_not_there_are_one_line(tmp_path, arguments, says):
    here = tmp_path / "data"
    write_films(here / "films" / "one", count=1, frames=2)
    (here / "empty").mkdir()
    (here / "texts").mkdir()
    (here / "texts" / "film.txt").write_text("no film")
    (here / "a file").write_text("no folder")
    (here / "of nothing.csv").write_text("path\ngone.mp4\n")
    before = files(tmp_path)
    done = run(main.main, *TINY, *[f"--config.data.{a.format(here=here)}" for a in arguments], f"--workdir={tmp_path / 'run'}")
    assert says in error_line(done) and files(tmp_path) == before


def test_videos_of_which_none_can_be_read_end_the_run_and_are_listed(tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.mp4", "b.avi", "c.mkv"):
        (films / name).write_bytes(b"no film at all" * 100)
    (films / "d.mp4").touch()
    workdir = tmp_path / "run"
    done = run(main.main, *TINY, "--config.data.source=folder", f"--config.data.path={films}", f"--workdir={workdir}")
    assert done.code == 1 and "Traceback" not in done.err, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ") and "videos are broken" in line and str(workdir / "broken_videos.jsonl") in line
    assert sum(line.startswith("error: ") for line in done.err.splitlines()) == 1
    listed = [json.loads(line)["name"] for line in (workdir / "broken_videos.jsonl").read_text().splitlines()]
    assert listed and all(name.startswith(str(films)) for name in listed)
    assert not (workdir / "export").exists() and not (workdir / "metrics.jsonl").exists()
    assert not any(name.startswith("checkpoints/") for name in files(workdir))
    # The same workdir is good for the right path.
    again = run(main.main, *TINY, f"--workdir={workdir}")
    assert again.code == 0 and json.loads((workdir / "config.json").read_text())["data"]["source"] == "synthetic", again.err


@pytest.mark.parametrize(
    ("workdir", "says"),
    [
        ("a file", "a file is a file, or would lie in one: give another --workdir=DIR"),
        ("a file/in/run", "a file/in/run is a file, or would lie in one"),
    ],
)
def test_a_workdir_that_is_a_file_is_one_line(tmp_path, workdir, says):
    (tmp_path / "a file").write_text("mine")
    assert says in error_line(run(main.main, *TINY, f"--workdir={tmp_path / workdir}"), before=())
    assert files(tmp_path) == ["a file"] and (tmp_path / "a file").read_text() == "mine"


def test_a_workdir_that_may_not_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may be allowed everything
    line = error_line(run(main.main, *TINY, f"--workdir={tmp_path / 'run'}"), before=())
    assert "may not be written: mend its permissions" in line and files(tmp_path) == []


def test_two_runs_do_not_write_to_one_workdir(tmp_path, monkeypatch):
    """While a run lasts its workdir is its own, where the file system has locks; afterwards it is free."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    folder = os.open(workdir, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "another run is writing to" in error_line(run(main.main, *TINY, f"--workdir={workdir}"), before=()) and files(tmp_path) == [
        "run"
    ]
    os.close(folder)
    with pretrain._alone(workdir):
        with pytest.raises(UserError, match="another run"), pretrain._alone(workdir):
            pass
    with pretrain._alone(workdir):
        pass
    monkeypatch.setattr(pretrain.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    with pretrain._alone(workdir):
        pass


def test_a_recipe_that_does_not_fit_is_refused_by_numbers(tmp_path, monkeypatch):
    """The paper's: 2048 clips of 16 frames of 224 x 224 on this machine's devices."""
    films = write_films(tmp_path / "films")
    monkeypatch.setattr(fit, "device_bytes", lambda device: 16 * fit.GIB)
    recipe = f"--config={CONFIGS / 'videomae_vitb.py'}"
    line = error_line(run(main.main, recipe, f"--config.data.path={films}", f"--workdir={tmp_path / 'run'}"))
    assert "GiB per device" in line and "has 16.0 GiB: lower train.batch_size (now 2048)" in line
    for setting in ("train.grad_accumulation", "model.remat='full'", "mesh.fsdp"):
        assert setting in line
    assert not (tmp_path / "run").exists()


def test_an_evaluation_that_could_write_nothing_computes_nothing(finished, tmp_path, world, monkeypatch):
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: pytest.fail("computed"))
    (tmp_path / "file").write_text("x")
    done = run(evaluate.main, PROBES, f"--config.checkpoint={finished}", f"--workdir={tmp_path / 'file'}")
    assert "is a file, or would lie in one: give another --workdir=DIR" in error_line(done)


@pytest.mark.parametrize("place", ["export", "export/notes"])
def test_a_run_that_could_not_export_is_refused_before_it_trains(tmp_path, place):
    mistaken = tmp_path / place
    mistaken.parent.mkdir(exist_ok=True)
    mistaken.write_text("x")
    done = run(main.main, *TINY, f"--workdir={tmp_path}")
    assert "name" in error_line(done) and "export" in error_line(done) and not (tmp_path / "checkpoints").exists()


def test_labels_of_noise_cannot_be_chosen(tmp_path):
    noise = [f"--config.eval.{split}.source=synthetic" for split in ("train", "test")]
    done = run(
        main.main, *TINY, *noise, "--config.eval.protocols=finetune", "--config.eval.finetune.labels=8", f"--workdir={tmp_path / 'run'}"
    )
    assert "train.source=synthetic has no films to choose labels of" in error_line(done) and files(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["checkpoint="], "no checkpoint: give --config.checkpoint=DIR"),
        (["checkpoint={here}/nowhere"], "nowhere holds no export (no meta.json)"),
        (["checkpoint={here}/unfinished"], "unfinished holds no export (no meta.json)"),
        (["checkpoint={here}/damaged"], "damaged cannot be read"),
        (["checkpoint={here}/other"], "do not fit the model that its meta.json describes"),
        (["protocols="], "no protocol: give --config.protocols=NAME,NAME, of knn, retrieval, linear, attentive, finetune"),
        (["protocols=knm"], "unknown protocol 'knm': did you mean 'knn'?"),
        (["train.sampler.frames=8"], "the model takes clips of"),
        (["test.source=folder"], "test.path is empty: test.source=folder needs to be told where the videos are, --config.test.path="),
        (["test.world=slide-2"], "training and test data have other classes (8, such as"),
        (["train.source=folder", "train.path={here}/films"], "train data have no labels: give a folder whose sub-folders are the classes"),
        (["train.source=folder", "train.path={here}/labeled"], "training and test data have other classes (1, such as 'one'"),
        (["knn.k=99"], "set k lower"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line(finished, tmp_path, world, arguments, says):
    here = tmp_path / "data"
    write_films(here / "films", count=1, frames=2)
    write_films(here / "labeled" / "one", count=1, frames=2)
    (here / "unfinished" / "checkpoints").mkdir(parents=True)
    (here / "damaged").mkdir()
    (here / "damaged" / "meta.json").write_text("{")
    meta = json.loads((finished / "export" / "meta.json").read_text())
    meta["model"]["width"] = 48
    (here / "other").mkdir()
    (here / "other" / "meta.json").write_text(json.dumps(meta))
    (here / "other" / "params").symlink_to(finished / "export" / "params")
    before = files(tmp_path)
    given = [f"--config.{argument.format(here=here)}" for argument in (f"checkpoint={finished}", *arguments)]
    caches = [argument.replace("config.eval.", "config.") for argument in world[1:]]
    done = run(evaluate.main, PROBES, *caches, *given, f"--workdir={tmp_path / 'numbers'}")
    assert says in error_line(done) and files(tmp_path) == before
    assert not (finished / "eval.json").exists()


def test_the_default_workdir_is_named_by_the_recipe():
    assert main.default_workdir([SMOKE]) == "runs/videomae_vitb-smoke"
    assert main.default_workdir(["--config", "configs/videomae_vits.py"]) == "runs/videomae_vits"


def test_recipes_of_main_are_all_of_them():
    """RECIPES is a pattern of names: a recipe of main that it misses would not be run here."""
    found = []
    for path in CONFIGS.glob("*.py"):
        if "def get_config" in path.read_text():
            smoke = importlib.import_module(f"configs.{path.stem}").get_config("smoke")
            found += [path.stem] if all(key in smoke for key in cli.TRAINING) else []
    assert sorted(found) == RECIPES
