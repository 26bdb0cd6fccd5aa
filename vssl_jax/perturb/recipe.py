"""Views by name, as recipes write them: {"crop": {"name": "multiscale"}, "flip": 0.0, "color": ({"name": "jitter", ...}, ...)}, and what a network is shown
of them (`shown`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vssl_jax.errors import UserError, check_names, unknown_name
from vssl_jax.perturb import blur, color, convolve, crop, erase, randaugment
from vssl_jax.perturb.clip_view import Pairing, WithoutLast
from vssl_jax.perturb.flow import TVL1
from vssl_jax.perturb.flow_view import FlowView
from vssl_jax.perturb.masks import MASKS, Cuboids, Mask
from vssl_jax.perturb.mix import Mix, NoMix
from vssl_jax.perturb.order import OrderFree
from vssl_jax.perturb.view import EvalView, Pixels, RandomView

CROPS: dict[str, Callable[..., Any]] = {
    "random_resized": crop.RandomResizedCrop,
    "multiscale": crop.MultiScaleCrop,
    "center": crop.CenterCrop,
    "square": crop.SquareCrop,
    "whole": crop.WholePicture,
}
COLORS: dict[str, Callable[..., Any]] = {
    "jitter": color.ColorJitter,
    "gray": color.Gray,
    "one_channel": color.OneChannel,
    "drop_channel": color.DropChannel,
    "gamma": color.Gamma,
    "solarize": color.Solarize,
    "blur": blur.GaussianBlur,
    "one_of": color.OneOf,
    "each_frame": color.EachFrame,
    "cutout": erase.Cutout,
    "randaugment": randaugment.RandAugment,
    "random_convolution": convolve.RandomConvolution,  # the last one: see there
    "erase": erase.RandomErase,  # the last one: see there
}


def _named(kind: str, config: Mapping[str, Any], registry: Mapping[str, Callable[..., Any]]) -> Any:
    fields = dict(config)
    name = fields.pop("name")
    if name not in registry:
        raise unknown_name(kind, name, registry)
    known = {f.name: f for f in dataclasses.fields(registry[name])}
    check_names(f"field of {kind} {name}", fields, known)
    if missing := [f.name for f in known.values() if f.default is f.default_factory is dataclasses.MISSING and f.name not in fields]:
        raise UserError(f"{kind} {name!r} needs {', '.join(missing)}: add them to its settings")
    return registry[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _color(config: Mapping[str, Any], pixels: Pixels) -> Any:
    """An operation on colors; the chains of `one_of` and `each_frame` are of such."""
    config = dict(config)
    if "chain" in config:
        config["chain"] = _chain(config["chain"], pixels)
    if "chains" in config:
        config["chains"] = tuple(_chain(chain, pixels) for chain in config["chains"])
    return _of_pixels(_named("color operation", config, COLORS), config, pixels)


def _chain(chain: Any, pixels: Pixels) -> tuple[Any, ...]:
    if not isinstance(chain, tuple | list) or not all(isinstance(c, Mapping) and "name" in c for c in chain):
        raise UserError(f"a chain of color operations is {chain!r}: it must be operations, such as ({{'name': 'gray'}},)")
    return tuple(_color(c, pixels) for c in chain)


def _of_pixels(op: Any, config: Mapping[str, Any], pixels: Pixels) -> Any:
    """An operation that works on what the network reads takes the backbone's own statistics, where the recipe does not give others."""
    known = {f.name for f in dataclasses.fields(op)}
    own = {name: getattr(pixels, name) for name in ("mean", "std") if name in known and name not in config}
    return dataclasses.replace(op, **own) if own else op


View = RandomView | EvalView | FlowView | WithoutLast | OrderFree
SHOWN = ("flow", "without_last", "order")


def shown(view: Any, entries: Mapping[str, Any]) -> View:
    """A view, of which a network is shown what `entries` say; without any, all of it.

    `flow`: in place of colors, one frame fewer ({"settings": fields of TVL1, and other fields of FlowView}); `without_last`: so many of the last frames are
    left out; `order`: a way of losing the order of frames (perturb/order.py).
    """
    if "flow" in entries and "order" in entries:
        raise UserError("a view has flow or an order of frames to lose, not both: flow is found from their order")
    if "flow" in entries:
        flow = dict(entries["flow"])
        view = FlowView(view, TVL1(**flow.pop("settings", {})), **flow)
    if "without_last" in entries:
        view = WithoutLast(view, entries["without_last"])
    return OrderFree(view, entries["order"]) if "order" in entries else view


def together(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of `shown`, of networks that see the same clips, so that all see as many frames: where one is shown flow, the others lack the last frame."""
    flow = any("flow" in own for own in entries.values())
    return {name: dict(own) | ({"without_last": 1} if flow and "flow" not in own else {}) for name, own in entries.items()}


def build_view(config: Mapping[str, Any], pixels: Pixels) -> View:
    """As `build_random_view`, with the entries of `shown`."""
    entries = {key: config[key] for key in SHOWN if key in config}
    return shown(build_random_view({key: value for key, value in config.items() if key not in SHOWN}, pixels), entries)


def build_random_view(config: Mapping[str, Any], pixels: Pixels) -> RandomView:
    """The random view of a recipe for a backbone that takes `pixels`: `crop` and the entries of `color` by name, other entries are RandomView's fields."""
    fields = dict(config)
    if "crop" not in fields:
        raise UserError(f"a view needs a crop, this one has {', '.join(sorted(fields)) or 'nothing'}")
    crop_config, colors = fields.pop("crop"), fields.pop("color", ())
    ops = tuple(_color(c, pixels) for c in colors)
    known = [f.name for f in dataclasses.fields(RandomView) if f.name not in Pixels._fields]
    check_names("field of view", fields, known)
    return RandomView(crop=_named("crop", crop_config, CROPS), color=ops, **pixels._asdict(), **fields)


def build_eval_view(config: Mapping[str, Any], pixels: Pixels) -> View:
    """The evaluation view of a recipe for a backbone that takes `pixels`, with the entries of `shown`; `short_side` 0 means no resizing: the crop is the
    whole short side.
    """
    fields = dict(config)
    entries = {key: fields.pop(key) for key in SHOWN if key in fields}
    known = [f.name for f in dataclasses.fields(EvalView) if f.name not in Pixels._fields]
    check_names("field of eval_view", fields, known)
    short_side = fields.pop("short_side", 0)
    return shown(EvalView(short_side=None if short_side == 0 else short_side, **pixels._asdict(), **fields), entries)


def build_mix(config: Mapping[str, Any]) -> Mix | NoMix:
    """Mixup and CutMix of a recipe; an empty config is none."""
    known = [f.name for f in dataclasses.fields(Mix)]
    check_names("field of mix", config, known)
    return Mix(**config) if config else NoMix()


def build_mask(config: Mapping[str, Any], ratio: float) -> Mask:
    """The mask of a recipe, which hides the share `ratio` of the tokens; of multi_block, `visible` and `masked` say how many it has of each. `shape`, of
    block and multi_block, holds fields of Cuboids.
    """
    fields = dict(config)
    if "ratio" in fields:
        raise UserError("objective.mask has a ratio: set objective.mask_ratio instead, and leave it out")
    if "shape" in fields:
        shape, known = dict(fields["shape"]), [f.name for f in dataclasses.fields(Cuboids)]
        check_names("field of objective.mask.shape", shape, known)
        fields["shape"] = Cuboids(**{name: tuple(value) for name, value in shape.items()})
    if fields["name"] in MASKS and "ratio" in MASKS[fields["name"]].__dataclass_fields__:
        fields["ratio"] = ratio
    return _named("mask", fields, MASKS)


def build_pairing(config: Mapping[str, Any]) -> Pairing:
    known = [f.name for f in dataclasses.fields(Pairing)]
    check_names("field of objective.pairing", config, known)
    return Pairing(**config)
