"""Folders of weights as Hugging Face writes them: config.json, a processor's settings and safetensors files.

The one idea: this file knows files, interop/videomae.py knows names. Neither needs torch or transformers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop.pixels import PIXELS, PREPROCESSOR, PROCESSORS, folded

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"


def is_huggingface(path: str | Path) -> bool:
    """Whether `path` is a .safetensors file or a folder that holds one."""
    path = Path(path)
    return path.suffix == ".safetensors" or (path / WEIGHTS).is_file() or (path / INDEX).is_file()


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by name, config) of a folder or of a .safetensors file with its config.json beside it. The config has `image_mean` and
    `image_std` too, of RGB in [0, 1], where the file of a processor gives them (interop/pixels.py). Raises UserError where a file is missing or broken.
    """
    path = Path(path)
    folder = path.parent if path.suffix == ".safetensors" else path
    config = _read_json(folder / CONFIG)
    if processor := next((folder / name for name in PROCESSORS if (folder / name).is_file()), None):
        config |= folded(_read_json(processor), config.get("model_type", ""))
    if path.suffix == ".safetensors":
        files = [path]
    elif (path / INDEX).is_file():
        files = [path / name for name in sorted(set(_read_json(path / INDEX)["weight_map"].values()))]
    else:
        files = [path / WEIGHTS]
    state: dict[str, np.ndarray] = {}
    for file in files:
        state |= read_tensors(file)
    return state, config


def write(path: str | Path, state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Writes a folder that transformers' from_pretrained reads; for a path that ends in .safetensors, that file with config.json beside
    it.
    """
    from safetensors.numpy import save_file

    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / WEIGHTS
    file.parent.mkdir(parents=True, exist_ok=True)
    # Contiguous copies: safetensors writes the memory of an array as it lies, a transposed view would come back scrambled.
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in state.items()}, file, metadata={"format": "pt"})
    preprocessor = {"image_processor_type": "VideoMAEImageProcessor", "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    preprocessor |= {key: config[key] for key in PIXELS if key in config}
    if "image_size" in config:
        side = config["image_size"]
        preprocessor |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    files = {CONFIG: {k: v for k, v in config.items() if k not in PIXELS}} | ({PREPROCESSOR: preprocessor} if PIXELS[0] in config else {})
    for name, values in files.items():
        (file.parent / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the weights need it, it gives the sizes of the model") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): download it again") from None


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one .safetensors file by name. Raises UserError where it is missing or broken."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: download it, or give another source") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a complete safetensors file ({error}): download it again") from None
