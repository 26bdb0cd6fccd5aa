"""The instrument's arithmetic on made results; one small measurement from end to end; and that what is done is not done again."""

import json
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from configs.tables import methods
from vssl_jax import config as config_lib
from vssl_jax import instrument, instrument_rows, objectives
from vssl_jax.data import world
from vssl_jax.errors import UserError
from vssl_jax.objectives.tclr import TCLR

RECIPE = f"--config={Path(__file__).parents[1] / 'configs' / 'instrument.py'}:smoke"
REVERSAL = np.array([1, 0, 3, 2])


def test_direction_asks_only_between_a_class_and_its_reversal():
    scores = np.array([[0.2, 0.1, 0.7, 0.0], [0.1, 0.2, 0.7, 0.0], [0.0, 0.0, 0.3, 0.3]])
    assert instrument.direction(scores, np.array([0, 0, 2]), REVERSAL) == pytest.approx((1 + 0 + 0.5) / 3)
    assert instrument.direction(np.ones((5, 4)), np.arange(5) % 4, REVERSAL) == 0.5


@pytest.mark.parametrize("name", ["slide-8", "mixed-8"])
def test_the_reversal_of_a_reversal_is_the_class(name):
    spec = world.find(name)
    reversal = np.array([spec.reversal(i) for i in range(len(spec.classes))])
    assert (reversal[reversal] == np.arange(len(reversal))).all() and (reversal != np.arange(len(reversal))).all()


def row(name, seed, top1, direction=0.5, n=1000, **more):
    return {"name": name, "seed": seed, "top1": top1, "direction": direction, "n": n, "steps": 1, "digest": "x"} | more


class Config:
    random: ClassVar = {"vit": "mae"}


def test_verdicts_are_those_of_the_numbers():
    found = {
        "control/vit/coded/ordered": [row("", 0, 0.89)],
        "control/cnn/coded/ordered": [row("", 0, 0.91)],
        "control/cnn/coded/mean": [row("", 0, 0.5, direction=0.547)],
        "control/cnn/coded/single": [row("", 0, 0.5, direction=0.548)],
        "mae/knn": [row("", s, 0.30 + 0.01 * s) for s in range(5)],
        "mae/linear": [row("", s, 0.21 + 0.1 * s) for s in range(5)],
        "random-vit/knn": [row("", s, 0.20 + 0.01 * s) for s in range(5)],
        "random-vit/linear": [row("", s, 0.20 + 0.1 * s) for s in range(5)],
    }
    said = {line[4:].split(":")[0]: line[:3].strip() for line in instrument_rows.verdicts(found, Config)}
    assert said == {
        "control/vit/coded/ordered": "NO", "control/cnn/coded/ordered": "yes", "control/cnn/coded/mean": "yes",
        "control/cnn/coded/single": "NO", "mae/knn": "yes", "mae/linear": "NO",
    }  # fmt: skip
    # 5 seeds, 0.01 apart: standard deviation 0.0158, standard error of each mean 0.00707, of the difference 0.01
    assert any(
        "mae/knn: +0.100 top-1 over random initialization, +10.0 standard errors" in v for v in instrument_rows.verdicts(found, Config)
    )


def test_a_method_is_held_against_its_control_too():
    """That it beats random weights is not the task's merit where training on random labels does the same."""
    found = {
        "mae/knn": [row("", s, 0.30 + 0.01 * s) for s in range(5)],
        "mae/task": [row("", s, 0.9) for s in range(5)],
        "mae_random_labels/knn": [row("", s, 0.29 + 0.01 * s) for s in range(5)],
        "mae_random_labels/task": [row("", s, 0.5) for s in range(5)],
        "random-vit/knn": [row("", s, 0.20 + 0.01 * s) for s in range(5)],
    }
    config = type("Config", (), {"random": {}, "net_of": {"mae": "vit", "mae_random_labels": "vit"}})
    over = "top-1 over random"
    assert [v.split(" standard")[0] for v in instrument_rows.verdicts(found, config)] == [
        f"yes mae/knn: +0.100 {over} initialization, +10.0", f"NO  mae/knn: +0.010 {over} labels, +1.0",
        f"yes mae_random_labels/knn: +0.090 {over} initialization, +9.0",
    ]  # fmt: skip


def test_a_seed_that_two_processes_measured_counts_once(tmp_path):
    """The later row; and what a full disk cut off is no row, and spoils none that comes after it."""
    results = instrument_rows.Results(tmp_path / "results.jsonl")
    tasks = [instrument.Task("mae/knn", seed, 1, {}, None) for seed in (0, 1)]
    for seed, top1 in ((0, 0.2), (1, 0.4), (0, 0.3)):
        results.add(row("mae/knn", seed, top1) | {"digest": tasks[0].digest})
    with open(results.path, "a") as file:
        file.write('{"name": "mae/knn", "se')
    assert [r["top1"] for r in instrument_rows.group(results.rows(), tasks)["mae/knn"]] == [0.3, 0.4]
    results.add(row("other", 0, 0.5))
    assert [r["name"] for r in results.rows()] == ["mae/knn"] * 3 + ["other"]


def test_one_seed_shows_no_gain():
    found = {"mae/knn": [row("", 0, 0.9)], "random-vit/knn": [row("", 0, 0.1)]}
    assert instrument_rows.verdicts(found, Config) == []


def test_the_table_has_means_errors_seeds_and_steps():
    text = instrument_rows.table({"mae/knn": [row("", 1, 0.2), row("", 0, 0.4)]})
    assert text.splitlines()[1].split() == ["mae/knn", "0.300", "±", "0.100", "0.500", "±", "0.000", "1000", "0,1", "1"]


def test_a_row_is_measured_once_and_older_settings_are_not_read(tmp_path, capsys):
    command = [RECIPE, f"--workdir={tmp_path}", "--only=control/vit/drawn/shuf"]
    instrument.main(command)
    first = (tmp_path / "results.jsonl").read_text()
    rows = [json.loads(line) for line in first.splitlines()]
    assert [r["name"] for r in rows] == ["control/vit/drawn/shuffled"]
    assert all(r["n"] == 16 and r["steps"] == 2 and 0 <= r["direction"] <= 1 for r in rows)
    assert "control/vit/drawn/shuffled" in capsys.readouterr().out
    instrument.main(command)
    assert (tmp_path / "results.jsonl").read_text() == first
    capsys.readouterr()
    instrument.main([*command[:2], "--only=control/vit/drawn/ordered", "--config.controls.vit.steps=3"])
    out = capsys.readouterr().out
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2
    assert "shuffled" not in out, "a row of other settings does not stand beside this one"


def test_rows_on_other_test_videos_are_other_rows():
    """And those of the usual ones have the digests that they had before test videos counted."""
    digests = set()
    for changes in ({}, {"split": "validation"}, {"world_videos": 8}):
        config = methods.get_config("smoke").unlock()
        config.test.update(changes)
        task = next(t for t in instrument.methods(config, None, Path()) if t.name == "pace/knn")
        assert ("test" in task.settings) == bool(changes)
        digests.add(task.digest)
    assert len(digests) == 3


def test_results_of_an_earlier_version_of_a_method_are_not_its_own(monkeypatch, tmp_path):
    """Neither its rows nor its trained weights; a first version needs no word."""

    def tclr():
        return next(t for t in instrument.methods(methods.get_config("smoke"), None, tmp_path) if t.name == "tclr/knn")

    now = tclr()
    assert now.settings["version"] == 2
    monkeypatch.setattr(TCLR, "version", 3)
    assert tclr().digest != now.digest
    monkeypatch.setattr(TCLR, "version", 1)
    assert "version" not in tclr().settings


def test_a_training_with_other_settings_has_another_folder(monkeypatch):
    """In the folder of the first, which is finished, nothing would be trained."""
    folders = []
    monkeypatch.setattr(instrument, "_pretrained", lambda run, seed, folder: folders.append(folder))
    monkeypatch.setattr(instrument, "_tables", lambda *_: None)
    monkeypatch.setattr(instrument, "_frozen", lambda protocol, tables, *_: tables())
    for rate in (1e-3, 2e-3):
        config = methods.get_config("smoke").unlock()
        config.methods.pace.optimizer.learning_rate = rate
        next(t for t in instrument.methods(config, None, Path("runs")) if t.name == "pace/knn").measure()
    assert len(set(folders)) == 2 and all(folder.name.startswith("pace-0-") for folder in folders)


def test_a_pattern_that_matches_no_row_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--only=contrl matches no cell; cells are control/cnn/drawn/ordered"):
        instrument.main([RECIPE, f"--workdir={tmp_path}", "--only=contrl"])


@pytest.mark.parametrize(("name", "says"), [("knnn", "did you mean 'knn'?"), ("finetune", "known: attentive, knn, linear, retrieval")])
def test_a_protocol_that_is_none_is_one_line(tmp_path, name, says):
    """Fine-tuning is none on frozen features."""
    with pytest.raises(UserError) as told:
        instrument.main([RECIPE, f"--workdir={tmp_path}", f"--config.protocols=knn,{name}"])
    assert str(told.value) == f"unknown protocol on frozen features {name!r}: {says}"


def test_a_readme_without_the_marks_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(instrument, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "README.md").write_text("no table here")
    with pytest.raises(UserError, match="needs the lines <!-- methods: begin -->"):
        instrument.main([RECIPE, f"--workdir={tmp_path}", f"--readme={tmp_path / 'README.md'}"])
    assert (tmp_path / "README.md").read_text() == "no table here"


def test_what_was_made_is_let_go_before_another_is_made():
    """So that a table of many methods has one of them in memory at a time."""

    class Network:
        pass

    latest, made = instrument.Latest(), []

    def make():
        assert not made or made[-1]() is None
        network = Network()
        made.append(weakref.ref(network))
        return network

    for key in ("a", "a", "b", "b", "a"):
        assert latest.get(key, make) is made[-1]()
    assert len(made) == 3


def test_the_methods_table_has_a_line_a_method_and_no_controls():
    found = {
        "control/cnn/coded/ordered": [row("", 0, 0.95)],
        "pace/task": [row("", 0, 0.6, direction=None, n=0), row("", 1, 0.8, direction=None, n=0)],
        "pace/knn": [row("", 0, 0.4), row("", 1, 0.4)],
        "pace/retrieval": [row("", s, 0.4 + s / 5, retrieval={"hit@1": 0.4 + s / 5, "hit@5": 0.7 + s / 5}) for s in (0, 1)],
        "random-cnn/knn": [row("", 0, 0.1)],
    }
    lines = instrument_rows.method_table(found).splitlines()
    assert lines == [
        "| method | own task | knn | retrieval hit@1 / 5 | seeds |", "|---|---|---|---|---|",
        "| pace | 0.700 ± 0.100 | 0.400 ± 0.000 | 0.500 ± 0.100 / 0.80 | 0, 1 |", "| random-cnn |  | 0.100 |  | 0 |", "",
        "The same network trained with all labels: 0.950 (1 steps).",
    ]  # fmt: skip


def test_a_control_differs_from_its_task_by_the_labels_alone():
    config = methods.get_config()
    controls = [name for name in config.methods if name.endswith(instrument_rows.RANDOM_LABELS)]
    assert sorted(controls) == sorted(task + instrument_rows.RANDOM_LABELS for task in methods.CONTROLS)
    for name in controls:
        task = name.removesuffix(instrument_rows.RANDOM_LABELS)
        run, control = (config_lib.to_dict(config.methods[n]) for n in (task, name))
        assert config_lib.differences(run, control) == ["objective.random_labels: None -> True"]
        assert objectives.build(control).random_labels and not objectives.build(run).random_labels
        assert config.seeds_of[name] == config.seeds_of[task] and config.tuned[name] == config.tuned[task]


def test_what_fails_is_named_at_the_end_and_holds_up_no_other(tmp_path, monkeypatch, capsys):
    tried = []

    def measured(task, _):
        tried.append(task.name)
        if task.name.startswith("rotation/"):
            raise UserError("it diverged")
        return row(task.name, task.seed, 0.5) | {"digest": task.digest, "seconds": 1.0, "task": {"accuracy": 0.5}}

    monkeypatch.setattr(instrument, "measure", measured)
    recipe = Path(__file__).parents[1] / "configs" / "tables" / "methods.py"
    with pytest.raises(UserError, match=r"not measured: rotation, seed 0 \(it diverged\)$"):
        instrument.main([f"--config={recipe}:smoke", f"--workdir={tmp_path}", "--only=^(rotation|pace|simclr)/"])
    assert [name for name in tried if name.startswith("rotation/")] == ["rotation/task"]
    kept = [json.loads(line)["name"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert kept == [name for name in tried if name != "rotation/task"] and "simclr/knn" in kept and "simclr/knn" in capsys.readouterr().out


def test_of_several_numbers_the_one_that_a_method_is_named_for_is_shown():
    """Not the first by the alphabet, whatever was written when the row was measured."""
    task = instrument.Task("relative/task", 0, 7, {}, None, "speed/accuracy")
    measured = row("relative/task", 0, 0.83) | {"digest": task.digest, "task": {"appearance/accuracy": 0.83, "speed/accuracy": 0.607}}
    shown = instrument_rows.method_table(instrument_rows.group([measured], [task]))
    assert "| relative | 0.607 (speed) | 0 |" in shown and "0.83" not in shown


def test_every_method_of_several_questions_says_which_is_its_own():
    config = methods.get_config()
    assert config.own_metric["relative_speed_alone"] == config.own_metric["relative_speed"] == "speed/accuracy"
    assert config.own_metric["cubic_puzzle" + instrument_rows.RANDOM_LABELS] == "order/accuracy"


def test_a_method_is_pretrained_read_and_measured_by_its_own_accuracy_too(tmp_path, capsys):
    """One that draws its own labels, on data that have others."""
    recipe = str(Path(__file__).parents[1] / "configs" / "tables" / "methods.py")
    cache = tuple(f"--config.{data}.cache={tmp_path}" for data in ("methods.rotation.data", "methods.rotation.eval.test", "train", "test"))
    results, readme = tmp_path / "results.jsonl", tmp_path / "README.md"
    readme.write_text("<!-- methods: begin -->\n<!-- methods: end -->\n")
    only = "--only=^(rotation/(task|knn|retrieval)|random-cnn/(knn|retrieval))$"
    instrument.main([f"--config={recipe}:smoke", f"--workdir={tmp_path}", f"--results={results}", f"--readme={readme}", only, *cache])
    rows = {row["name"]: row for row in map(json.loads, results.read_text().splitlines())}
    names = {"rotation/task": 4, "rotation/knn": 4, "rotation/retrieval": 4, "random-cnn/knn": 0, "random-cnn/retrieval": 0}
    assert {name: row["steps"] for name, row in rows.items()} == names
    task = rows["rotation/task"]
    assert 0 <= task["top1"] <= 1 and task["task"]["accuracy"] == task["top1"] and task["task"]["loss"] > 0 and task["direction"] is None
    assert all(row["n"] == 16 for row in rows.values())
    for name in ("rotation/retrieval", "random-cnn/retrieval"):
        assert rows[name]["top1"] == rows[name]["retrieval"]["hit@1"] <= rows[name]["retrieval"]["hit@5"]
    assert "| rotation |" in readme.read_text() and "rotation/task" in capsys.readouterr().out


def test_a_setting_that_comes_later_leaves_the_rows_that_stand_as_they_are(monkeypatch):
    run = {"train": {"steps": 7, "batch_size": 256}, "optimizer": {"b2": 0.999}}
    digest = lambda **changes: instrument.Task("a/knn", 0, 7, {"run": run | changes, "labels": 200}, None).digest  # noqa: E731
    before = digest()
    defaults = instrument._defaults()
    later = defaults | {"run": defaults["run"] | {"train": defaults["run"]["train"] | {"knn_now": 0}}}
    monkeypatch.setattr(instrument, "_defaults", lambda: later)
    assert digest(train=run["train"] | {"knn_now": 0}) == before
    assert digest(train=run["train"] | {"knn_now": 5}) != before and digest(train={"steps": 8}) != before
    assert digest(train={"steps": 7}) == before  # 256 is the default
