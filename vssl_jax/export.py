"""A run's weights out of it and into the next: what an export holds, and how another run starts from one.

The one idea: the backbone has a name of its own ("encoder", with its "stats"), whatever method trained it; everything else that the method
trained stands beside it as "method/NAME" (with "method/NAME_stats" where that is a backbone too, NAME_encoder, which evaluation can ask for). So
evaluation and fine-tuning find the backbone of any method, and the same method finds all of itself.
"""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vssl_jax import config as config_lib
from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.objectives.protocol import ENCODER, METHOD, STATS, VIDEO, Memory, Objective, Parts, in_export, part_of
from vssl_jax.train.checkpoint import EXPORT, leave_out, load_export, save_export
from vssl_jax.train.state import TrainState

log = logging.getLogger(__name__)

# Fields of a backbone that change how it is computed or trained, but not what its weights mean.
FREE_FIELDS = ("dtype", "impl", "unroll", "remat", "drop_path", "last_scale", "final_norm", "parent", "name")


def export(objective: Objective, state: TrainState, config: ConfigDict, classes: Sequence[str], workdir: Path) -> Path:
    """Writes <workdir>/export: the backbone ("encoder", "stats"), the method's other parts and other networks of the model, and in meta.json the config that
    builds them, what the networks are shown, by the features that they make, and the names of the classes that it learned to tell apart (none: []).
    """
    parts, plain = _parts(objective, state.params, state.memory), config_lib.to_dict(config)
    meta = {"model": plain["model"], "step": int(state.step), "config": plain, "features": objective.shown()}
    meta["class_names"] = list(classes)
    path = workdir / EXPORT
    save_export(path, parts, meta)
    return path


def _parts(objective: Objective, params: Parts, memory: Memory) -> Parts:
    """What an export holds, by the names that it has there."""
    parts = dict(objective.exported(params, memory))
    for feature in objective.shown():
        encoder, stats = objective.backbone(params, memory, feature)
        parts |= {part_of(feature, ENCODER): encoder} | ({part_of(feature, STATS): stats} if stats else {})
    return {in_export(name): part for name, part in parts.items()}


def check(objective: Objective, shapes: TrainState) -> None:
    """Asks a method, by the shapes of its state, for all that is exported after its last step. Raises UserError where it has no backbone to give."""
    try:
        jax.eval_shape(functools.partial(_parts, objective), shapes.params, shapes.memory)
    except NotImplementedError as error:
        raise UserError(
            f"{type(objective).__name__} has no backbone for the features {', '.join(objective.shown())}, which are exported after the last step: "
            "give it backbone(params, memory, feature), see objectives/protocol.py"
        ) from error


def initial(config: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params, memory) that a fresh run of a backbone of `model` starts from, by `config.initial`: the parts that it names, less the
    parameters of the encoder that `drop` names.

    Raises UserError where the checkpoint lacks a part, or a parameter to drop. Differences in what the encoder's weights mean that no shape
    would show (pixel statistics, positions, another number of frames) are warned of.
    """
    if not config["checkpoint"]:
        if config["drop"]:
            log.warning("initial.checkpoint is not set: training starts from random weights")
        return {}, {}
    source = str(config["checkpoint"])
    if not config["parts"]:
        raise UserError(f"initial.parts is empty: name what to take of {source}, such as encoder")
    if config["drop"] and ENCODER not in config["parts"]:
        raise UserError("initial.drop leaves parameters out of the encoder, which initial.parts does not name: set one of them")
    parts, meta = load_export(source)
    found = {name.removeprefix(METHOD): part for name, part in parts.items()}
    # Statistics go with the network whose they are.
    stats_of = {part_of(feature, ENCODER): part_of(feature, STATS) for feature in meta.get("features", {VIDEO: {}})}
    stats = {name: found.pop(name) for name in stats_of.values() if name in found}
    if missing := [name for name in config["parts"] if name not in found]:
        raise UserError(f"initial.parts names {', '.join(missing)}, but {source} has {', '.join(sorted(found))}")
    params = {name: found[name] for name in config["parts"]}
    memory = {stats_of[name]: stats[stats_of[name]] for name in params if stats_of.get(name) in stats}
    without = f" (without {', '.join(config['drop'])})" if config["drop"] else ""
    log.warning("starting from %s of %s%s", " and ".join(params), source, without)
    if ENCODER in params:
        params[ENCODER] = leave_out(params[ENCODER], tuple(config["drop"]), "initial.drop", source)
        for difference in _differences(meta["model"], model):
            log.warning("the weights of %s come from a model with another %s", source, difference)
    return params, memory


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """'frames: 16 -> 32' for each field of the backbone that differs and matters."""
    a, b = models.build(theirs), models.build(ours)
    if type(a) is not type(b):
        return [f"architecture: {type(a).__name__} -> {type(b).__name__}"]
    names = [f.name for f in dataclasses.fields(a) if f.name not in FREE_FIELDS]
    return [f"{name}: {getattr(a, name)} -> {getattr(b, name)}" for name in names if getattr(a, name) != getattr(b, name)]
