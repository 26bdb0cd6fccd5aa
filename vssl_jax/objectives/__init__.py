"""The registry of methods: name -> (recipe's config -> Objective). A plain dict; adding a method adds a line here and a file beside it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.objectives import (
    appearance_change,
    brave,
    byol,
    classify,
    clip_order,
    coclr,
    cubic_puzzle,
    deep_cluster,
    dino,
    dpc,
    frame_order,
    jigsaw,
    local_aggregation,
    moco,
    motion_statistics,
    odd_one_out,
    order_verification,
    pace,
    playback_rate,
    relative_speed,
    rotation,
    simclr,
    speediness,
    swav,
    tclr,
    temporal_transform,
    uber_nce,
    videomae,
)
from vssl_jax.objectives.protocol import Objective

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "appearance_change": appearance_change.from_config,
    "brave": brave.from_config,
    "byol": byol.from_config,
    "classify": classify.from_config,
    "clip_order": clip_order.from_config,
    "coclr": coclr.from_config,
    "cubic_puzzle": cubic_puzzle.from_config,
    "deep_cluster": deep_cluster.from_config,
    "dino": dino.from_config,
    "dpc": dpc.from_config,
    "frame_order": frame_order.from_config,
    "jigsaw": jigsaw.from_config,
    "local_aggregation": local_aggregation.from_config,
    "moco": moco.from_config,
    "motion_statistics": motion_statistics.from_config,
    "odd_one_out": odd_one_out.from_config,
    "order_verification": order_verification.from_config,
    "pace": pace.from_config,
    "playback_rate": playback_rate.from_config,
    "relative_speed": relative_speed.from_config,
    "rotation": rotation.from_config,
    "simclr": simclr.from_config,
    "speediness": speediness.from_config,
    "swav": swav.from_config,
    "tclr": tclr.from_config,
    "temporal_transform": temporal_transform.from_config,
    "uber_nce": uber_nce.from_config,
    "videomae": videomae.from_config,
}


def build(config: Mapping[str, Any]) -> Objective:
    """The objective that `config.objective.name` names. Raises UserError for an unknown name, and for one whose settings the recipe does not have."""
    name = config["objective"]["name"]
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    try:
        return OBJECTIVES[name](config)
    except (KeyError, AttributeError) as error:
        lacking = re.fullmatch(r"""\W*(\w+)\W*""", str(error))  # how ml_collections names a key that is not there
        if lacking is None:
            raise
        raise UserError(
            f"objective {name!r} needs a setting {lacking[1]!r} that this recipe does not have: start from a recipe of that objective"
        ) from error
