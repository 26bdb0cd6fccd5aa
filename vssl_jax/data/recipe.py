"""`config.data` -> an Input: the source, the sampler and the canvas that a recipe names."""

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl_jax import batch as batch_lib
from vssl_jax.data import memory, open_source, own_settings, tensorflow_host
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.row import Input
from vssl_jax.data.sample import SAMPLERS, Sampler
from vssl_jax.data.source import Source
from vssl_jax.data.stored_flow import WithFlow
from vssl_jax.errors import UserError, unknown_name


def build_sampler(config: Mapping[str, Any]) -> Sampler:
    """The sampler that `name` names, with those other entries that it has."""
    if config["name"] not in SAMPLERS:
        raise unknown_name("data.sampler.name", config["name"], SAMPLERS)
    constructor = SAMPLERS[config["name"]]
    parameters = inspect.signature(constructor).parameters
    if config.get("target_fps", 0) > 0 and "target_fps" not in parameters:
        raise UserError(
            f"data.sampler.target_fps is {config['target_fps']:g}, which the sampler {config['name']!r} does not have: set it to 0"
        )
    return constructor(**{name: config[name] for name in parameters if name in config})


def preload(config: Mapping[str, Any]) -> None:
    """Begins to load what reading these data will need, beside whatever comes first."""
    if config["source"] != "synthetic":
        tensorflow_host.preload()


def check_group(pattern: str) -> None:
    """Raises UserError for what is no regular expression with a group."""
    try:
        groups = re.compile(pattern).groups if pattern else 1
    except re.error as error:
        raise UserError(f"data.group={pattern} is no regular expression: {error}") from error
    if groups < 1:
        raise UserError(f"data.group={pattern} has no group in parentheses, which is to say what videos of one recording share")


def broken_record(
    config: Mapping[str, Any],
    workdir: Path | None = None,
    *,
    data: str = "data",
    group: str | None = None,
    process: tuple[int, int] = (0, 1),
) -> BrokenRecord:
    """The record of the data `config` with its limits; `data` and `group` as BrokenRecord has them, `process` is its number and how many there are."""
    limits = config["max_broken_fraction"], config["max_short_fraction"]
    return BrokenRecord(limits[0], workdir, process[0], data, max_short=limits[1], processes=process[1], group=group)


def build_input(config: Mapping[str, Any], batch_size: int, seed: int, broken: BrokenRecord, shuffle: bool = True) -> Input:
    """Opens the source. Raises UserError for a wrong path or data without video."""
    sampler = build_sampler(config["sampler"])
    height, width = config["canvas"]
    group, flow = config.get("group", ""), config.get("flow", "")
    check_group(group)
    spec = batch_lib.Spec(batch_size, sampler.clips, sampler.frames, height, width, config["layout"], groups=bool(group), flow=bool(flow))
    films = config["source"] != "synthetic"
    if not films and (flow or group):
        raise UserError(f"data.{'flow' if flow else 'group'} is for videos with names: the source synthetic has none")
    if films and config["memory_gb"] > 0:
        source = memory.opened(_identity(config), lambda: _in_memory(config))
    else:
        source = _source(config)
    return Input(source, spec, sampler, broken, seed=seed, shuffle=shuffle, workers=config["workers"], group=group)


def _source(config: Mapping[str, Any]) -> Source:
    source, flow = open_source(config), config.get("flow", "")
    return WithFlow(source, Path(flow)) if flow else source


def _identity(config: Mapping[str, Any]) -> str:
    """What the frames that stay in memory depend on, and how many may."""
    settings = {name: config.get(name) for name in ("source", "path", "layout", "canvas", "flow", "memory_gb")}
    return json.dumps(own_settings(config) | settings, sort_keys=True)  # tuples and lists alike


def _in_memory(config: Mapping[str, Any]) -> memory.InMemory:
    return memory.InMemory(_source(config), config["layout"], tuple(config["canvas"]), int(config["memory_gb"] * 1e9))
