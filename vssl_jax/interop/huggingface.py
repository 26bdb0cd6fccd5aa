"""Folders of weights as Hugging Face writes them: config.json, a processor's settings, and weights as safetensors or as torch saves them.

The one idea: this file knows files, interop/videomae.py knows names. Neither needs transformers, and safetensors need no torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop import tensors
from vssl_jax.interop.pixels import PIXELS, PREPROCESSOR, PROCESSORS, folded

WEIGHTS = "model.safetensors"
_INDEX = ".index.json"  # what names the files that weights are spread over ends in this
# A folder's weights, in the order in which transformers looks for them.
SOURCES = (WEIGHTS, WEIGHTS + _INDEX, "pytorch_model.bin", "pytorch_model.bin" + _INDEX)
CONFIG = "config.json"
_RUN = ("checkpoints", "metrics.jsonl", "export", "meta.json")  # what a run's folder holds, or an export


def is_huggingface(path: str | Path) -> bool:
    """Whether `path` is a file of weights (.safetensors, .bin, or an index of them), or a folder that holds one or the config.json of one."""
    path = Path(path)
    if path.name.endswith((".safetensors", ".bin", _INDEX)):
        return True
    return any((path / name).is_file() for name in SOURCES) or _model_type(path) is not None


def _model_type(folder: Path) -> str | None:
    """What the config.json of a folder says of a model of transformers; None where there is none that does."""
    try:
        return _read_json(folder / CONFIG).get("model_type")
    except (UserError, OSError):
        return None


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by name, config) of a folder or of a file of weights with its config.json beside it. The config has `image_mean` and
    `image_std` too, of RGB in [0, 1], where the file of a processor gives them (interop/pixels.py). Raises UserError where a file is missing or broken.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / CONFIG)
    if processor := next((folder / name for name in PROCESSORS if (folder / name).is_file()), None):
        config |= folded(_read_json(processor), config.get("model_type", ""))
    file = next((path / name for name in SOURCES if (path / name).is_file()), None) if path.is_dir() else path
    if file is None:
        raise UserError(f"{path} holds no {WEIGHTS} and no pytorch_model.bin: download one of them, or save the model by save_pretrained")
    state: dict[str, np.ndarray] = {}
    for part in _files(file):
        state |= tensors.read(part)
    return state, config


def _files(file: Path) -> list[Path]:
    """The file of weights, or those that an index names."""
    if not file.name.endswith(_INDEX):
        return [file]
    names = _read_json(file).get("weight_map")
    if not isinstance(names, dict):
        raise UserError(f"{file} does not say which files the weights are in (weight_map): download it again")
    return [file.parent / name for name in sorted(set(map(str, names.values())))]


def write(path: str | Path, state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Writes a folder that transformers' from_pretrained reads; for a path that ends in .safetensors, that file with config.json beside
    it. What such a folder held of the same names is replaced. Raises UserError, and writes nothing, where the folder is a run's, an export or of other
    weights.
    """
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / WEIGHTS
    _check_place(file)
    tensors.write(file, state)
    preprocessor = {"image_processor_type": "VideoMAEImageProcessor", "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    preprocessor |= {key: config[key] for key in PIXELS if key in config}
    if "image_size" in config:
        side = config["image_size"]
        preprocessor |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    files = {CONFIG: {k: v for k, v in config.items() if k not in PIXELS}} | ({PREPROCESSOR: preprocessor} if PIXELS[0] in config else {})
    for name, values in files.items():
        (file.parent / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _check_place(file: Path) -> None:
    """Raises UserError where a config.json beside `file` would take another's place, or be read with what is there."""
    names = {entry.name for entry in file.parent.iterdir()} - {file.name} if file.parent.is_dir() else set()
    others = [name for name in names if name.endswith((".safetensors", ".bin", _INDEX))] + [
        name for name in (*_RUN, PROCESSORS[0]) if name in names
    ]
    if CONFIG in names and _model_type(file.parent) is None:
        others.append(f"a {CONFIG} without model_type")
    if others:
        raise UserError(
            f"{file.parent} holds {', '.join(sorted(others)[:3])}, which these weights do not belong to: name an empty or new folder"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the weights need it, it gives the sizes of the model") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): download it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is no JSON object: download it again")
    return values
