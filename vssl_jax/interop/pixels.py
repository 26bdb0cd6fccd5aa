"""What pixels a checkpoint takes: the settings of transformers' processors as mean and standard deviation of RGB in [0, 1].

The one idea: a processor makes (x * rescale_factor - offset - mean) / std of x from 0 to 255, which is (x / 255 - pixel_mean) / pixel_std.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vssl_jax.errors import UserError

log = logging.getLogger(__name__)

PREPROCESSOR = "preprocessor_config.json"
PROCESSORS = ("video_preprocessor_config.json", PREPROCESSOR)  # in the order in which transformers looks for those of videos
PIXELS = ("image_mean", "image_std")
_TYPES = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def folded(processor: Mapping[str, Any], model_type: str = "") -> dict[str, list[float]]:
    """`image_mean` and `image_std` that do all that a processor does to values. Raises UserError where its settings are no numbers.

    ViViT's processor takes 1 off what it has rescaled, and the one for videos does not write that it does. `model_type` is for a processor that does not
    write its own.
    """
    name = next((str(processor[key]) for key in _TYPES if processor.get(key)), str(model_type)).lower()
    vivit, video = name.startswith("vivit"), name.endswith("videoprocessor")
    scale, offset = 255.0, 0.0
    if processor.get("do_rescale", True):
        scale *= _numbers(processor, "rescale_factor", 1 / 127.5 if vivit else 1 / 255)[0]
        offset = float(bool((vivit and video) or processor.get("offset", vivit)))
    mean, std = (0.0,) * 3, (1.0,) * 3
    if processor.get("do_normalize", True):
        mean, std = (_numbers(processor, key) for key in PIXELS)
    if not scale or not all(std):
        raise UserError(f"the processor has rescale_factor {scale / 255} and image_std {list(std)}: they divide pixels, and cannot be 0")
    return dict(zip(PIXELS, ([(offset + m) / scale for m in mean], [s / scale for s in std]), strict=True))


def _numbers(processor: Mapping[str, Any], key: str, default: Any = None) -> tuple[float, ...]:
    """A setting that is one number for all channels, or three."""
    value = processor.get(key, default)
    values = value if isinstance(value, list | tuple) else (value,) * 3
    if len(values) != 3 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in values):
        raise UserError(f"the processor's {key} is {value!r}: give a number, or three, in its {PREPROCESSOR}")
    return tuple(values)


def statistics(config: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> dict[str, list[float]]:
    """A backbone's `pixel_mean` and `pixel_std`: those that came with the config; else these, which its authors used, and a warning says so."""
    if not all(key in config for key in PIXELS):
        log.warning(
            "warning: the checkpoint has no %s: its pixels are taken to be normalized by mean %s and std %s; if they are not, "
            "write image_mean and image_std into a %s beside its config.json and convert again",
            " or ".join(PROCESSORS), list(mean), list(std), PREPROCESSOR,
        )  # fmt: skip
        config = dict(zip(PIXELS, (mean, std), strict=True))
    return {"pixel_mean": list(config["image_mean"]), "pixel_std": list(config["image_std"])}
