"""VideoMAE's weights between this code and Hugging Face, both ways, bit for bit.

The one idea: one list of rules (our path, their names, how to pack and unpack) serves both directions, and what either side must hold is
derived from the models themselves by eval_shape. A key or a shape that is not expected is an error that lists it: weights that silently
do not load are the commonest way to a number at chance.

Two checkpoints of transformers are known: VideoMAEForPreTraining <-> parts {"encoder": ViT, "decoder": MAEDecoder}, and
VideoMAEForVideoClassification <-> parts {"encoder": ViT without final norm, "head": FcNormHead}. LayerNorm's epsilon is 1e-6 here, as in
the paper's code; transformers writes 1e-12 into released configs and 1e-5 into decoder.norm and fc_norm, which moves logits by about
2e-6.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop.compare import compare
from vssl_jax.interop.videomae_config import to_config, to_meta
from vssl_jax.models import build
from vssl_jax.models.backbone import Features
from vssl_jax.models.heads import FcNormHead
from vssl_jax.models.mae_decoder import MAEDecoder

Array = Any
State = dict[str, np.ndarray]
Parts = dict[str, Any]


class Rule(NamedTuple):
    """Our array at `path` is `pack` of their arrays `names`; `unpack` is its inverse. `layers`: our array is stacked, and {} in a name is
    the layer.
    """

    path: str
    names: tuple[str, ...]
    pack: Callable[..., Array]
    unpack: Callable[[Array], tuple[Array, ...]]
    layers: int | None = None


def from_huggingface(state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> tuple[Parts, dict[str, Any]]:
    """(parts, meta) of a checkpoint of transformers.

    Args:
        state: tensors by name; biases of the attention may be spelled q_bias, v_bias or query.bias, value.bias.
        config: the checkpoint's config.json.

    Returns:
        float32 parameters, and what rebuilds the model: {"model": ..., "decoder": ...} or {"model": ..., "classes": n}.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape (all are listed), or the config asks for what VideoMAE is not.
    """
    meta = to_meta(config)
    state = _spell(state)
    template = _template(meta)
    expected = jax.eval_shape(lambda parts: _unpack(parts, meta), template)
    compare(
        {name: tuple(x.shape) for name, x in state.items()}, {name: x.shape for name, x in expected.items()}, "the Hugging Face checkpoint"
    )
    flat = {}
    for rule in _rules(meta):
        if rule.layers is None:
            flat[rule.path] = rule.pack(*(state[name] for name in rule.names))
        else:
            flat[rule.path] = np.stack([rule.pack(*(state[name.format(i)] for name in rule.names)) for i in range(rule.layers)])
    return flax.traverse_util.unflatten_dict({k: np.ascontiguousarray(v, np.float32) for k, v in flat.items()}, sep="/"), meta


def to_huggingface(parts: Parts, meta: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """(state, config) that transformers loads strictly: the inverse of from_huggingface.

    Raises:
        UserError: `parts` is not what the models of `meta` hold.
    """
    template = flax.traverse_util.flatten_dict(_template(meta), sep="/")
    flat = flax.traverse_util.flatten_dict(dict(parts), sep="/")
    compare({k: tuple(x.shape) for k, x in flat.items()}, {k: x.shape for k, x in template.items()}, "the export")
    state = _unpack(parts, meta)
    return {name: np.asarray(tensor, np.float32) for name, tensor in state.items()}, to_config(meta)


def _spell(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state with attention biases in today's spelling. A checkpoint that holds both spellings of one bias is refused."""
    out: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        new = re.sub(r"attention\.attention\.(q|v)_bias$", lambda m: f"attention.attention.{dict(q='query', v='value')[m[1]]}.bias", name)
        if new in out or (new != name and new in state):
            raise UserError(f"the Hugging Face checkpoint holds {new} twice, once spelled as q_bias or v_bias: remove one")
        out[new] = tensor
    return out


def _template(meta: Mapping[str, Any]) -> Parts:
    """The shapes of all parts, from the models themselves."""
    model, rng = build(meta["model"]), jax.random.key(0)
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), np.float32)
    token = jax.ShapeDtypeStruct((1, 1, model.width), np.float32)
    ids = jax.ShapeDtypeStruct((1, 1), np.int32)
    parts = {"encoder": jax.eval_shape(lambda x: model.init(rng, x), clip)["params"]}
    if "decoder" in meta:
        decoder = MAEDecoder(**meta["decoder"])
        parts["decoder"] = jax.eval_shape(lambda x, i: decoder.init(rng, x, i, i, model.grid), token, ids)["params"]
    else:
        head, pooled = FcNormHead(meta["classes"]), jax.ShapeDtypeStruct((1, model.width), np.float32)
        parts["head"] = jax.eval_shape(lambda x: head.init(rng, Features(x, x)), pooled)["params"]
    return parts


def _unpack(parts: Parts, meta: Mapping[str, Any]) -> dict[str, Array]:
    """Their tensors from our parts; methods only, so that it runs on shapes under eval_shape too."""
    flat, state = flax.traverse_util.flatten_dict(dict(parts), sep="/"), {}
    for rule in _rules(meta):
        array = flat[rule.path]
        if rule.layers is None:
            state |= zip(rule.names, rule.unpack(array), strict=True)
        else:
            for i in range(rule.layers):
                state |= zip((name.format(i) for name in rule.names), rule.unpack(array[i]), strict=True)
    return state


def _rules(meta: Mapping[str, Any]) -> Iterator[Rule]:
    """Every array of the checkpoint that `meta` describes."""
    model = build(meta["model"])
    yield from _patch_rules("encoder/patch_embed", "videomae.embeddings.patch_embeddings.projection", model.tubelet)
    yield from _block_rules("encoder/blocks", "videomae.encoder.layer.{}", model.depth, model.heads)
    if model.final_norm:
        yield from _norm_rules("encoder/norm", "videomae.layernorm")
    if "decoder" in meta:
        yield Rule("decoder/mask_token", ("mask_token",), lambda x: x[0, 0], lambda x: (x[None, None],))
        yield _kernel_rule("decoder/encoder_to_decoder", "encoder_to_decoder")
        yield from _block_rules("decoder/blocks", "decoder.decoder_layers.{}", meta["decoder"]["depth"], meta["decoder"]["heads"])
        yield from _norm_rules("decoder/norm", "decoder.norm")
        yield from _linear_rules("decoder/head", "decoder.head")
    else:
        yield from _norm_rules("head/norm", "fc_norm")
        yield from _linear_rules("head/linear", "classifier")


def _same(path: str, name: str, layers: int | None = None) -> Rule:
    return Rule(path, (name,), lambda x: x, lambda x: (x,), layers)


def _kernel_rule(path: str, name: str, layers: int | None = None) -> Rule:
    """torch's Linear holds [out, in], ours [in, out]."""
    return Rule(f"{path}/kernel", (f"{name}.weight",), lambda x: x.T, lambda x: (x.T,), layers)


def _linear_rules(path: str, name: str, layers: int | None = None) -> Iterator[Rule]:
    yield _kernel_rule(path, name, layers)
    yield _same(f"{path}/bias", f"{name}.bias", layers)


def _norm_rules(path: str, name: str, layers: int | None = None) -> Iterator[Rule]:
    yield _same(f"{path}/scale", f"{name}.weight", layers)
    yield _same(f"{path}/bias", f"{name}.bias", layers)


def _patch_rules(path: str, name: str, tubelet: tuple[int, int, int]) -> Iterator[Rule]:
    """Conv3d [D, C, t, h, w] <-> [t*h*w*C, D]."""

    def pack(x):
        return x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0])

    def unpack(x):
        return (x.reshape(*tubelet, 3, x.shape[-1]).transpose(4, 3, 0, 1, 2),)

    yield Rule(f"{path}/kernel", (f"{name}.weight",), pack, unpack)
    yield _same(f"{path}/bias", f"{name}.bias")


def _block_rules(path: str, name: str, layers: int, heads: int) -> Iterator[Rule]:
    """One transformer block, stacked. Heads are the slow axis of torch's attention outputs."""
    attention = f"{name}.attention.attention"

    def pack_qkv(*weights_DxD):  # each [H*hd, D] -> [D, 3, H, hd]
        return np.stack([w.T.reshape(w.shape[1], heads, -1) for w in weights_DxD], axis=1)

    def unpack_qkv(x_Dx3xHxhd):
        width = x_Dx3xHxhd.shape[0]
        return tuple(x_Dx3xHxhd[:, i].reshape(width, width).T for i in range(3))

    def heads_of(x_D):
        return x_D.reshape(heads, -1)

    yield Rule(f"{path}/attn/qkv/kernel", tuple(f"{attention}.{x}.weight" for x in ("query", "key", "value")), pack_qkv, unpack_qkv, layers)
    yield Rule(f"{path}/attn/q_bias", (f"{attention}.query.bias",), heads_of, lambda x: (x.reshape(-1),), layers)
    yield Rule(f"{path}/attn/v_bias", (f"{attention}.value.bias",), heads_of, lambda x: (x.reshape(-1),), layers)
    yield Rule(
        f"{path}/attn/proj/kernel",
        (f"{name}.attention.output.dense.weight",),
        lambda x: x.T.reshape(heads, -1, x.shape[0]),
        lambda x: (x.reshape(-1, x.shape[-1]).T,),
        layers,
    )
    yield _same(f"{path}/attn/proj/bias", f"{name}.attention.output.dense.bias", layers)
    yield from _norm_rules(f"{path}/norm1", f"{name}.layernorm_before", layers)
    yield from _norm_rules(f"{path}/norm2", f"{name}.layernorm_after", layers)
    yield from _linear_rules(f"{path}/mlp/fc1", f"{name}.intermediate.dense", layers)
    yield from _linear_rules(f"{path}/mlp/fc2", f"{name}.output.dense", layers)
