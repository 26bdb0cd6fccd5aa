"""Weights out of a run and into the next one."""

import logging
import shutil

import jax
import numpy as np
import pytest

from tests.commands import CONFIGS, NOISE, SMOKE, TINY, error_line, run
from tests.train.processes import Run
from vssl_jax import export, main
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import Objective
from vssl_jax.objectives.videomae import VideoMAE
from vssl_jax.train import fit
from vssl_jax.train.checkpoint import load_export, save_export
from vssl_jax.train.metrics import read_metrics

VIT = {"name": "vit", "width": 8, "depth": 1, "heads": 2, "frames": 4, "size": 16}
FINETUNE = (
    f"--config={CONFIGS / 'finetune_vitb.py'}:smoke", NOISE, "--config.model.depth=1", "--config.train.steps=1",
    "--config.optimizer.warmup_steps=0", "--config.train.validate_every=0", "--config.eval.protocols=",
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The workdir of a tiny run. Not to be changed."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    done = run(main.main, *TINY, f"--workdir={workdir}")
    assert done.code == 0, done.err
    return workdir


def still(workdir, *argv):
    """A run of one step at rate zero: what it exports is what it began with."""
    return run(main.main, *argv, "--config.optimizer.learning_rate=0", "--config.optimizer.warmup_steps=0", f"--workdir={workdir}")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def tuned(pretrained, tmp_path_factory):
    """The workdir of a fine-tuning that stood still. Not to be changed."""
    workdir = tmp_path_factory.mktemp("tuned") / "run"
    done = still(workdir, *FINETUNE, f"--config.initial.checkpoint={pretrained}")
    assert done.code == 0, done.err
    return workdir


def test_fine_tuning_begins_with_the_encoder_less_its_norm(pretrained, tuned):
    before, after = load_export(pretrained)[0], load_export(tuned)[0]
    assert set(after) == {"encoder", "method/head"}
    same(after["encoder"], {name: value for name, value in before["encoder"].items() if name != "norm"})


def test_pretraining_goes_on_with_all_its_parts(pretrained, tmp_path):
    named = f"--config.initial.checkpoint={pretrained / 'export'}"
    done = still(tmp_path / "all", *TINY, "--config.train.steps=1", named, "--config.initial.parts=encoder,decoder")
    assert done.code == 0, done.err
    same(load_export(tmp_path / "all")[0], load_export(pretrained)[0])
    done = still(tmp_path / "one", *TINY, "--config.train.steps=1", "--config.seed=1", named)
    assert done.code == 0, done.err
    one, whole = load_export(tmp_path / "one")[0], load_export(pretrained)[0]
    same(one["encoder"], whole["encoder"])
    assert np.abs(one["method/decoder"]["head"]["kernel"] - whole["method/decoder"]["head"]["kernel"]).max() > 0


def test_a_run_that_goes_on_does_not_need_what_it_began_with(tuned, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(tuned, workdir)
    done = still(workdir, *FINETUNE, "--config.train.steps=2", "--config.initial.checkpoint=/gone")
    assert done.code == 0, done.err
    assert [line["step"] for line in read_metrics(workdir)] == [1, 2]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.initial.checkpoint=/gone", "no export"),
        ("--config.initial.parts=encoder,projector", "names projector, but"),
        ("--config.initial.drop=norm,cls_token", "initial.drop names cls_token, which"),
        ("--config.initial.drop=", "is of another model"),
        pytest.param("--config.model.width=16", "is of another model", marks=pytest.mark.slow),
        ("--config.objective.classes=5", "objective.classes is 5, but the data have"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(pretrained, tmp_path, argument, says):
    done = run(main.main, *FINETUNE, f"--config.initial.checkpoint={pretrained}", argument, f"--workdir={tmp_path / 'run'}")
    assert says in error_line(done, before=("compiling ", "starting from ", "the weights of", "train.steps="))


def test_a_model_that_only_means_something_else_is_warned_of(tmp_path, caplog):
    params = {"patch_embed": {"kernel": np.zeros((2, 2), np.float32)}, "norm": {"scale": np.ones(2, np.float32)}}
    save_export(tmp_path / "export", {"encoder": params, "stats": {"mean": np.ones(3, np.float32)}}, {"model": VIT})
    given = {"checkpoint": str(tmp_path), "parts": ("encoder",), "drop": ("norm",)}
    with caplog.at_level(logging.WARNING):
        parts, memory = export.initial(given, VIT | {"drop_path": 0.1, "final_norm": False, "dtype": "bfloat16", "remat": "full"})
    assert "another" not in caplog.text, "how it is computed is nobody's business"
    assert set(parts["encoder"]) == {"patch_embed"} and set(memory) == {"stats"}
    with caplog.at_level(logging.WARNING):
        export.initial(given, VIT | {"frames": 8, "pixel_std": (0.1, 0.1, 0.1)})
    assert [r.getMessage().partition(" another ")[2] for r in caplog.records if "another" in r.getMessage()] == [
        "frames: 4 -> 8", "pixel_std: (0.229, 0.224, 0.225) -> (0.1, 0.1, 0.1)",
    ]  # fmt: skip


def test_a_method_without_a_backbone_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoMAE, "backbone", Objective.backbone)
    monkeypatch.setattr(fit, "check", lambda *_: pytest.fail("compiled"))
    said = error_line(run(main.main, *TINY, f"--workdir={tmp_path / 'run'}"))
    assert "VideoMAE has no backbone for the features video, which are exported after the last step: give it backbone(" in said
    assert not (tmp_path / "run").exists()


def test_nothing_is_loaded_where_nothing_is_named():
    assert export.initial({"checkpoint": "", "parts": ("encoder",), "drop": ("norm",)}, VIT) == ({}, {})


def test_a_part_that_is_not_there_is_named(tmp_path):
    save_export(tmp_path / "export", {"encoder": {"x": np.zeros(2, np.float32)}}, {"model": VIT})
    with pytest.raises(UserError, match=r"names decoder, but .* has encoder"):
        export.initial({"checkpoint": str(tmp_path), "parts": ("encoder", "decoder"), "drop": ()}, VIT)


def test_parts_and_what_is_left_out_of_them_must_agree(tmp_path):
    save_export(tmp_path / "export", {"encoder": {"x": np.zeros(2, np.float32)}}, {"model": VIT})
    with pytest.raises(UserError, match=r"initial\.parts is empty"):
        export.initial({"checkpoint": str(tmp_path), "parts": (), "drop": ()}, VIT)
    with pytest.raises(UserError, match=r"initial\.drop leaves parameters out of the encoder, which"):
        export.initial({"checkpoint": str(tmp_path), "parts": ("decoder",), "drop": ("norm",)}, VIT)


def test_a_run_says_what_it_starts_from(tmp_path, caplog):
    export.initial({"checkpoint": "", "parts": ("encoder",), "drop": ("norm",)}, VIT)
    assert "training starts from random weights" in caplog.text
    save_export(tmp_path / "export", {"encoder": {"x": np.zeros(2, np.float32), "norm": np.ones(2)}}, {"model": VIT})
    export.initial({"checkpoint": str(tmp_path), "parts": ("encoder",), "drop": ("norm",)}, VIT)
    assert f"starting from encoder of {tmp_path} (without norm)" in caplog.text


@pytest.mark.slow
def test_weights_are_given_to_a_run_whose_processes_hold_but_shards(pretrained, tmp_path):
    """Two processes of four devices; the decoder's head, which is not given, is spread over all eight."""
    settings = (
        *TINY[1:], f"--config.initial.checkpoint={pretrained}", "--config.train.steps=1", "--config.optimizer.learning_rate=0",
        "--config.optimizer.warmup_steps=0", "--config.objective.decoder.width=48", "--config.mesh.data=1", "--config.mesh.fsdp=8",
    )  # fmt: skip
    with Run(tmp_path / "run", tmp_path / "xla", *settings, count=2, recipe=SMOKE.partition("=")[2]) as both:
        assert both.wait() == [0, 0], both.output()
    assert "decoder/head/kernel" in both.output() and "-,fsdp" in both.output()
    same(load_export(tmp_path / "run")[0]["encoder"], load_export(pretrained)[0]["encoder"])
