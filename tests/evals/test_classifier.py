"""The classifier that a checkpoint brings: the same logits as in training, from a run and from converted weights, on the data's own classes."""

import json

import jax
import numpy as np
import pytest

from tests.commands import CONFIGS, SMOKE, error_line, run
from tests.interop import make_golden
from vssl_jax import convert, evaluate, main
from vssl_jax.errors import UserError
from vssl_jax.evals import classifier, probes
from vssl_jax.interop import huggingface
from vssl_jax.train.checkpoint import load_export, save_export

FINETUNE = f"--config={CONFIGS / 'finetune_vitb.py'}:smoke"
READ = f"--config={CONFIGS / 'eval' / 'classifier.py'}:smoke"
SYNTHETIC = "--config.test.source=synthetic"
EVALUATING = ("evaluating ",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that ended with its own number: (workdir, world folder)."""
    folder = tmp_path_factory.mktemp("trained")
    caches = [f"--config.{data}.cache={folder / 'world'}" for data in ("data", "eval.train", "eval.test")]
    done = run(main.main, FINETUNE, *caches, "--config.model.depth=1", f"--workdir={folder / 'run'}")
    assert done.code == 0, done.err
    return folder / "run", folder / "world"


def test_a_run_ends_with_its_number_and_evaluate_finds_the_same(trained, tmp_path):
    workdir, world = trained
    own = json.loads((workdir / "eval.json").read_text())
    argv = (READ, f"--config.checkpoint={workdir}", f"--config.test.cache={world}", f"--workdir={tmp_path}")
    done = run(evaluate.main, *argv)
    assert done.code == 0 and "classifier" in done.out, done.err
    again = json.loads((tmp_path / "eval.json").read_text())
    assert [(p["name"], p["metric"], p["value"]) for p in own["protocols"]] == [
        (p["name"], p["metric"], p["value"]) for p in again["protocols"]
    ]
    assert {p["baseline"] for p in again["protocols"]} == {None} and again["protocols"][0]["n"] == 16
    assert json.loads((workdir / "export" / "meta.json").read_text())["class_names"] == own["class_names"]


def test_it_is_the_head_that_was_trained(trained):
    """Logits of the loaded classifier against the parts put together by hand."""
    loaded = classifier.load(trained[0], {"short_side": 0, "crops": 1})
    parts, meta = load_export(trained[0])
    jax.tree.map(np.testing.assert_array_equal, loaded.params["head"], parts["method/head"])
    jax.tree.map(np.testing.assert_array_equal, loaded.params["encoder"], parts["encoder"])
    features, _ = loaded.objective.features(loaded.params, loaded.memory, np.ones((1, 4, 32, 32, 3), np.float32), None, train=False)
    norm, linear = parts["method/head"]["norm"], parts["method/head"]["linear"]
    x = np.asarray(features.pooled_BxD, np.float64)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    logits = loaded.objective.head.apply({"params": loaded.params["head"]}, features)
    np.testing.assert_allclose(logits, x @ linear["kernel"] + linear["bias"], atol=1e-5)
    assert meta["config"]["objective"]["name"] == "classify"


def test_converted_weights_are_a_classifier(tmp_path):
    """With the class names of config.json, both ways; on videos that have as many classes."""
    ref = make_golden.load("classification")
    names = [f"kind {i}" for i in range(5)]
    config = {k: v for k, v in ref.config.items() if k != "num_labels"} | {"id2label": {str(i): n for i, n in enumerate(names)}}
    huggingface.write(tmp_path / "theirs", make_golden.weights(ref.shapes), config)
    assert convert.main([f"--source={tmp_path / 'theirs'}", f"--target={tmp_path / 'run' / 'export'}"]) == 0
    loaded = classifier.load(tmp_path / "run", {"short_side": 0, "crops": 1})
    assert loaded.class_names == tuple(names)
    assert convert.main([f"--source={tmp_path / 'run'}", f"--target={tmp_path / 'back'}"]) == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["id2label"] == config["id2label"]
    sizes = ("--config.test.canvas=24,24", "--config.test.num_classes=5")
    done = run(evaluate.main, READ, SYNTHETIC, *sizes, "--config.test.videos=8", f"--config.checkpoint={tmp_path / 'run'}")
    assert "the classifier and the test data have other classes (5 and 5" in error_line(done, EVALUATING)
    meta = json.loads((tmp_path / "run" / "export" / "meta.json").read_text()) | {"class_names": []}
    (tmp_path / "run" / "export" / "meta.json").write_text(json.dumps(meta))
    done = run(evaluate.main, READ, SYNTHETIC, *sizes, "--config.test.videos=8", f"--config.checkpoint={tmp_path / 'run'}")
    assert done.code == 0 and "classifier  top1" in done.out, done.err


def test_an_export_without_a_head_is_no_classifier(trained, tmp_path):
    parts, meta = load_export(trained[0])
    save_export(tmp_path / "export", {"encoder": parts["encoder"]}, meta)
    with pytest.raises(UserError, match="holds no classifier"):
        classifier.load(tmp_path, {"short_side": 0, "crops": 1})


@pytest.mark.parametrize(
    ("trained", "tested", "says"),
    [
        (("a", "b"), ("a", "c"), r"number 1 is 'b', not 'c'"),
        (("a", "b"), ("a", "b", "c"), r"\(2 and 3; what differs first: their number\)"),
        (4, ("a", "b"), "knows 4 classes, the test data have 2"),
    ],
)
def test_other_classes_are_refused(trained, tested, says):
    with pytest.raises(UserError, match=says):
        classifier.check_classes(trained, tested)


def test_the_same_classes_are_not():
    classifier.check_classes(("a", "b"), ("a", "b"))
    classifier.check_classes(2, ("a", "b"))


def test_a_wrong_test_path_is_said_before_training(trained, tmp_path):
    _, world = trained
    argv = (FINETUNE, f"--config.data.cache={world}", "--config.eval.test.source=folder", "--config.eval.test.path=/nowhere")
    assert "/nowhere" in error_line(run(main.main, *argv, f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


def test_a_pretraining_has_no_classifier_and_that_is_said_before_it(trained, tmp_path):
    argv = (SMOKE, f"--config.data.cache={trained[1]}", f"--config.eval.test.cache={trained[1]}", "--config.eval.protocols=classifier")
    assert "this one learns no classes" in error_line(run(main.main, *argv, f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


def test_which_data_is_wrong_is_said(trained, tmp_path):
    argv = (READ, f"--config.checkpoint={trained[0]}", "--config.test.source=folder", f"--workdir={tmp_path}")
    assert "the evaluation's test data (test.* of its settings, in a recipe of main eval.test.*): " in error_line(run(evaluate.main, *argv))


def test_maps_of_features_that_do_not_fit_are_refused_before_they_are_computed(trained, tmp_path, monkeypatch):
    """16 + 16 videos of 8 tokens of 24 channels, as extracted and standardized: 48 KiB."""
    monkeypatch.setattr(probes.fit, "host_bytes", lambda: 40_000)
    caches = [f"--config.{split}.cache={trained[1]}" for split in ("train", "test")]
    probing = f"--config={CONFIGS / 'eval' / 'probes.py'}:smoke"
    argv = (probing, *caches, f"--config.checkpoint={trained[0]}", "--config.protocols=attentive", f"--workdir={tmp_path}")
    line = error_line(run(evaluate.main, *argv))
    assert "keeps the feature maps of 32 videos in memory" in line and "leave 'attentive' out" in line
