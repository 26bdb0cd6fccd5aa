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
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.interop.compare import compare
from vssl_jax.interop.rules import Rule, kernel_rule, linear_rules, norm_rules, pack, patch_rules, same, unpack
from vssl_jax.interop.videomae_config import to_config, to_meta
from vssl_jax.models import build
from vssl_jax.models.backbone import Features
from vssl_jax.models.heads import FcNormHead
from vssl_jax.models.mae_decoder import MAEDecoder

State = dict[str, np.ndarray]
Parts = dict[str, Any]


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
    expected = jax.eval_shape(lambda parts: unpack(parts, _rules(meta)), template)
    compare(
        {name: tuple(x.shape) for name, x in state.items()}, {name: x.shape for name, x in expected.items()}, "the Hugging Face checkpoint"
    )
    return pack(state, _rules(meta)), meta


def to_huggingface(parts: Parts, meta: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """(state, config) that transformers loads strictly: the inverse of from_huggingface.

    Raises:
        UserError: `parts` is not what the models of `meta` hold.
    """
    template = flax.traverse_util.flatten_dict(_template(meta), sep="/")
    flat = flax.traverse_util.flatten_dict(dict(parts), sep="/")
    compare({k: tuple(x.shape) for k, x in flat.items()}, {k: x.shape for k, x in template.items()}, "the export")
    state = unpack(parts, _rules(meta))
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


def _rules(meta: Mapping[str, Any]) -> Iterator[Rule]:
    """Every array of the checkpoint that `meta` describes."""
    model = build(meta["model"])
    yield from patch_rules("encoder/patch_embed", "videomae.embeddings.patch_embeddings.projection", model.tubelet)
    yield from _block_rules("encoder/blocks", "videomae.encoder.layer.{}", model.depth, model.heads)
    if model.final_norm:
        yield from norm_rules("encoder/norm", "videomae.layernorm")
    if "decoder" in meta:
        yield Rule("decoder/mask_token", ("mask_token",), lambda x: x[0, 0], lambda x: (x[None, None],))
        yield kernel_rule("decoder/encoder_to_decoder", "encoder_to_decoder")
        yield from _block_rules("decoder/blocks", "decoder.decoder_layers.{}", meta["decoder"]["depth"], meta["decoder"]["heads"])
        yield from norm_rules("decoder/norm", "decoder.norm")
        yield from linear_rules("decoder/head", "decoder.head")
    else:
        yield from norm_rules("head/norm", "fc_norm")
        yield from linear_rules("head/linear", "classifier")


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
    yield same(f"{path}/attn/proj/bias", f"{name}.attention.output.dense.bias", layers)
    yield from norm_rules(f"{path}/norm1", f"{name}.layernorm_before", layers)
    yield from norm_rules(f"{path}/norm2", f"{name}.layernorm_after", layers)
    yield from linear_rules(f"{path}/mlp/fc1", f"{name}.intermediate.dense", layers)
    yield from linear_rules(f"{path}/mlp/fc2", f"{name}.output.dense", layers)
