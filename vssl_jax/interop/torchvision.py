"""torchvision's video networks r3d_18, mc3_18, r2plus1d_18 and s3d between this code and torch, both ways, bit for bit.

The one idea: their names are a rewriting of our paths, so one list of rewriting rules per family serves both directions, and what either side
must hold is derived from our own model by eval_shape. Which network a file holds is seen in its names and shapes: there is no config.json.

Of each batch normalization torch also keeps `num_batches_tracked`, which nothing reads while `momentum` is a number: it is dropped on the way
in and 0 on the way out. torchvision's s3d trains its head behind a dropout of .2, which is no weight; the head here has none.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop import tensors
from vssl_jax.interop.compare import compare
from vssl_jax.models import backbone, build
from vssl_jax.models.inception3d import BLOCKS, Inception3D
from vssl_jax.models.resnet3d import ResNet3D
from vssl_jax.objectives.protocol import ENCODER, STATS

State = dict[str, np.ndarray]
Parts = dict[str, Any]
HEAD = "head"
SUFFIXES = (".pth", ".pt")
TRACKED = "num_batches_tracked"

# torchvision's name -> ours, and the fields that are not our defaults: its s3d keeps .999 of the running statistics.
MODELS: dict[str, dict[str, Any]] = {
    "r3d_18": {"name": "r3d18"},
    "mc3_18": {"name": "mc3_18"},
    "r2plus1d_18": {"name": "r2plus1d18"},
    "s3d": {"name": "s3d", "momentum": 0.999},
}
# What two networks of one class may differ in.
_STRUCTURE = ("kinds", "layers", "stem", "per_conv", "width", "separable", "gated", "last_time_stride", "last_time_dilation")
# our leaf -> theirs
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# Rewriting rules of whole module paths, first match wins. `stem_norm` stands behind the last convolution of the stem, so it has two places.
_RESNET = (
    (r"stem(/spatial/conv)?", "stem.0"),
    (r"stem/spatial/norm", "stem.1"),
    (r"stem/temporal", "stem.3"),
    (r"stage(\d)_block(\d+)/conv(\d)", r"layer\1.\2.conv\3.0"),
    (r"stage(\d)_block(\d+)/conv(\d)/spatial/conv", r"layer\1.\2.conv\3.0.0"),
    (r"stage(\d)_block(\d+)/conv(\d)/spatial/norm", r"layer\1.\2.conv\3.0.1"),
    (r"stage(\d)_block(\d+)/conv(\d)/temporal", r"layer\1.\2.conv\3.0.3"),
    (r"stage(\d)_block(\d+)/norm(\d)", r"layer\1.\2.conv\3.1"),
    (r"stage(\d)_block(\d+)/shortcut", r"layer\1.\2.downsample.0"),
    (r"stage(\d)_block(\d+)/shortcut_norm", r"layer\1.\2.downsample.1"),
    (r"head/linear", "fc"),
)
_SEPARABLE = {"spatial": "0", "temporal": "1"}
_CONV = {"conv": "0", "norm": "1"}
# Where our modules stand in torchvision's `features`, which counts max pools too (1, 4, 7, 13).
_FEATURES = {"stem": 0, "conv2": 2, "conv3": 3} | dict(zip(BLOCKS, (5, 6, 8, 9, 10, 11, 12, 14, 15), strict=True))
_BRANCHES = {"branch0": "branch0", "reduce1": "branch1.0", "branch1": "branch1.1", "reduce2": "branch2.0", "branch2": "branch2.1"} | {
    "branch3": "branch3.1"  # behind its max pool
}


def is_torchvision(path: str | Path) -> bool:
    """Whether `path` is a file of torch (.pth, .pt), or a .safetensors file with the names of torchvision's networks."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix in SUFFIXES:
        return True
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "np") as file:
            return _name_of_stem(file.keys()) is not None
    except SafetensorError:
        return False


def _name_of_stem(names) -> str | None:
    return next((name for name in ("stem.0.weight", "features.0.0.0.weight") if name in names), None)


def write(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict that torchvision's load_state_dict takes, as .safetensors (torch is not needed), .pth or .pt. Raises UserError for
    another target, or where torch is needed and not there.
    """
    if Path(path).suffix not in (".safetensors", *SUFFIXES):
        raise UserError(f"torchvision's weights are one file: let the target {path} end in .safetensors or .pth")
    tensors.write(path, state)


def from_torchvision(state: Mapping[str, np.ndarray]) -> tuple[Parts, dict[str, Any]]:
    """(parts, meta) of a state dict: float32 {"encoder", "stats"} and, where it has a classifier, {"head"} (a LinearHead).

    Raises:
        UserError: it is none of the four networks, or a tensor is missing, unexpected or of another shape (all are listed).
    """
    state = {name: np.asarray(tensor) for name, tensor in state.items() if not name.endswith(f".{TRACKED}")}
    name = _recognize(state)
    head = "classifier.1" if name == "s3d" else "fc"
    classes = state[f"{head}.weight"].shape[0] if f"{head}.weight" in state else 0
    module = build(MODELS[name])
    model = MODELS[name] | {key: getattr(module, key) for key in ("frames", "size")}
    model |= {key: list(getattr(module, key)) for key in ("pixel_mean", "pixel_std")}
    template = _template(module, classes)
    expected = {theirs: shape for theirs, shape, _ in _entries(template, module).values()}
    compare({k: tuple(x.shape) for k, x in state.items()}, expected, f"the checkpoint of torchvision's {name}")
    flat = {
        path: np.ascontiguousarray(pack(state[theirs]), np.float32) for path, (theirs, _, (pack, _)) in _entries(template, module).items()
    }
    meta: dict[str, Any] = {"model": model}
    if classes:
        meta |= {"classes": classes, "class_names": []}
        meta["config"] = {"objective": {"name": "classify", "classes": classes, "head": {"name": "linear"}}}
    return flax.traverse_util.unflatten_dict(flat, sep="/"), meta


def to_torchvision(parts: Parts, meta: Mapping[str, Any]) -> tuple[State, str]:
    """(state, torchvision's name of the network) that load_state_dict(strict=True) takes; without a part "head" there is no classifier.

    Raises:
        UserError: the model of `meta` is not one of the four networks, or `parts` is not what it holds.
    """
    name = name_of(meta)
    if name is None:
        raise UserError(f"torchvision has no {meta['model']['name']} of this structure: it has {', '.join(MODELS)}")
    module = build(meta["model"])
    flat = flax.traverse_util.flatten_dict(dict(parts), sep="/")
    classes = parts[HEAD]["linear"]["bias"].shape[0] if HEAD in parts else 0
    template = _template(module, classes)
    compare({k: tuple(x.shape) for k, x in flat.items()}, {k: x.shape for k, x in template.items()}, "the export")
    state: State = {}
    for path, (theirs, _, (_, unpack)) in _entries(template, module).items():
        state[theirs] = np.asarray(unpack(flat[path]), np.float32)
        if theirs.endswith(".running_var"):
            state[theirs.replace("running_var", TRACKED)] = np.zeros((), np.int64)
    return state, name


def name_of(meta: Mapping[str, Any]) -> str | None:
    """torchvision's name of the network of an export; None where it has none of this structure."""
    if "model" not in meta:
        return None
    model = build(meta["model"])
    for name, fields in MODELS.items():
        known = build(fields)
        if type(known) is type(model) and all(getattr(known, k, None) == getattr(model, k, None) for k in _STRUCTURE):
            return name
    return None


def _recognize(state: Mapping[str, np.ndarray]) -> str:
    """Which of MODELS a state dict is of."""
    stem = _name_of_stem(state)
    if stem == "features.0.0.0.weight":
        return "s3d"
    if stem is None:
        raise UserError(
            f"the checkpoint is none of torchvision's {', '.join(MODELS)}: it has no stem.0.weight and no features.0.0.0.weight (weights of "
            "Hugging Face are read from a folder that has their config.json too)"
        )
    if "stem.3.weight" in state:
        return "r2plus1d_18"
    second = state.get("layer2.0.conv1.0.weight")
    return "mc3_18" if second is not None and second.shape[2:] == (1, 3, 3) else "r3d_18"


def _template(module, classes: int) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape} of all parts, from the model itself."""
    clip = jax.ShapeDtypeStruct((1, module.frames, module.size, module.size, 3), np.float32)
    features, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x), clip)
    flat = flax.traverse_util.flatten_dict({ENCODER: variables["params"], STATS: variables[backbone.STATS]}, sep="/")
    if classes:
        flat[f"{HEAD}/linear/kernel"] = jax.ShapeDtypeStruct((features.pooled_BxD.shape[-1], classes), np.float32)
        flat[f"{HEAD}/linear/bias"] = jax.ShapeDtypeStruct((classes,), np.float32)
    return flat


def _entries(template: Mapping[str, jax.ShapeDtypeStruct], module) -> dict[str, tuple]:
    """{our path: (their name, their shape, (pack, unpack))}; `pack` makes our array of theirs, `unpack` is its inverse."""
    out = {}
    for path, leaf in template.items():
        module_path, ours = path.rsplit("/", 1)
        module_path = module_path.removeprefix(f"{ENCODER}/").removeprefix(f"{STATS}/")
        theirs = f"{_translate(module_path, module)}.{_LEAVES[ours]}"
        shape = tuple(leaf.shape)
        if ours != "kernel":
            out[path] = theirs, shape, (lambda x: x, lambda x: x)
        elif module_path.startswith(HEAD) and isinstance(module, Inception3D):
            # a 1x1x1 convolution [classes, D, 1, 1, 1]
            out[path] = theirs, (*shape[::-1], 1, 1, 1), (lambda x: x[:, :, 0, 0, 0].T, lambda x: x.T[:, :, None, None, None])
        elif module_path.startswith(HEAD):
            out[path] = theirs, shape[::-1], (lambda x: x.T, lambda x: x.T)
        else:
            # torch's [O, C, t, h, w], ours [t, h, w, C, O]
            out[path] = (
                theirs,
                (shape[4], shape[3], *shape[:3]),
                (lambda x: x.transpose(2, 3, 4, 1, 0), lambda x: x.transpose(4, 3, 0, 1, 2)),
            )
    return out


def _translate(path: str, module) -> str:
    """Their name of the module at our `path`."""
    if isinstance(module, ResNet3D):
        rules = ((r"stem_norm", "stem.4" if module.stem == "2+1d" else "stem.1"), *_RESNET)
        return next(re.sub(pattern, name, path) for pattern, name in rules if re.fullmatch(pattern, path))
    if path.startswith(HEAD):
        return "classifier.1"
    first, *rest = path.split("/")
    names = _BRANCHES | _SEPARABLE | _CONV
    return ".".join(["features", str(_FEATURES[first]), *(names[part] for part in rest)])
