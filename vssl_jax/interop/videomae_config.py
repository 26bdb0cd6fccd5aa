"""The sizes of a VideoMAE model: transformers' config.json <-> what vssl_jax.models builds from.

The one idea: settings that VideoMAE does not have are refused, not ignored, because a model with other settings would load and be wrong.
"""

from collections.abc import Mapping
from typing import Any

from vssl_jax.errors import UserError
from vssl_jax.interop.pixels import statistics
from vssl_jax.models import build
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

PRETRAINING = "VideoMAEForPreTraining"
CLASSIFICATION = "VideoMAEForVideoClassification"

# What a config.json that omits a key means: the defaults of transformers' VideoMAEConfig.
_DEFAULTS = {
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "qv_bias": True,
    "use_mean_pooling": True,
    "decoder_num_attention_heads": 6,
    "decoder_hidden_size": 384,
    "decoder_num_hidden_layers": 4,
    "decoder_intermediate_size": 1536,
}
_SIZES = (
    "num_frames", "tubelet_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "decoder_num_attention_heads",
    "decoder_hidden_size", "decoder_num_hidden_layers", "decoder_intermediate_size",
)  # fmt: skip
_REQUIRED = {"model_type": "videomae", "num_channels": 3, "hidden_act": "gelu", "qv_bias": True}


def to_meta(config: Mapping[str, Any]) -> dict[str, Any]:
    """{"model": fields for models.build, and "decoder": fields of MAEDecoder with "normalize_target", or "classes": n and "class_names": [name, ...]
    ([] where the checkpoint does not say)}. Raises UserError where the config is no VideoMAE's, or a size in it is none.
    """
    c = _DEFAULTS | dict(config)
    for key, value in _REQUIRED.items():
        if c.get(key) != value:
            raise UserError(f"config.json has {key}={c.get(key)!r}: only VideoMAE with {key}={value!r} can be converted")
    architecture = (c.get("architectures") or ["none"])[0]
    if architecture not in (PRETRAINING, CLASSIFICATION):
        raise UserError(f"config.json names the architecture {architecture}: {PRETRAINING} and {CLASSIFICATION} can be converted")
    whole(c, *_SIZES)
    size, patch = square(c, "image_size"), square(c, "patch_size")
    model = dict(
        name="vit",
        width=c["hidden_size"],
        depth=c["num_hidden_layers"],
        heads=c["num_attention_heads"],
        mlp_ratio=c["intermediate_size"] / c["hidden_size"],
        tubelet=[c["tubelet_size"], patch, patch],
        frames=c["num_frames"],
        size=size,
        **statistics(c, IMAGENET_MEAN, IMAGENET_STD),
        final_norm=not c["use_mean_pooling"],
    )
    if architecture == CLASSIFICATION:
        if not c["use_mean_pooling"]:
            raise UserError(
                "config.json has use_mean_pooling=false: transformers then classifies from the first token, VideoMAE from the mean of all"
            )
        return {"model": model, "classes": count_classes(c), "class_names": class_names(c, count_classes(c))}
    decoder = dict(
        width=c["decoder_hidden_size"],
        depth=c["decoder_num_hidden_layers"],
        heads=c["decoder_num_attention_heads"],
        out=3 * c["tubelet_size"] * patch**2,
        mlp_ratio=c["decoder_intermediate_size"] / c["decoder_hidden_size"],
    )
    return {"model": model, "decoder": decoder, "normalize_target": c.get("norm_pix_loss", True)}


def to_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a model, with the pixel statistics of its preprocessor: the inverse of to_meta.

    Raises UserError for a model that VideoMAE's classes in transformers cannot hold.
    """
    model = build(meta["model"])
    tubelet = getattr(model, "tubelet", None)
    if tubelet is None or tubelet[1] != tubelet[2]:
        raise UserError(f"the model {meta['model']['name']!r} is no VideoMAE with square patches: it has no form in transformers")
    if model.positions != "sincos_1d":
        raise UserError(f"the model has positions {model.positions!r}: transformers' VideoMAE has sincos_1d only")
    if "decoder" not in meta and model.final_norm:
        raise UserError("the classifier's encoder has a final norm: transformers' VideoMAE would classify from its first token")
    config = {
        "model_type": "videomae",
        "image_size": model.size,
        "patch_size": tubelet[1],
        "num_channels": 3,
        "num_frames": model.frames,
        "tubelet_size": tubelet[0],
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qv_bias": True,
        "use_mean_pooling": not model.final_norm,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "image_mean": list(model.pixel_mean),
        "image_std": list(model.pixel_std),
    }
    if "decoder" not in meta:
        names = meta.get("class_names") or [f"LABEL_{i}" for i in range(meta["classes"])]
        labels = {str(i): name for i, name in enumerate(names)}
        return config | {
            "architectures": [CLASSIFICATION],
            "id2label": labels,
            "label2id": {label: int(i) for i, label in labels.items()},
        }
    decoder = meta["decoder"]
    return config | {
        "architectures": [PRETRAINING],
        "decoder_hidden_size": decoder["width"],
        "decoder_num_hidden_layers": decoder["depth"],
        "decoder_num_attention_heads": decoder["heads"],
        "decoder_intermediate_size": round(decoder["width"] * decoder.get("mlp_ratio", 4.0)),
        "norm_pix_loss": meta.get("normalize_target", True),
    }


def whole(config: Mapping[str, Any], *keys: str) -> tuple[int, ...]:
    """The values of these keys. Raises UserError for one that is no whole number above 0."""
    for key in keys:
        if isinstance(config[key], bool) or not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"config.json has {key}={config[key]!r}: it must be a whole number above 0")
    return tuple(config[key] for key in keys)


def square(config: Mapping[str, Any], key: str) -> int:
    """The side that is one number there, or equal ones. Raises UserError for others."""
    value = config[key]
    sides = value if isinstance(value, list | tuple) and value else [value]
    if any(side != sides[0] for side in sides):
        raise UserError(f"config.json has {key}={value!r}: only square ones can be converted")
    return whole({key: sides[0]}, key)[0]


def _labels(config: Mapping[str, Any]) -> dict[int, str]:
    labels = config.get("id2label") or {}
    if not isinstance(labels, Mapping) or not all(str(i).isdecimal() for i in labels):
        raise UserError("config.json has an id2label that does not name numbered classes: correct it, or leave it out")
    return {int(i): name for i, name in labels.items()}


def count_classes(config: Mapping[str, Any]) -> int:
    """How many a classifier tells apart. Raises UserError where id2label or num_labels do not say it."""
    unsaid = {"num_labels": 2}  # transformers writes no labels where there are two
    return len(_labels(config)) or whole(unsaid | dict(config), "num_labels")[0]


def class_names(config: Mapping[str, Any], classes: int) -> list[str]:
    """In the order of the logits; [] where there are none. transformers' placeholders (LABEL_0, ...) are no names."""
    labels = _labels(config)
    if sorted(labels) != list(range(classes)) or all(name == f"LABEL_{i}" for i, name in labels.items()):
        return []
    return [labels[i] for i in range(len(labels))]
