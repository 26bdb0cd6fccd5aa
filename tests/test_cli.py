"""The command line: what a person can get wrong in it is one line that says how to mend it, and leaves nothing behind."""

import errno
import functools
import os
import runpy
import signal
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.commands import CONFIGS, SMOKE, error_line, files, run
from vssl_jax import bench, cache, cli, config, convert, evaluate, instrument, limits, main, make_flow
from vssl_jax.errors import UserError
from vssl_jax.train.preemption import Preempted

PROBES = f"--config={CONFIGS / 'eval' / 'probes.py'}:smoke"


def mistaken(command, workdir: Path, *argv: str) -> str:
    """The one line of a command that goes no further than its arguments."""
    done = run(command, *argv, f"--workdir={workdir / 'run'}")
    assert files(workdir) == []
    return error_line(done, before=())


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("train.batchsize=2", "no setting --config.train.batchsize: did you mean --config.train.batch_size?"),
        ("train.batch-size=2", "no setting --config.train.batch-size: did you mean --config.train.batch_size?"),
        ("trian.batch_size=2", "no setting --config.trian.batch_size: did you mean --config.train.batch_size?"),
        ("batch_size=2", "did you mean --config.train.batch_size or --config.eval.batch_size or "),
        ("train.learning_rate=2", "did you mean --config.optimizer.learning_rate?"),
        ("optimizer.lr=2", "no setting --config.optimizer.lr"),
        ("model.boxy=1", "no setting --config.model.boxy: model has depth, dtype"),
        ("zzz=2", "no setting --config.zzz: top-level keys: checkpoint, data"),
        ("train.batch_size.x=2", "no setting --config.train.batch_size.x"),
        ("=2", "no setting --config."),
        ("train=2", "--config.train is a group of settings (batch_size, epochs"),
        (
            "optimizer.rates={'decoder': 2.0}",
            "--config.optimizer.rates is a group without settings in this recipe: give it some in the recipe's file",
        ),
        ("train.steps", "--config.train.steps lacks its value: write --config.train.steps=VALUE"),
        ("test.path=x", "did you mean --config.eval.test.path?"),  # not the path of the training data
        ("knn.k=3", "did you mean --config.eval.knn.k?"),
        ("fsdp=2", "did you mean --config.mesh.fsdp?"),
        ("path=x", "did you mean --config.data.path or --config.eval.test.path or --config.eval.train.path?"),
        (
            "sampler.frames=8",
            "did you mean --config.data.sampler.frames or --config.eval.test.sampler.frames or --config.eval.train.sampler.frames?",
        ),
    ],
)
def test_an_unknown_setting_names_the_nearest(tmp_path, argument, says):
    assert says in mistaken(main.main, tmp_path, SMOKE, f"--config.{argument}")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("train.steps=many", "--config.train.steps=many: it must be a whole number, such as 4"),
        ("train.steps=1.5", "it must be a whole number"),
        ("train.steps=", "it must be a whole number"),
        ("optimizer.learning_rate=fast", "--config.optimizer.learning_rate=fast: it must be a number, such as 0.00015"),
        ("report=maybe", "--config.report=maybe: it must be true or false, such as true"),
        ("eval.protocols=0.5", "eval.protocols is (0.5,): it must be names"),
        ("eval.seeds=", "eval.seeds is (): it must be one or more whole numbers"),
        ("eval.seeds=a", "eval.seeds is ('a',): it must be one or more whole numbers"),
        ("eval.finetune.labels=1,-1", "eval.finetune.labels is (1, -1): it must be"),
        ("objective.view.color=gray", "objective.view.color is ('gray',): it must be operations"),
        ("model.tubelet=(2,16)", "model.tubelet is (2, 16): it must be (frames, rows, columns)"),
        ("data.canvas=64", "data.canvas is (64,): it must be (rows, columns)"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, argument, says):
    assert says in mistaken(main.main, tmp_path, SMOKE, f"--config.{argument}")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.batch_size", "0", "1 or more"),
        ("train.grad_accumulation", "-1", "1 or more"),
        ("train.log_every", "0", "1 or more"),
        ("checkpoint.keep", "0", "1 or more"),
        ("checkpoint.every", "-1", "0 or more"),
        ("seed", "-1", "from 0 to 4294967295"),
        ("seed", "99999999999999999999", "from 0 to 4294967295"),
        ("guard.max_in_a_row", "0", "1 or more"),
        ("guard.decay", "7", "0 or more and below 1"),
        ("optimizer.learning_rate", "nan", "a finite number"),
        ("optimizer.learning_rate", "inf", "a finite number"),
        ("optimizer.learning_rate", "-1", "0 or more"),
        ("optimizer.b2", "1", "0 or more and below 1"),
        ("optimizer.layer_decay", "0", "above 0"),
        ("objective.mask_ratio", "1", "above 0 and below 1"),
        ("objective.view.flip", "2", "from 0 to 1"),
        ("objective.eval_view.crops", "0", "1 or more"),
        ("data.max_broken_fraction", "1.5", "from 0 to 1"),
        ("data.workers", "-1", "0 or more"),
        ("data.layout", "yuv", "rgb or yuv420"),
        ("model.dtype", "float16", "auto, float32 or bfloat16"),
        ("model.depth", "0", "1 or more"),
        ("eval.knn.k", "0", "1 or more"),
        ("eval.knn.temperature", "0", "above 0"),
        ("eval.linear.steps", "0", "1 or more"),
        ("eval.finetune.smoothing", "1", "0 or more and below 1"),
    ],
)
def test_a_value_outside_its_limits_is_refused(tmp_path, key, value, says):
    line = mistaken(main.main, tmp_path, SMOKE, f"--config.{key}={value}")
    assert line.startswith(f"error: {key} is ") and line.endswith(f"it must be {says}")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("paces", (1, 1.5), "whole numbers, each 1 or more"),
        ("rates", (0, 1), "whole numbers, each 1 or more"),
        ("speeds", (1, 1.5), "whole numbers, each 1 or more"),
        ("widths", (), "whole numbers, each 1 or more"),
        ("gaps", (4,), "(fewest, most), whole numbers of 1 or more"),
        ("resize", (0.5,), "(least, most), or empty"),
        ("count", -1, "1 or more"),
        ("chunk", -4, "0 or more"),
        ("dropout", 1.0, "0 or more and below 1"),
    ],
)
def test_a_methods_setting_outside_its_limits_is_refused(key, value, says):
    with pytest.raises(UserError) as told:
        limits.check_values(ConfigDict({"objective": {key: value}}))
    assert str(told.value).endswith(f"it must be {says}")


@pytest.mark.parametrize("objective", [{"speeds": 4}, {"speeds": (1, 2)}, {"resize": ()}, {"rates": {}}, {"dropout": 0.5}])
def test_a_methods_setting_within_them_is_not(objective):
    limits.check_values(ConfigDict({"objective": objective}))


def test_only_a_setting_that_is_true_or_false_can_be_negated(tmp_path):
    assert "write --config.train.steps=VALUE" in mistaken(main.main, tmp_path, SMOKE, "--noconfig.train.steps")


def test_chroma_needs_an_even_canvas(tmp_path):
    line = mistaken(main.main, tmp_path, SMOKE, "--config.data.layout=yuv420", "--config.data.canvas=(63,64)")
    assert line.startswith("error: data.canvas is (63, 64): it must be") and "even" in line


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (None, "no recipe: give --config=configs/NAME.py"),
        ("videomae_vitb.py:smok", "unknown variant 'smok': did you mean 'smoke'?"),
        ("videomae_vtib.py", "did you mean " + str(CONFIGS / "videomae_vitb.py")),
        ("videomae_vitb", "did you mean " + str(CONFIGS / "videomae_vitb.py")),
        ("videomae.py", "videomae.py is no recipe, it has no get_config(arg): did you mean"),
        ("zzz.py", "see configs/"),
        ("", f"no recipe {CONFIGS}"),
        ("eval/probes.py:smoke", "eval/probes.py:smoke is a recipe of another command: it has no setting 'model'"),
    ],
)
@pytest.mark.parametrize("command", [main.main, bench.main])
def test_a_wrong_recipe_names_the_nearest(tmp_path, command, recipe, says):
    assert says in mistaken(command, tmp_path, *([] if recipe is None else [f"--config={CONFIGS}/{recipe}"]))


def test_an_evaluation_is_no_training():
    assert "it has no setting 'protocols'" in error_line(run(evaluate.main, SMOKE), before=())


@pytest.mark.parametrize(
    "body", ["def get_config(arg):\n    return undefined", "def get_config(arg):\n  return (", "import nothing\ndef get_config(arg): pass"]
)
def test_a_recipe_that_fails_is_one_line_with_its_cause(tmp_path, body):
    recipe = tmp_path / "configs" / "mine.py"
    recipe.parent.mkdir()
    recipe.write_text(body)
    line = error_line(run(main.main, f"--config={recipe}"), before=())
    assert line.startswith(f"error: the recipe {recipe} fails (") and "Error" in line


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--epochs=3", "Unknown command line flag 'epochs'; settings are written --config.key=value"),
        ("--notraining", "Unknown command line flag 'notraining'"),
        ("-x", "Unknown command line flag 'x'"),
        ("train.steps=3", "unexpected argument 'train.steps=3': settings are written --config.key=value"),
        ("--debug=maybe", "debug"),
    ],
)
@pytest.mark.parametrize(("command", "recipe"), [(main.main, SMOKE), (bench.main, SMOKE), (evaluate.main, PROBES)])
def test_an_unknown_flag_is_one_line(tmp_path, command, recipe, argument, says):
    assert says in mistaken(command, tmp_path, recipe, argument)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required: --source, --target"),
        (["--source=there"], "required: --target"),
        (["--sauce=there", "--target=here"], "--source"),
        (["--source=there", "--target=here", "--more"], "unrecognized arguments: --more"),
        (["--source=there", "--target=here"], "there"),
    ],
)
def test_convert_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    assert says in error_line(run(convert.main, *argv), before=())
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ()),
        ("()", ()),
        ("knn", ("knn",)),
        ("knn,linear", ("knn", "linear")),
        (" knn, linear ,", ("knn", "linear")),
        ("('knn',)", ("knn",)),
        ("('knn')", ("knn",)),
        ("'knn'", ("knn",)),
        ("['knn','linear']", ("knn", "linear")),
        ("(knn,linear)", ("knn", "linear")),
    ],
)
def test_names_may_be_written_in_any_way(text, value):
    """None of them is taken letter by letter."""
    found, _ = cli.parse([SMOKE, f"--config.eval.protocols={text}"], "")
    assert found.eval.protocols == value


@pytest.mark.parametrize(("text", "value"), [("3", (3,)), ("0,1", (0, 1)), ("(0,1)", (0, 1)), ("[2]", (2,))])
def test_numbers_may_be_written_in_any_way(text, value):
    found, _ = cli.parse([SMOKE, f"--config.eval.seeds={text}"], "")
    assert found.eval.seeds == value


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (("eval.seeds=0", "eval.seeds=1"), (1,)),
        (("eval.protocols=knn", "train.steps=3", "eval.protocols="), ()),
        (("eval.protocols=", "eval.protocols=knn,linear"), ("knn", "linear")),
        (("report=false", "report"), True),
    ],
)
def test_of_a_setting_that_is_repeated_the_last_one_counts(given, value):
    """Tuples too: they are not added up."""
    found, _ = cli.parse([SMOKE, *(f"--config.{argument}" for argument in given)], "")
    assert functools.reduce(lambda of, key: of[key], given[-1].partition("=")[0].split("."), found) == value


def test_color_operations_are_given_as_python():
    for text in ("({'name':'gray'},)", "[{'name':'gray'}]", "{'name':'gray'}"):
        found, _ = cli.parse([SMOKE, f"--config.objective.view.color={text}"], "")
        assert found.objective.view.color == ({"name": "gray"},)


def test_overrides_reach_the_config(monkeypatch):
    """From the arguments that parse is given, not from the process's own."""
    monkeypatch.setattr("sys.argv", ["pytest", "--config.train.steps=77"])
    argv = [
        "--config",
        SMOKE.partition("=")[2],
        "--config.train.steps",
        "9",
        "-config.seed=5",
        "--noconfig.report",
        "--config.eval.baseline=false",
    ]
    found, flags = cli.parse([*argv, "--workdir", "there"], "")
    assert (found.train.steps, found.seed, found.report, found.eval.baseline, flags.workdir) == (9, 5, False, False, "there")
    assert found.is_locked
    again, _ = cli.parse([*argv[:2], "--config.report"], "")
    assert (again.train.steps, again.report) == (4, True)


def test_steps_follow_an_overridden_batch_size():
    found, _ = cli.parse([SMOKE.removesuffix(":smoke"), "--config.train.batch_size=64", "--config.train.epochs=2"], "")
    assert found.train.steps == 2 * 240_436 // 64


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        ("videomae_vitb.py:local", "train.epochs"), ("videomae_vitb.py:smoke", "data.num_examples"), ("finetune_vitb.py:local", "train.epochs"),
        ("finetune_vitb.py:local", "data.num_examples"), ("rotation_r3d18.py", "train.epochs"), ("rotation_r3d18.py", "data.num_examples"),
        ("vie_r3d18.py", "train.epochs"), ("coclr_s3d_ucf101.py:local", "train.epochs"), ("deep_cluster_slowonly50.py:local", "data.num_examples"),
    ],
)  # fmt: skip
def test_what_counts_no_steps_is_refused(recipe, key):
    """It would stand in config.json beside steps that it has nothing to do with."""
    given = [f"--config={CONFIGS / recipe}", f"--config.{key}=3"]
    with pytest.raises(UserError, match=f"^{key} counts nothing in this recipe: set train.steps$"):
        cli.parse(given, "")
    found, _ = cli.parse([*given, "--config.train.steps=7"], "")
    assert found.train.steps == 7
    group, name = key.split(".")
    assert found[group][name] == 3
    cli.parse([given[0], f"--config.{key}={_of(recipe, key)}"], "")


def _of(recipe: str, key: str) -> int:
    group, name = key.split(".")
    return cli.parse([f"--config={CONFIGS / recipe}"], "")[0][group][name]


@pytest.mark.parametrize(
    ("recipe", "key", "value", "follows", "then"),
    [
        ("videomae_vitb.py", "train.epochs", 3, "train.steps", 3 * 240_436 // 2048),
        ("coclr_s3d_ucf101.py", "train.epochs", 1001, "train.epochs", 1001),  # counted in tenths: nothing moves for one more
        ("vie_r3d18.py", "data.num_examples", 999, "objective.videos", 999),
        ("deep_cluster_slowonly50.py", "data.num_examples", 5120, "objective.refresh_every", 10),
    ],
)  # fmt: skip
def test_what_others_are_counted_by_moves_them(recipe, key, value, follows, then):
    found, _ = cli.parse([f"--config={CONFIGS / recipe}", f"--config.{key}={value}"], "")
    group, name = key.split(".")
    assert found[group][name] == value
    group, name = follows.split(".")
    assert found[group][name] == then


def test_no_steps_are_counted_by_the_videos_of_an_evaluation():
    with pytest.raises(UserError, match=r"^eval\.test\.num_examples counts nothing in this recipe: leave it at 0$"):
        cli.parse([f"--config={CONFIGS / 'videomae_vitb.py'}", "--config.eval.test.num_examples=5"], "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data.source=folder", "data.split=test"], "data.split is of no use to data.source=folder, which has no such setting (of tfds, embedded, rendered)"),
        (["data.source=folder", "data.split=train"], "data.split"),  # of a folder it is no more than its name
        (["data.world=hard-14", "data.source=manifest"], "data.world is of no use to data.source=manifest"),
        (["data.source=folder", "data.fps=5"], "data.fps is of no use to data.source=folder, which has no such setting (of tfrecord, tfds)"),
        (["data.source=tfrecord", "data.videos=7"], "data.videos is of no use to data.source=tfrecord"),
        (["data.tfds_dir=/nope"], "data.tfds_dir is of no use to data.source=embedded"),
        (["eval.test.source=folder", "eval.test.split=val"], "eval.test.split is of no use to eval.test.source=folder"),
        (["eval.train.num_classes=3"], "eval.train.num_classes is of no use to eval.train.source=embedded"),
    ],
)  # fmt: skip
def test_a_setting_of_another_source_is_refused(tmp_path, arguments, says):
    """What was asked for is other videos than would be read."""
    assert says in mistaken(main.main, tmp_path, SMOKE, *[f"--config.{argument}" for argument in arguments])


def test_a_setting_of_another_source_is_refused_of_evaluations_too(tmp_path):
    folder = ("--config.checkpoint=x", "--config.test.source=folder", "--config.test.split=val")
    assert "test.split is of no use to test.source=folder" in mistaken(evaluate.main, tmp_path, PROBES, *folder)


@pytest.mark.parametrize(
    "given",
    [["source=folder"], ["source=manifest", "classes=names.txt"], ["source=tfds", "split=val", "fps=5"], ["source=folder", "cache="]],
)
def test_what_the_recipe_has_of_another_source_is_not(given):
    """`:local` is of the embedded dataset, with a world of its own, and is run on other videos by naming them."""
    found, _ = cli.parse([SMOKE.replace("smoke", "local"), *[f"--config.data.{argument}" for argument in given]], "")
    assert found.data.source == given[0].partition("=")[2] and found.data.world == "slide-8"


def test_help_is_the_usage(capsys):
    for command in (main.main, evaluate.main, bench.main):
        with pytest.raises(SystemExit) as leaving:
            command(["--help"])
        assert leaving.value.code == 0
        text = capsys.readouterr().out
        assert "--config" in text and "python -m vssl_jax." in text


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("mend this"), 1, "error: mend this\n"),
        (Preempted("stopped at step 3"), 42, "preempted: stopped at step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted: nothing of it was kept\n"),
    ],
)
def test_exit_codes(error, code, line):
    def command(argv):
        raise error

    done = run(command)
    assert (done.code, done.err, done.out) == (code, line, "")
    traced = run(command, "--debug")
    assert traced.code == code and traced.err.endswith(line)
    assert ("Traceback" in traced.err) == (code != 42)


@pytest.mark.parametrize("bug", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "a bug")])
def test_a_bug_keeps_its_traceback(bug):
    def command(argv):
        raise bug

    done = run(command)
    assert done.code == 1 and "Traceback" in done.err and "a bug" in done.err


@pytest.mark.parametrize(
    ("args", "says"), [((errno.ENOSPC, ""), "error: No space left"), ((errno.EROFS, "", "RUN/x"), "error: RUN/x: Read-only")]
)
def test_a_full_or_closed_disk_is_one_line(args, says):
    def command(argv):
        raise OSError(*args)

    done = run(command)
    assert done.code == 1 and done.err.startswith(says) and done.err.count("\n") == 1
    assert "Traceback" in run(command, "--debug").err


def test_a_batch_of_none_is_refused_where_steps_are_counted_by_it(tmp_path):
    """A full-size recipe divides by it while its settings are read."""
    line = error_line(run(main.main, f"--config={CONFIGS / 'videomae_vitb.py'}", f"--workdir={tmp_path}", "--config.train.batch_size=0"))
    assert line == "error: train.batch_size is 0: it must be 1 or more"


def test_a_workdir_in_a_bucket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = error_line(run(main.main, SMOKE, "--workdir=gs://bucket/run"))
    assert line.startswith("error: --workdir=gs://bucket/run is a URL") and not list(tmp_path.iterdir())


def test_a_signal_before_the_training_is_the_same_as_one_in_it(tmp_path, monkeypatch):
    """Else a scheduler that starts what was stopped again takes the run for dead."""
    monkeypatch.setattr(main.pretrain, "pretrain", lambda *args, **more: signal.raise_signal(signal.SIGTERM))
    done = run(main.main, SMOKE, f"--workdir={tmp_path}")
    assert (done.code, done.err) == (42, "preempted: stopped outside of training; the same command goes on from what is saved\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (main, "the same command goes on from what is saved"),
        (instrument, "the rows that are measured are kept: the same command goes on"),
        (make_flow, "the videos that are done are kept: the same command goes on"),
    ],
)
def test_what_is_said_after_ctrl_c_is_the_command_s(monkeypatch, command, said):
    how = {}
    monkeypatch.setattr(cli, "run", lambda main, **words: how.update(words))
    runpy.run_path(command.__file__, run_name="__main__")
    assert how == {"interrupted": said}


def test_ctrl_c_is_one_line():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # of a suite in the background, which shells start with it ignored
    try:
        done = run(lambda argv: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.code, done.err) == (130, "interrupted: nothing of it was kept\n")


class TestStoppable:
    """SIGTERM where no training loop listens to it."""

    def test_a_signal_ends_the_body(self):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Preempted, match="do it again"), cli.stoppable("do it again"):
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("went on")
        assert signal.getsignal(signal.SIGTERM) is before

    def test_what_took_it_for_its_own_failure_is_seen_through(self):
        with pytest.raises(Preempted, match="do it again"), cli.stoppable("do it again"):
            try:
                signal.raise_signal(signal.SIGTERM)
            except Exception as error:
                raise UserError("the export cannot be read") from error

    def test_a_loop_that_was_stopped_inside_says_how_the_whole_goes_on(self):
        with pytest.raises(Preempted, match="do it again"), cli.stoppable("do it again"):
            raise Preempted("this run keeps no checkpoints")

    def test_what_a_loop_says_may_stay(self):
        with pytest.raises(Preempted, match="stopped at step 3"), cli.stoppable("do it again", loops=False):
            raise Preempted("stopped at step 3")
        with pytest.raises(Preempted, match="do it again"), cli.stoppable("do it again", loops=False):
            signal.raise_signal(signal.SIGTERM)

    def test_other_errors_are_left_alone(self):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(UserError, match="something else"), cli.stoppable("do it again"):
            raise UserError("something else")
        assert signal.getsignal(signal.SIGTERM) is before


def test_default_values_are_within_their_limits():
    """Of every recipe: what is refused from the command line is not in a recipe either."""
    recipes = [path for path in CONFIGS.rglob("*.py") if "def get_config" in path.read_text()]
    assert len(recipes) > 9
    for path in recipes:
        for variant in ("", ":smoke"):
            found, _ = cli.parse([f"--config={path}{variant}"], "", keys=())
            assert config.paths(found)


def test_compiled_programs_are_kept_where_the_environment_says(monkeypatch):
    updates = {}
    monkeypatch.setattr(cli.jax.config, "update", updates.__setitem__)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    cli.use_compilation_cache()
    assert "jax_compilation_cache_dir" not in updates
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.use_compilation_cache()
    assert updates["jax_compilation_cache_dir"] == str(cache.FOLDER / "xla") and os.path.isabs(cache.FOLDER)


def test_settings_of_other_data_are_named_where_they_stand_and_paths_stay_as_they_are():
    said = "data.path '/mnt/data.path/x.data.csv' and my data.v2: data.source=folder needs --config.data.path=..., data.fps"
    wanted = "eval.test.path '/mnt/data.path/x.data.csv' and my data.v2: eval.test.source=folder needs --config.eval.test.path=..., eval.test.fps"
    assert config.named_in("eval.test", said) == wanted
