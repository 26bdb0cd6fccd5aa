"""Views -> features: the registry of backbones.

Names are constructors of linen modules that follow models/backbone.py. The sizes of the video transformers are those of VideoMAE (Tong et
al. 2022, and its public code): width, depth, heads. Those of the 3-D convolution networks are in their own files.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from vssl_jax.errors import UserError, check_names, unknown_name
from vssl_jax.models.c3d import C3D
from vssl_jax.models.cnn import CNN
from vssl_jax.models.inception3d import Inception3D
from vssl_jax.models.resnet3d import ResNet3D
from vssl_jax.models.slowonly import SlowOnly
from vssl_jax.models.timesformer import TimeSformer
from vssl_jax.models.vit import ViT
from vssl_jax.models.vivit import ViViT
from vssl_jax.platform import compute_dtype

_AS_IT_IS = dict(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0))

MODELS: dict[str, Callable[..., nn.Module]] = {
    "vit": ViT,  # every size given: vit(width=, depth=, heads=, ...)
    "vit_small": functools.partial(ViT, width=384, depth=12, heads=6),
    "vit_base": functools.partial(ViT, width=768, depth=12, heads=12),
    "vit_large": functools.partial(ViT, width=1024, depth=24, heads=16),
    "vit_huge": functools.partial(ViT, width=1280, depth=32, heads=16),
    # VideoMAE V2 (Wang et al. 2023): the hidden layer of its MLP is 6144
    "vit_giant": functools.partial(ViT, width=1408, depth=40, heads=16, mlp_ratio=48 / 11, tubelet=(2, 14, 14)),
    "timesformer": TimeSformer,
    "vivit": ViViT,  # the factorised encoder, model 2; with temporal_depth=0 model 1
    "cnn_small": CNN,
    "c3d": C3D,
    "r3d18": ResNet3D,
    "mc3_18": functools.partial(ResNet3D, kinds=("3d", "2d", "2d", "2d")),
    "r2plus1d18": functools.partial(ResNet3D, kinds=("2+1d",) * 4, stem="2+1d"),
    # what VCOP, PRP and PacePred used and called C3D, R3D and R(2+1)D; their pixels are RGB in [0, 1] as it is
    "c3d_vcop": functools.partial(C3D, norm=True, **_AS_IT_IS),
    "r3d10_vcop": functools.partial(ResNet3D, layers=(1, 1, 1, 1), per_conv=True, **_AS_IT_IS),
    "r2plus1d10_vcop": functools.partial(ResNet3D, layers=(1, 1, 1, 1), kinds=("2+1d",) * 4, stem="2+1d", per_conv=True, **_AS_IT_IS),
    "i3d": functools.partial(Inception3D, separable=False, pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3),
    "s3d": Inception3D,
    "s3d_g": functools.partial(Inception3D, gated=True),
    "slowonly_r50": SlowOnly,
    "cvrl_r3d50": functools.partial(SlowOnly, stem_kernel=(5, 7, 7), stem_strides=(2, 2, 2), frames=16),
    "tsm_r50": functools.partial(SlowOnly, taps=(1, 1, 1, 1), shift=1 / 8, frames=16, **_AS_IT_IS),  # pixels as BraVe has them
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
    check_names(f"field of model {name}", fields, known)
    missing = [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in {**preset, **fields}]
    if missing:
        raise UserError(f"model {name!r} needs {', '.join(missing)}: set model.{missing[0]}")
    if "dtype" in fields:
        fields["dtype"] = compute_dtype(fields["dtype"])
    return constructor(**fields)
