"""Views -> features: the registry of backbones.

Names are constructors of linen modules that follow models/backbone.py. The sizes of the video transformers are those of VideoMAE (Tong et
al. 2022, and its public code): width, depth, heads.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.models.cnn import CNN
from vssl_jax.models.platform import compute_dtype
from vssl_jax.models.vit import ViT

MODELS: dict[str, Callable[..., nn.Module]] = {
    "vit": ViT,  # every size given: vit(width=, depth=, heads=, ...)
    "vit_small": functools.partial(ViT, width=384, depth=12, heads=6),
    "vit_base": functools.partial(ViT, width=768, depth=12, heads=12),
    "vit_large": functools.partial(ViT, width=1024, depth=24, heads=16),
    "vit_huge": functools.partial(ViT, width=1280, depth=32, heads=16),
    # VideoMAE V2 (Wang et al. 2023): the hidden layer of its MLP is 6144
    "vit_giant": functools.partial(ViT, width=1408, depth=40, heads=16, mlp_ratio=48 / 11, tubelet=(2, 14, 14)),
    "cnn_small": CNN,
}

# VideoMAE's decoder beside each encoder: width, depth, heads.
MAE_DECODERS: dict[str, dict[str, int]] = {
    "vit_small": dict(width=192, depth=4, heads=3),
    "vit_base": dict(width=384, depth=4, heads=6),
    "vit_large": dict(width=512, depth=12, heads=8),
    "vit_huge": dict(width=640, depth=12, heads=8),
    "vit_giant": dict(width=512, depth=4, heads=8),
}


def build(config: Mapping[str, Any]) -> nn.Module:
    """The backbone of a config: `name` is a key of MODELS, every other entry a field of its module; dtype 'auto' is settled here.

    Raises UserError for a name or field that is not known, and for a field that is missing.
    """
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    name = fields.pop("name")
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    constructor = MODELS[name]
    preset = getattr(constructor, "keywords", {})
    known = {f.name: f for f in dataclasses.fields(getattr(constructor, "func", constructor)) if f.name not in ("parent", "name")}
    for field in fields:
        if field not in known:
            raise unknown_name(f"field of model {name}", field, known)
    missing = [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in {**preset, **fields}]
    if missing:
        raise UserError(f"model {name!r} needs {', '.join(missing)}: set model.{missing[0]}")
    if "dtype" in fields:
        fields["dtype"] = compute_dtype(fields["dtype"])
    return constructor(**fields)
