"""Files of tensors by name: which of a folder's are read, and (parity) what torch itself saves."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.interop import make_golden
from tests.train import tiny
from vssl_jax import convert
from vssl_jax.errors import UserError
from vssl_jax.interop import huggingface, tensors

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32), "steps": np.asarray(7, np.int64)}
OLD = {name: np.asarray(value + 1) for name, value in STATE.items()}


def folder(path, state=STATE, model_type="videomae"):
    huggingface.write(path, state, {"model_type": model_type})
    return path


def sharded(path, state=STATE):
    """A folder of two files of weights and their index, and no model.safetensors."""
    folder(path)
    (path / "model.safetensors").unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        save_file({name: state[name] for name in files if files[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return path


def test_weights_in_several_files_are_read_by_their_folder_and_by_their_index(tmp_path):
    tiny.assert_same_bits(huggingface.read(sharded(tmp_path))[0], STATE)
    assert huggingface.is_huggingface(tmp_path / "model.safetensors.index.json")
    tiny.assert_same_bits(huggingface.read(tmp_path / "model.safetensors.index.json")[0], STATE)


def test_one_file_goes_before_an_index_as_in_transformers(tmp_path):
    sharded(tmp_path, OLD)
    save_file(STATE, tmp_path / "model.safetensors")
    tiny.assert_same_bits(huggingface.read(tmp_path)[0], STATE)
    tiny.assert_same_bits(huggingface.read(tmp_path / "model.safetensors.index.json")[0], OLD)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "[1]", "config.json is no JSON object"),
        ("preprocessor_config.json", "3", "preprocessor_config.json is no JSON object"),
        ("model.safetensors.index.json", "{}", "which files the weights are in"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors is missing"),
    ],
)
def test_files_that_are_not_what_they_are_named_for_are_refused_in_one_line(file, text, message, tmp_path, capsys):
    (sharded(tmp_path / "source") / file).write_text(text)
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_folder_of_transformers_without_weights_is_no_run(tmp_path, capsys):
    (folder(tmp_path / "source") / "model.safetensors").unlink()
    assert convert.main([f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'out'}"]) == 1
    assert "holds no model.safetensors and no pytorch_model.bin" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "pytorch_model.bin"])
def test_torchs_files_ask_for_torch_where_it_is_not(name, tmp_path, capsys, without_torch):
    source = folder(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert convert.main([f"--source={source / name}", f"--target={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err
    assert "torch is not installed" in error and "pytorch_model.bin" in error and error.count("\n") == 1


def by_torch(path, state):
    torch = pytest.importorskip("torch")
    torch.save(
        state if not isinstance(state, dict) else {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in state.items()}, path
    )
    return path


@pytest.mark.parity
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "pytorch_model.bin"])
def test_torchs_files_hold_the_same_tensors(name, tmp_path):
    tiny.assert_same_bits(tensors.read(by_torch(tmp_path / name, STATE)), STATE)
    tiny.assert_same_bits(tensors.read(by_torch(tmp_path / name, {f"module.{key}": value for key, value in STATE.items()})), STATE)
    tensors.write(tmp_path / name, STATE)
    tiny.assert_same_bits(tensors.read(tmp_path / name), STATE)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_floats_of_any_size_are_read(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    half = {name: torch.tensor(value).to(getattr(torch, dtype)) if value.ndim else torch.tensor(value) for name, value in STATE.items()}
    torch.save(half, tmp_path / "weights.pth")
    read = tensors.read(tmp_path / "weights.pth")
    tiny.assert_same_bits(read, STATE)
    assert read["steps"].dtype == np.int64


@pytest.mark.parity
@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda torch: {"model": {"a": torch.ones(2)}, "epoch": 3}, r"holds model, epoch, of which model is .*: save torch.load\('x.pth'\)\['model'\] alone"),
        (lambda torch: {"a": torch.ones(2), "epoch": 3}, r"holds a, epoch, of which epoch is no tensor: save model.state_dict\(\) alone"),
        (lambda torch: [torch.ones(2)], "holds a list, not tensors by name"),
        (lambda torch: torch.nn.Linear(2, 2), r"is no state_dict of torch \(UnpicklingError\)"),
    ],
    ids=["a training's checkpoint", "a number among tensors", "a list", "a module"],
)  # fmt: skip
def test_what_is_not_tensors_by_name_is_refused_with_what_to_save(state, message, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(state(torch), tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as error:
        tensors.read(tmp_path / "x.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["", "pytorch_model.bin"])
def test_a_folder_with_pytorch_model_bin_converts(name, tmp_path, capsys):
    golden = make_golden.load("classification")
    state = make_golden.weights(golden.shapes)
    source = tmp_path / "source"
    huggingface.write(source, state, golden.config)
    (source / "model.safetensors").unlink()
    by_torch(source / "pytorch_model.bin", state)
    assert convert.main([f"--source={source / name}", f"--target={tmp_path / 'export'}"]) == 0
    assert convert.main([f"--source={tmp_path / 'export'}", f"--target={tmp_path / 'back'}"]) == 0
    tiny.assert_same_bits(huggingface.read(tmp_path / "back")[0], state)
    by_torch(tmp_path / "videomae.pth", state)
    assert convert.main([f"--source={tmp_path / 'videomae.pth'}", f"--target={tmp_path / 'other'}"]) == 1
    assert "read from a folder that has their config.json" in capsys.readouterr().err
