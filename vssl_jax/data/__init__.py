"""Video files, shards and worlds -> batches on the host. The reading order: source, sample, row, pipeline; then the sources."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vssl_jax.data.embedded import embedded_source
from vssl_jax.data.folder import folder_source
from vssl_jax.data.manifest import manifest_source
from vssl_jax.data.rendered import rendered_source
from vssl_jax.data.source import Source
from vssl_jax.data.synthetic import synthetic_source
from vssl_jax.data.tfds import tfds_source
from vssl_jax.data.tfrecord import tfrecord_source
from vssl_jax.errors import UserError, unknown_name

# name -> constructor. Its first argument is `data.path`; its other arguments are settings of the same names.
SOURCES: dict[str, Callable[..., Source]] = {
    "folder": folder_source,
    "manifest": manifest_source,
    "tfrecord": tfrecord_source,
    "tfds": tfds_source,
    "embedded": embedded_source,
    "rendered": rendered_source,
    "synthetic": synthetic_source,
}


def open_source(config: Mapping) -> Source:
    """The source that `config.source` names, at `config.path`, with those settings of `config` that its constructor has.

    Raises UserError, in one line, for an unknown name, a wrong path or data that hold no video.
    """
    constructor = _constructor(config)
    parameters = inspect.signature(constructor).parameters
    if parameters["path"].default is inspect.Parameter.empty and not str(config["path"]):
        raise UserError(f"data.path is empty: data.source={config['source']} needs to be told where the videos are, --config.data.path=...")
    if config.get("classes") and "classes" not in parameters:
        raise UserError(f"data.classes is of no use to data.source={config['source']}, which has class names of its own: leave it empty")
    return constructor(config["path"], **own_settings(config))


def own_settings(config: Mapping) -> dict[str, Any]:
    """Those of `config` that, besides the path, say which videos the source has: its constructor's. Raises UserError for an unknown source."""
    parameters = inspect.signature(_constructor(config)).parameters
    return {name: config[name] for name in parameters if name != "path" and name in config}


def check_given(config: Mapping, given: Iterable[str], group: str = "data") -> None:
    """Raises UserError for a setting of `given`, names of what a person told this `group` of settings beside its recipe, that other sources have and the chosen
    one has not: the videos would be others than were asked for. What the recipe itself holds is for whichever source is chosen, and passes, and so does what
    is empty or 0, and `cache`, which says where films are kept and not which. An unknown source passes too: `open_source` refuses it.
    """
    parameters = {name: inspect.signature(constructor).parameters for name, constructor in SOURCES.items()}
    own = parameters.get(config["source"])
    for name in given if own is not None else ():
        having = [source for source, theirs in parameters.items() if name in theirs]
        if having and name not in own and name != "cache" and config[name]:
            raise UserError(
                f"{group}.{name} is of no use to {group}.source={config['source']}, which has no such setting (of {', '.join(having)}): leave it out"
            )


def _constructor(config: Mapping) -> Callable[..., Source]:
    if config["source"] not in SOURCES:
        raise unknown_name("data.source", config["source"], SOURCES)
    return SOURCES[config["source"]]
