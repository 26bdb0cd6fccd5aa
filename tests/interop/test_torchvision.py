"""torchvision's video networks in and out, without torch: names against a golden list, round trips, and what is refused."""

import functools

import numpy as np
import pytest

from tests.interop import make_golden
from tests.models import cnn3d
from tests.train import tiny
from vssl_jax import convert, models
from vssl_jax.errors import UserError
from vssl_jax.evals import classifier
from vssl_jax.interop import tensors, torchvision
from vssl_jax.train import checkpoint

CLASSES = 5


WIDTHS = {"s3d": 1024}  # of the pooled features, where they are not 512


@functools.cache
def parts_of(name, classes=CLASSES):
    """Random parts, and the meta that they stand in an export with."""
    params, stats = cnn3d.drawn(models.build(torchvision.MODELS[name]))
    parts, width = {"encoder": params, "stats": stats}, WIDTHS.get(name, 512)
    if classes:
        linear = {
            "kernel": np.arange(width * classes, dtype=np.float32).reshape(width, classes),
            "bias": np.arange(classes, dtype=np.float32),
        }
        parts["head"] = {"linear": linear}
    return parts, {"model": torchvision.MODELS[name]}


@functools.cache
def exported(name):
    """(the state of these parts under torchvision's names, its name of the network)."""
    return torchvision.to_torchvision(*parts_of(name))


@pytest.mark.parametrize("name", torchvision.MODELS)
def test_what_is_exported_has_torchvision_s_names_and_comes_back_bit_for_bit(name):
    parts, _ = parts_of(name)
    state, found = exported(name)
    assert found == name
    assert sorted(state) == (make_golden.GOLDEN / f"{name}.txt").read_text().split()
    assert {x.dtype for key, x in state.items() if key.endswith("num_batches_tracked")} == {np.dtype("int64")}
    again, meta_again = torchvision.from_torchvision(state)
    tiny.assert_same_bits(again, parts)
    assert torchvision.name_of(meta_again) == name and meta_again["classes"] == CLASSES
    assert meta_again["model"]["momentum"] == 0.999 if name == "s3d" else "momentum" not in meta_again["model"]


def test_axes_of_kernels():
    """torch's [outputs, inputs, time, rows, columns]; the classifier of s3d is a 1x1x1 convolution."""
    (parts, _), (state, _) = parts_of("s3d"), exported("s3d")
    stem = parts["encoder"]["stem"]["spatial"]["conv"]["kernel"]
    assert stem.shape == (1, 7, 7, 3, 64) and state["features.0.0.0.weight"].shape == (64, 3, 1, 7, 7)
    assert state["features.0.0.0.weight"][9, 2, 0, 3, 5] == stem[0, 3, 5, 2, 9]
    assert state["classifier.1.weight"].shape == (CLASSES, 1024, 1, 1, 1)
    assert state["classifier.1.weight"][3, 77, 0, 0, 0] == parts["head"]["linear"]["kernel"][77, 3]


def test_convert_there_and_back_and_the_classifier_is_whole(tmp_path):
    (parts, _), (state, _) = parts_of("mc3_18"), exported("mc3_18")
    torchvision.write(tmp_path / "source.safetensors", state)
    assert convert.main([f"--source={tmp_path / 'source.safetensors'}", f"--target={tmp_path / 'export'}"]) == 0
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={tmp_path / 'back.safetensors'}"]) == 0
    tiny.assert_same_bits(tensors.read(tmp_path / "back.safetensors"), state)
    kept, _ = checkpoint.load_export(tmp_path / "export")
    assert set(kept) == {"encoder", "stats", "method/head"}
    loaded = classifier.load(tmp_path / "export", {"short_side": 0, "crops": 1})
    assert loaded.objective.classes == CLASSES
    tiny.assert_same_bits((loaded.params["head"], loaded.memory["stats"]), (parts["head"], parts["stats"]))


def test_a_backbone_goes_alone_where_a_method_has_no_classifier():
    parts, meta = parts_of("mc3_18", classes=0)
    kept = convert.torchvision_of_export({"encoder": parts["encoder"], "stats": parts["stats"], "method/projector": {"x": np.zeros(3)}})
    state, _ = torchvision.to_torchvision(kept, meta)
    assert not any(key.startswith("fc") for key in state)
    again, meta_again = torchvision.from_torchvision(state)
    tiny.assert_same_bits(again, parts)
    assert "classes" not in meta_again


def test_every_missing_extra_and_misshapen_key_is_listed():
    state = {key: value for key, value in exported("mc3_18")[0].items() if key != "layer1.0.conv1.1.running_var"}
    state |= {"layer9.weight": np.zeros(2, np.float32), "fc.bias": np.zeros(3, np.float32)}
    with pytest.raises(UserError) as error:
        torchvision.from_torchvision(state)
    message = str(error.value)
    assert message.startswith("the checkpoint of torchvision's mc3_18") and "\n" not in message
    assert "missing: layer1.0.conv1.1.running_var" in message and "unexpected: layer9.weight" in message
    assert "of another shape: fc.bias (3,), not (5,)" in message


def test_other_networks_are_refused():
    with pytest.raises(UserError, match="none of torchvision's r3d_18, mc3_18, r2plus1d_18, s3d"):
        torchvision.from_torchvision({"conv1.weight": np.zeros(3)})
    for model in ({"name": "r3d10_vcop"}, {"name": "s3d_g"}, {"name": "r3d18", "width": 8}, {"name": "r3d18", "last_time_stride": 1}):
        with pytest.raises(UserError, match="torchvision has no"):
            torchvision.to_torchvision({}, {"model": model})


def test_a_clear_line_where_torch_is_missing_or_the_target_is_a_folder(tmp_path, without_torch, capsys):
    assert convert.main([f"--source={tmp_path / 'r3d_18.pth'}", f"--target={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err
    assert "torch is not installed" in error and ".safetensors" in error and error.count("\n") == 1
    with pytest.raises(UserError, match="torchvision's weights are one file"):
        torchvision.write(tmp_path / "folder", {})
