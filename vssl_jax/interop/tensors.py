"""Files of tensors by name: safetensors, and torch's own (.pth, .pt, .bin), for which alone torch is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vssl_jax.errors import UserError

TORCH = (".pth", ".pt", ".bin")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name. Raises UserError where it is missing, broken or holds something else, or needs torch, which is not there."""
    path = Path(path)
    load = _load_torch if path.suffix in TORCH else _load_safetensors
    try:
        return load(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: download it, or give another source") from None


def write(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a file that torch and safetensors load by the same names; its folder is made. Raises UserError where torch is needed and not there."""
    from safetensors.numpy import save_file

    path = Path(path)
    # Contiguous: safetensors writes the memory of an array as it lies, a transposed view would come back scrambled. Copies: torch asks for memory
    # that it may write.
    state = {name: np.array(tensor, order="C") for name, tensor in state.items()}
    torch = _torch(f"to write {path}") if path.suffix in TORCH else None
    path.parent.mkdir(parents=True, exist_ok=True)
    if torch is None:
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, path)


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a complete safetensors file ({error}): download it again") from None


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _torch(f"to read {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # of many kinds: whatever its bytes are taken for
        raise UserError(f"{path} is no state_dict of torch ({type(error).__name__}): save model.state_dict()") from error
    _check_flat(state, path, torch.Tensor)
    # numpy has no bfloat16
    state = {name: (x.float() if x.is_floating_point() else x).detach().numpy() for name, x in state.items()}
    wrapped = all(name.startswith("module.") for name in state)  # as torch's DistributedDataParallel names them
    return {name.removeprefix("module."): x for name, x in state.items()} if wrapped else state


def _check_flat(state: Any, path: Path, tensor: type) -> None:
    """Raises UserError for what is not tensors by name, such as a training's checkpoint that has them under one of its keys."""
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds a {type(state).__name__}, not tensors by name: save model.state_dict()")
    if others := [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, tensor))]:
        keys = ", ".join(str(key) for key in list(state)[:8])
        inner = next((str(key) for key, value in state.items() if isinstance(value, Mapping)), None)
        what = "model.state_dict()" if inner is None else f"torch.load({path.name!r})[{inner!r}]"
        raise UserError(f"{path} holds {keys}, of which {others[0]} is no tensor: save {what} alone")


def _torch(why: str) -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError(f"torch is not installed, and is needed {why}: pip install torch, or use a .safetensors file") from None
    return torch
