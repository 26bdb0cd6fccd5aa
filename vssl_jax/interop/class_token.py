"""TimeSformer's and ViViT's weights between this code and Hugging Face, both ways, bit for bit.

The one idea: as in interop/videomae.py, one list of rules for both directions, and shapes derived from the models themselves.

Known are transformers' TimesformerForVideoClassification (divided attention) and VivitForVideoClassification, which is ViViT's model 1
(joint attention): parts {"encoder", "head"}, the head a LinearHead on the class token. The names of ViViT are those that transformers 5 has in
memory and writes, and those of released checkpoints, which it renames.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop.compare import compare
from vssl_jax.interop.pixels import statistics
from vssl_jax.interop.rules import Rule, linear_rules, norm_rules, pack, patch_rules, same, unpack
from vssl_jax.interop.videomae_config import class_names, count_classes, square, whole
from vssl_jax.models import build
from vssl_jax.models.timesformer import TimeSformer
from vssl_jax.models.vivit import ViViT
from vssl_jax.objectives.protocol import ENCODER

Parts = dict[str, Any]
HEAD = "head"
ARCHITECTURES = {"timesformer": "TimesformerForVideoClassification", "vivit": "VivitForVideoClassification"}
# What a config.json may not say otherwise, with what it means where it says nothing.
_FIXED = {
    "timesformer": {"attention_type": "divided_space_time", "qkv_bias": True, "hidden_act": "gelu", "num_channels": 3},
    "vivit": {"qkv_bias": True, "hidden_act": "gelu_fast", "num_channels": 3},
}
_DEFAULTS = {
    "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "layer_norm_eps": 1e-6,
}  # fmt: skip
# mean and std of the pixels, of the authors' code, where no processor says them
_PIXELS = {"timesformer": ((0.45,) * 3, (0.225,) * 3), "vivit": ((0.5,) * 3, (0.5,) * 3)}
_OF_KIND = {"timesformer": {"num_frames": 8, "patch_size": 16}, "vivit": {"num_frames": 32, "tubelet_size": (2, 16, 16)}}
# Released names of ViViT -> those of transformers 5.
_RENAMED = (
    (
        r"vivit\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.",
        lambda m: f"vivit.layers.{m[1]}.attention.{m[2][0]}_proj.",
    ),
    (r"vivit\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"vivit.layers.\1.attention.o_proj."),
    (r"vivit\.encoder\.layer\.(\d+)\.intermediate\.dense\.", r"vivit.layers.\1.mlp.fc1."),
    (r"vivit\.encoder\.layer\.(\d+)\.output\.dense\.", r"vivit.layers.\1.mlp.fc2."),
    (r"vivit\.encoder\.layer\.(\d+)\.", r"vivit.layers.\1."),
)


def from_huggingface(state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> tuple[Parts, dict[str, Any]]:
    """(parts, meta) of a checkpoint of transformers. Raises UserError where the config asks for another network, or a tensor is missing,
    unexpected or of another shape (all are listed).
    """
    state = {_renamed(name): tensor for name, tensor in state.items()}
    meta = to_meta(config)
    expected = jax.eval_shape(lambda parts: unpack(parts, _rules(meta)), _template(meta))
    shapes = ({name: tuple(x.shape) for name, x in tree.items()} for tree in (state, expected))
    compare(*shapes, "the Hugging Face checkpoint")
    return pack(state, _rules(meta)), meta


def to_huggingface(parts: Parts, meta: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(state, config) that transformers loads strictly: the inverse of from_huggingface. Raises UserError where `parts` are not what the
    models of `meta` hold.
    """
    config = to_config(meta)
    have, want = (flax.traverse_util.flatten_dict(dict(tree), sep="/") for tree in (parts, _template(meta)))
    compare({k: tuple(x.shape) for k, x in have.items()}, {k: x.shape for k, x in want.items()}, "the export")
    return {name: np.asarray(tensor, np.float32) for name, tensor in unpack(parts, _rules(meta)).items()}, config


def kind_of(meta: Mapping[str, Any]) -> str | None:
    """transformers' model_type of an export's backbone; None where it is none of these."""
    model = build(meta["model"]) if "model" in meta else None
    return "timesformer" if isinstance(model, TimeSformer) else "vivit" if isinstance(model, ViViT) else None


def _renamed(name: str) -> str:
    for pattern, new in _RENAMED:
        if re.match(pattern, name):
            return re.sub(pattern, new, name)
    return name


def to_meta(config: Mapping[str, Any]) -> dict[str, Any]:
    """What rebuilds the model of a config.json. Raises UserError for what is another network, or a size that is none."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES or config.get("architectures") != [ARCHITECTURES[kind]]:
        raise UserError(f"the checkpoint is a {config.get('architectures')} of model_type {kind!r}: known are {ARCHITECTURES}")
    for key, value in _FIXED[kind].items():
        if config.get(key, value) != value:
            raise UserError(f"the checkpoint has {key}={config[key]!r}: only {value!r} is known here")
    c = _DEFAULTS | _OF_KIND[kind] | dict(config)
    if c["layer_norm_eps"] != 1e-6:
        raise UserError(f"the checkpoint has layer_norm_eps={c['layer_norm_eps']!r}: only 1e-06 is known here")
    width, depth, heads, hidden, frames = whole(
        c, "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_frames"
    )
    model = {
        "name": kind,
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": hidden / width,
        "frames": frames,
        "size": square(c, "image_size"),
    }
    model |= {"patch": square(c, "patch_size")} if kind == "timesformer" else {"tubelet": _tubelet(c), "temporal_depth": 0}
    model |= statistics(c, *_PIXELS[kind])
    classes = count_classes(c)
    head = {"objective": {"name": "classify", "classes": classes, "head": {"name": "linear"}}}
    return {"model": model, "classes": classes, "class_names": class_names(c, classes), "config": head}


def _tubelet(config: Mapping[str, Any]) -> list[int]:
    sides = config["tubelet_size"]
    if not isinstance(sides, list | tuple) or len(sides) != 3:
        raise UserError(f"config.json has tubelet_size={sides!r}: ViViT's has three sides (frames, rows, columns)")
    return [whole({"tubelet_size": side}, "tubelet_size")[0] for side in sides]


def to_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a model. Raises UserError for one that transformers would compute otherwise."""
    model, kind, classes = build(meta["model"]), kind_of(meta), meta["classes"]
    if kind == "vivit" and model.temporal_depth:
        raise UserError("transformers' ViViT is model 1 (temporal_depth=0): the factorised encoder has no form there")
    names = list(meta.get("class_names", [])) or [f"LABEL_{i}" for i in range(classes)]
    config = {
        "model_type": kind, "architectures": [ARCHITECTURES[kind]], "hidden_size": model.width, "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads, "intermediate_size": model.hidden, "num_frames": model.frames,
        "image_size": model.size, "layer_norm_eps": 1e-6, "image_mean": list(model.pixel_mean), "image_std": list(model.pixel_std),
        "id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {name: i for i, name in enumerate(names)},
    } | _FIXED[kind]  # fmt: skip
    return config | ({"patch_size": model.patch} if kind == "timesformer" else {"tubelet_size": list(model.tubelet)})


def _template(meta: Mapping[str, Any]) -> Parts:
    """The shapes of all parts, from the model itself."""
    model = build(meta["model"])
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), np.float32)
    linear = {"kernel": (model.width, meta["classes"]), "bias": (meta["classes"],)}
    head = {"linear": {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in linear.items()}}
    return {ENCODER: jax.eval_shape(lambda x: model.init(jax.random.key(0), x), clip)["params"], HEAD: head}


def _rules(meta: Mapping[str, Any]) -> Iterator[Rule]:
    model, kind = build(meta["model"]), kind_of(meta)
    yield Rule("encoder/cls_token", (f"{kind}.embeddings.cls_token",), lambda x: x[0, 0], lambda x: (x[None, None],))
    yield Rule("encoder/pos_embed", (f"{kind}.embeddings.position_embeddings",), lambda x: x[0], lambda x: (x[None],))
    projection = f"{kind}.embeddings.patch_embeddings.projection"
    if kind == "timesformer":
        yield Rule("encoder/time_pos_embed", ("timesformer.embeddings.time_embeddings",), lambda x: x[0], lambda x: (x[None],))
        yield from _picture_rules("encoder/patch_embed", projection, model.patch)
        yield from _divided_rules(model)
    else:
        yield from patch_rules("encoder/patch_embed", projection, model.tubelet)
        yield from _joint_rules(model)
    yield from norm_rules("encoder/norm", f"{kind}.layernorm")
    yield from linear_rules("head/linear", "classifier")


def _picture_rules(path: str, name: str, patch: int) -> Iterator[Rule]:
    """Conv2d [D, C, h, w] <-> [h*w*C, D]."""

    def to_ours(x):
        return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_theirs(x):
        return (x.reshape(patch, patch, 3, x.shape[-1]).transpose(3, 2, 0, 1),)

    yield Rule(f"{path}/kernel", (f"{name}.weight",), to_ours, to_theirs)
    yield same(f"{path}/bias", f"{name}.bias")


def _output_rules(path: str, name: str, model) -> Iterator[Rule]:
    """The layer behind the heads, which are the slow axis of torch's attention outputs."""

    def to_ours(x):
        return x.T.reshape(model.heads, -1, x.shape[0])

    yield Rule(f"{path}/kernel", (f"{name}.weight",), to_ours, lambda x: (x.reshape(-1, x.shape[-1]).T,), model.depth)
    yield same(f"{path}/bias", f"{name}.bias", model.depth)


def _divided_rules(model) -> Iterator[Rule]:
    """TimeSformer's blocks, stacked: the three matrices of an attention are one there, its three biases one too."""
    name, layers, heads, width = "timesformer.encoder.layer.{}", model.depth, model.heads, model.width
    for ours, theirs in (("attn", "attention"), ("time_attn", "temporal_attention")):
        path, attention = f"encoder/blocks/{ours}", f"{name}.{theirs}.attention.qkv"

        def qkv(x_3DxD):
            return x_3DxD.T.reshape(width, 3, heads, -1)

        yield Rule(f"{path}/qkv/kernel", (f"{attention}.weight",), qkv, lambda x: (x.reshape(width, 3 * width).T,), layers)
        yield Rule(
            f"{path}/qkv_bias",
            (f"{attention}.bias",),
            lambda x: x.reshape(3, heads, -1),
            lambda x: (x.reshape(3 * width),),
            layers,
        )
        yield from _output_rules(f"{path}/proj", f"{name}.{theirs}.output.dense", model)
    for ours, theirs in (("time_norm", "temporal_layernorm"), ("norm1", "layernorm_before"), ("norm2", "layernorm_after")):
        yield from norm_rules(f"encoder/blocks/{ours}", f"{name}.{theirs}", layers)
    for ours, theirs in (("time_proj", "temporal_dense"), ("mlp/fc1", "intermediate.dense"), ("mlp/fc2", "output.dense")):
        yield from linear_rules(f"encoder/blocks/{ours}", f"{name}.{theirs}", layers)


def _joint_rules(model) -> Iterator[Rule]:
    """ViViT's blocks, stacked."""
    name, layers, heads, width = "vivit.layers.{}", model.depth, model.heads, model.width
    path, each = "encoder/blocks/attn", tuple(f"{name}.attention.{x}_proj" for x in "qkv")

    def weights(*three_DxD):
        return np.stack([w.T.reshape(width, heads, -1) for w in three_DxD], axis=1)

    def apart(x_Dx3xHxhd):
        return tuple(x_Dx3xHxhd[:, i].reshape(width, width).T for i in range(3))

    yield Rule(f"{path}/qkv/kernel", tuple(f"{x}.weight" for x in each), weights, apart, layers)
    yield Rule(
        f"{path}/qkv_bias",
        tuple(f"{x}.bias" for x in each),
        lambda *three: np.stack([b.reshape(heads, -1) for b in three]),
        lambda x: tuple(x[i].reshape(-1) for i in range(3)),
        layers,
    )
    yield from _output_rules(f"{path}/proj", f"{name}.attention.o_proj", model)
    for ours, theirs in (("norm1", "layernorm_before"), ("norm2", "layernorm_after")):
        yield from norm_rules(f"encoder/blocks/{ours}", f"{name}.{theirs}", layers)
    for ours in ("mlp/fc1", "mlp/fc2"):
        yield from linear_rules(f"encoder/blocks/{ours}", f"{name}.{ours.replace('/', '.')}", layers)
