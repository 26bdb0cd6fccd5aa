"""What settings must be, whichever recipe they are of: numbers within limits, and none that would change nothing.

Names that stand in no rule here are checked by what they configure.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from vssl_jax import config as config_lib
from vssl_jax.errors import UserError


def _whole(values: Any, least: int = 1, count: int | None = None) -> bool:
    """Whole numbers from `least` on; `count` of them, or at least one."""
    right = len(values) == count if count else len(values) > 0
    return right and all(isinstance(n, int) and n >= least for n in values)


# (regex on the path, what the value must be, test of (value, its group)); the first that matches a path counts.
LIMITS: tuple[tuple[str, str, Callable[[Any, ConfigDict], bool]], ...] = (
    (r"(^|\.)seed$", "from 0 to 4294967295", lambda v, _: 0 <= v < 2**32),  # what a key of jax.random holds
    (r"(^|\.)seeds$", "one or more whole numbers, each 0 or more", lambda v, _: _whole(v, 0)),
    (
        r"(^|\.)(protocols|initial\.parts|drop)$",
        "names with commas between them, or empty",
        lambda v, _: all(isinstance(name, str) for name in v),
    ),
    (
        r"(^|\.)features$",
        "one or more names with commas between them",
        lambda v, _: len(v) > 0 and all(isinstance(name, str) for name in v),
    ),
    (r"(^|\.)color$", """operations, such as ({'name':'gray'},)""", lambda v, _: all(isinstance(op, dict) and "name" in op for op in v)),
    (r"(^|\.)finetune\.labels$", "one or more numbers of labels, 0 for all of them", lambda v, _: _whole(v, 0)),
    (r"(^|\.)retrieval\.k$", "one or more whole numbers, each 1 or more", lambda v, _: _whole(v)),
    (
        r"(^|\.)(batch_size|grad_accumulation|log_every|keep|depth|width|heads|k|max_in_a_row|crops)$|(^|\.)model\.(size|frames)$",
        "1 or more",
        lambda v, _: v >= 1,
    ),
    (r"(^|\.)objective\.count$", "1 or more", lambda v, _: v >= 1),
    (r"(^|\.)objective\.chunk$", "0 or more", lambda v, _: v >= 0),
    (r"(^|\.)gaps$", "(fewest, most), whole numbers of 1 or more", lambda v, _: _whole(v, count=2)),
    (
        r"(^|\.)objective\.(paces|rates|speeds|widths)$",
        "whole numbers, each 1 or more",
        lambda v, _: _whole(v) if isinstance(v, tuple | list) else v >= 1,
    ),
    (r"(^|\.)objective\.resize$", "(least, most), or empty", lambda v, _: len(v) in (0, 2)),
    (r"(^|\.)(linear|attentive|finetune)\.steps$", "1 or more", lambda v, _: v >= 1),
    (
        r"(^|\.)(epochs|num_examples|world_videos|workers|every|picture_every|validate_every|knn_every|knn_videos|short_side|spike_factor|spike_after|memory_gb)$",
        "0 or more",
        lambda v, _: v >= 0,
    ),
    (r"(^|\.)optimizer\.(warmup_steps|lr_batch|clip_norm|weight_decay|\w*learning_rate|eps|rates\.\w+)$", "0 or more", lambda v, _: v >= 0),
    (r"(^|\.)(optimizer\.(b1|b2|momentum)|guard\.decay|smoothing|dropout)$", "0 or more and below 1", lambda v, _: 0 <= v < 1),
    (r"(^|\.)(layer_decay|fps|temperature|trust_coefficient)$", "above 0", lambda v, _: v > 0),
    (r"(^|\.)mask_ratio$", "above 0 and below 1", lambda v, _: 0 < v < 1),
    (r"(^|\.)(max_broken_fraction|max_short_fraction|flip)$", "from 0 to 1", lambda v, _: 0 <= v <= 1),
    (r"(^|\.)dtype$", "auto, float32 or bfloat16", lambda v, _: v in ("auto", "float32", "bfloat16")),
    (r"(^|\.)layout$", "rgb or yuv420", lambda v, _: v in ("rgb", "yuv420")),
    (r"(^|\.)tubelet$", "(frames, rows, columns), each 1 or more", lambda v, _: _whole(v, count=3)),
    (
        r"(^|\.)canvas$",
        "(rows, columns), each 1 or more, and even for the layout yuv420",
        lambda v, group: _whole(v, count=2) and not (group["layout"] == "yuv420" and any(n % 2 for n in v)),
    ),
)


def check_values(config: ConfigDict) -> None:
    """Raises UserError for the first value that is outside its limits, before anything is opened or built."""
    for path in config_lib.paths(config):
        value, group = config_lib.at(config, path), config_lib.at(config, path.rpartition(".")[0]) if "." in path else config
        if isinstance(value, ConfigDict):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path} is {value}: it must be a finite number")
        rule = next(((wanted, test) for pattern, wanted, test in LIMITS if re.search(pattern, path)), None)
        if rule and not rule[1](value, group):
            raise UserError(f"{path} is {value}: it must be {rule[0]}")


COUNTS = r"train\.epochs|(.*\.)?num_examples"  # settings that are nothing but what others are counted by


def check_counts(alone: ConfigDict, made: ConfigDict, given: Sequence[str]) -> None:
    """Raises UserError where a setting of `given` (names of overrides) that others are counted by is another in `made` than in the recipe `alone`, and nothing
    in this recipe is counted by it: it would be kept in the run's config as if it held. Where train.steps is given too, that one holds.
    """
    for key in given:
        if not re.fullmatch(COUNTS, key) or config_lib.at(made, key) == config_lib.at(alone, key):
            continue
        of_training = key in ("train.epochs", "data.num_examples")
        if not (of_training and "train.steps" in given) and not _moves(made, key):
            raise UserError(
                f"{key} counts nothing in this recipe: "
                + ("set train.steps" if of_training else f"leave it at {config_lib.at(alone, key)}")
            )


def _moves(config: ConfigDict, key: str) -> bool:
    """Whether any other setting follows this number."""
    group, name = config_lib.at(config, key.rpartition(".")[0]), key.rpartition(".")[2]
    old, before = group[name], config_lib.to_dict(config)
    group[name] = old + 10**9  # any step moves it out of what it is divided by
    after = config_lib.to_dict(config)
    group[name] = old
    return any(not line.startswith(f"{key}: ") for line in config_lib.differences(before, after))
