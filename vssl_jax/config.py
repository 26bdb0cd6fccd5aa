"""The keys that every recipe has, with their defaults, and what becomes of the command line's overrides.

A recipe is a function get_config(arg) that starts from `base()`, and returns it locked: a key that does not exist is an error that names the nearest one.
"""

import ast
import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vssl_jax.errors import UserError


def data(split: str = "train") -> dict[str, Any]:
    """The keys of any input: of pretraining, and of evaluation's training and test data."""
    return {
        "source": "embedded",  # a name in vssl_jax.data.SOURCES
        "path": "",  # folder, CSV file, or TFDS builder; what it means is the source's business
        "classes": "",  # a text file of class names, one a line; empty: from the data
        "split": split,
        "num_examples": 0,  # length of the published training set: turns epochs into steps
        "tfds_dir": "",  # where TFDS' prepared data are; empty: TFDS' own place
        "world": "slide-8",  # difficulty of the embedded dataset
        "world_videos": 0,  # how many to build; 0: the difficulty's own number
        "cache": "",  # where the embedded dataset is built; empty: ~/.cache/vssl_jax
        "fps": 25.0,  # of sources that do not say: TFDS, shards without times
        "videos": 1024,  # of the source synthetic
        "num_classes": 8,  # of the source synthetic
        "layout": "rgb",  # rgb, or yuv420: half the conversion work on the host
        "canvas": (256, 456),  # rows, columns: a 16:9 film of 256 rows fits
        "sampler": {"name": "dense", "frames": 16, "stride": 4, "clips": 1, "target_fps": 0.0, "pad": False},
        "max_broken_fraction": 0.05,  # above it a run stops
        "max_short_fraction": 0.05,  # the same of videos that are too short for a clip
        "flow": "",  # a folder of flow that was computed before (data/stored_flow.py); empty: none is read
        # Which recording a video was cut from: a regular expression whose first group is the same in the names of all its videos, as in UCF101's
        # v_Run_g01_c02.avi r"(v_.*_g\d+)_c\d+"; empty: every video is a recording of its own.
        "group": "",
        "memory_gb": 0.0,  # decoded frames to keep in memory, at most; what does not fit is decoded every time
        "workers": 0,  # decoding threads; 0: one per core
    }


def optimizer() -> dict[str, Any]:
    """AdamW with a cosine schedule; train/optimizer.py says what each key means."""
    return {
        "name": "adamw", "learning_rate": 1.5e-4, "final_learning_rate": 0.0, "start_learning_rate": 0.0, "lr_batch": 256,
        "schedule": "cosine", "drops": (), "warmup_steps": 0, "weight_decay": 0.05, "weight_decay_final": -1.0, "decay_all": False,
        "clip_norm": 0.0, "layer_decay": 1.0, "b1": 0.9, "b2": 0.95, "eps": 1e-8, "momentum": 0.9, "nesterov": False, "trust_coefficient": 0.001,
        "rates": {},  # part of the method -> what its learning rate is multiplied by
        "frozen": (),  # patterns of the names of parameters that stay as they are
        "by_turn": False,  # schedules of each turn, where a method has several, and not of the whole training
    }  # fmt: skip


# How a transformer's blocks compute (models/transformer.py, BlockConfig); no result depends on it.
BLOCKS = {"impl": "auto", "unroll": 0, "remat": "auto"}


def base() -> ConfigDict:
    """Every key of the house. Recipes fill in `model`, `objective`, `eval` and change what their paper changes."""
    return ConfigDict(
        {
            "seed": 0,
            "distributed": "auto",  # join other processes: auto, on, off
            "data": data(),
            "model": {},
            # Weights that a fresh run starts from: a workdir or an export, which of its parts, and what is left out of its encoder.
            "initial": {"checkpoint": "", "parts": ("encoder",), "drop": ()},
            "objective": {},
            "optimizer": optimizer(),
            "train": {
                "steps": 0,
                "epochs": 0,
                "batch_size": 256,
                "grad_accumulation": 1,
                "log_every": 20,
                "picture_every": 0,
                "validate_every": 0,
                "knn_every": 0,  # steps between two readings of online kNN, on eval.train and eval.test
                "knn_videos": 0,  # of eval.train that it takes; 0: all
            },
            "guard": {"spike_factor": 10.0, "spike_after": 100, "decay": 0.99, "max_in_a_row": 10},
            "checkpoint": {"every": 1000, "keep": 2},
            "mesh": {"data": -1, "fsdp": 1, "seq": 1, "model": 1},
            "eval": {},
            "report": True,
        }
    )


def evaluation() -> ConfigDict:
    """Every key of an evaluation: configs/eval/*.py, and `eval` of a recipe that ends with a downstream number."""
    probe = {
        "steps": 1000,
        "batch_size": 64,
        "optimizer": optimizer() | {"learning_rate": 1e-3, "lr_batch": 0, "weight_decay": 1e-4, "b2": 0.999},
    }
    tuned = {
        "labels": (0,),  # budgets of labeled videos, 0 is all
        "steps": 1000, "batch_size": 32, "smoothing": 0.1,
        "head": {"name": "fc_norm"},
        "model": {"final_norm": False},  # other fields of the backbone
        "drop": ("norm",),  # parameters of the export that such a backbone does not have
        "view": {"crop": {"name": "random_resized"}, "flip": 0.5, "color": ()},
        "eval_view": {"short_side": 0, "crops": 1},
        "mix": {},
        "optimizer": optimizer() | {"learning_rate": 5e-4, "b2": 0.999, "layer_decay": 0.75},
    }  # fmt: skip
    return ConfigDict(
        {
            "checkpoint": "",  # a workdir or an export
            "train": data("train"),
            "test": data("test"),
            "batch_size": 64,
            "view": {"short_side": 0, "crops": 1},
            # Of a method that has several, which are evaluated: one, or several together ("video", "flow"), whose probabilities or similarities are averaged.
            "features": ("video",),
            "protocols": ("knn", "linear", "attentive", "finetune"),
            "seeds": (0,),
            "baseline": True,  # the same on a randomly initialized encoder
            "knn": {"k": 20, "temperature": 0.07, "center": "none"},
            "retrieval": {"k": (1, 5, 10, 20, 50), "center": "none"},  # CoCLR's numbers are with "each"
            "linear": probe | {"head": {"name": "linear"}},
            "attentive": probe | {"head": {"name": "attentive", "heads": 4}},
            "finetune": tuned,
            "classifier": {"view": {"short_side": 0, "crops": 1}},  # the checkpoint's own head
        }
    )


def evaluation_like(config: ConfigDict) -> ConfigDict:
    """`eval` of a recipe whose videos for it only the user can name (eval.train.path, eval.test.path): read as those of training are, the clips as long as
    the model's, at fixed places (fine-tuning draws them); no protocol until one is asked for. Call it when data, model and objective are filled in.
    """
    made = evaluation()
    made.protocols = ()
    for split in (made.train, made.test):
        split.update(
            {"source": "folder"} | {name: config.data[name] for name in ("layout", "canvas", "max_broken_fraction", "max_short_fraction")}
        )
        split.sampler.update(
            {"name": "views", "frames": config.model.frames} | {key: config.data.sampler[key] for key in ("stride", "target_fps", "pad")}
        )
    made.view = made.finetune.eval_view = config.objective.eval_view.to_dict()
    return made


def named_in(group: str, text: str) -> str:
    """What is said of settings of `data` (data.path, --config.data.path), of those of the same names in another group of data, such as eval.test."""
    names = "|".join(sorted(data()))
    return re.sub(rf"(?<![\w./])(--config\.)?data\.(?=({names})\b)", lambda found: f"{found[1] or ''}{group}.", text)


def by_epochs(config: ConfigDict, epochs: int, warmup_epochs: int, num_examples: int) -> None:
    """Sets steps and warm-up to follow train.batch_size, train.epochs and data.num_examples lazily, so that overriding one of those moves them too."""
    config.train.epochs = epochs
    config.data.num_examples = num_examples
    batch = config.train.get_ref("batch_size")
    examples = config.data.get_ref("num_examples")
    config.train.steps = config.train.get_ref("epochs") * examples // batch
    config.optimizer.warmup_steps = examples * warmup_epochs // batch


COUNTS = r"train\.epochs|(.*\.)?num_examples"  # settings that are nothing but what others are counted by


def check_counts(alone: ConfigDict, made: ConfigDict, given: Sequence[str]) -> None:
    """Raises UserError where a setting of `given` (names of overrides) that others are counted by is another in `made` than in the recipe `alone`, and nothing
    in this recipe is counted by it: it would be kept in the run's config as if it held. Where train.steps is given too, that one holds.
    """
    for key in given:
        if not re.fullmatch(COUNTS, key) or _value(made, key) == _value(alone, key):
            continue
        of_training = key in ("train.epochs", "data.num_examples")
        if not (of_training and "train.steps" in given) and not _moves(made, key):
            raise UserError(
                f"{key} counts nothing in this recipe: " + ("set train.steps" if of_training else f"leave it at {_value(alone, key)}")
            )


def _moves(config: ConfigDict, key: str) -> bool:
    """Whether any other setting follows this number."""
    group, name = _value(config, key.rpartition(".")[0]), key.rpartition(".")[2]
    old, before = group[name], to_dict(config)
    group[name] = old + 10**9  # any step moves it out of what it is divided by
    after = to_dict(config)
    group[name] = old
    return any(not line.startswith(f"{key}: ") for line in differences(before, after))


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Plain nested dict, JSON-ready (tuples become lists), lazy references computed."""
    return json.loads(config.copy_and_resolve_references().to_json_best_effort())


def told(settings: Any, defaults: Any) -> Any:
    """A group of settings without those that are as in `defaults`, and without groups of which nothing is left then: what was said. A setting that comes
    later, and by default changes nothing, changes nothing here.
    """
    if not isinstance(settings, Mapping) or not isinstance(defaults, Mapping):
        return settings
    kept = {key: told(value, defaults.get(key)) for key, value in settings.items() if key not in defaults or value != defaults[key]}
    return {key: value for key, value in kept.items() if value != {} or settings[key] == {}}


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """'train.steps: 100 -> 200' for every value that differs."""
    out = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}: {a} -> {b}")
    return out


def overridden(argv: Sequence[str]) -> list[str]:
    """The settings that arguments as `read_overrides` gives them name: 'train.steps', ..."""
    return [match[1] for arg in argv if (match := re.fullmatch(r"--config\.([^=]+)=.*", arg, re.DOTALL))]


def groups_of_data(config: ConfigDict) -> dict[str, ConfigDict]:
    """The groups that have all keys of `data`, by their names: 'data', 'eval.train', ..."""
    groups = {path: _value(config, path) for path in paths(config)}
    return {path: group for path, group in groups.items() if isinstance(group, ConfigDict) and data().keys() <= set(group)}


def paths(config: ConfigDict, prefix: str = "") -> list[str]:
    """Every key as the command line spells it: 'train.batch_size', ..."""
    out = []
    for key, value in config.items():
        out += [f"{prefix}{key}", *paths(value, f"{prefix}{key}.")] if isinstance(value, ConfigDict) else [f"{prefix}{key}"]
    return out


def read_overrides(config: ConfigDict, argv: Sequence[str]) -> list[str]:
    """`argv` with every setting as `--config.key=value`, each key once, as it was given last (ml_collections adds up the tuples of a key that is repeated):
    `--config.key value` joined, `--noconfig.key` as false, tuples written as Python writes them (`a,b`, empty and `(a, b)` are tuples of names too).

    Raises UserError for what the recipe `config` cannot take: an unknown key (naming the nearest), a value of another type.
    """
    known, rest = paths(config), list(argv)
    out: list[tuple[str, str]] = []  # (its key, empty where it is no setting; the argument)
    while rest:
        arg = rest.pop(0)
        match = re.fullmatch(r"--?(no)?config\.([^=]*)(=?)(.*)", arg, re.DOTALL)
        if not match:
            out.append(("", arg))
            continue
        negated, key, equals, text = match.groups()
        if key not in known:
            raise _unknown_key(key, known)
        value = _value(config, key)
        if isinstance(value, ConfigDict):
            if not value:
                raise UserError(f"--config.{key} is a group without settings in this recipe: give it some in the recipe's file")
            raise UserError(f"--config.{key} is a group of settings ({', '.join(value)}): set --config.{key}.NAME=VALUE")
        if isinstance(value, bool) and not equals:
            out.append((key, f"--config.{key}={'false' if negated else 'true'}"))
            continue
        if negated:
            raise UserError(f"{arg}: only a setting that is true or false has such a form, write --config.{key}=VALUE")
        if not equals and (not rest or rest[0].startswith("--")):
            raise UserError(f"--config.{key} lacks its value: write --config.{key}=VALUE")
        out.append((key, f"--config.{key}={_readable(key, text if equals else rest.pop(0), value)}"))
    last = {key: i for i, (key, _) in enumerate(out)}
    return [arg for i, (key, arg) in enumerate(out) if not key or last[key] == i]


def _unknown_key(key: str, known: Sequence[str]) -> UserError:
    """Nearest are settings whose last words are the key; then neighbors in its group, the same name in another group, and what is spelt alike as a whole."""
    group, _, name = key.rpartition(".")
    if group in known and not any(path.startswith(f"{group}.") for path in known):
        return UserError(f"no setting --config.{key}: {group} has no settings in this recipe")
    groups = {path.rpartition(".")[0] for path in known}
    if whole := [path for path in known if path.endswith(f".{key}") and path not in groups]:
        whole.sort(key=lambda path: (path.startswith("eval."), path.count(".")))
        return UserError(f"no setting --config.{key}: did you mean {' or '.join(f'--config.{path}' for path in whole[:4])}?")
    beside = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == group}
    cutoff = 0.5 if group else 0.8  # the groups themselves have many names
    by_depth = sorted(known, key=lambda path: (path.startswith("eval."), path.count(".")), reverse=True)
    anywhere = {path.rpartition(".")[2]: path for path in by_depth}
    near = [beside[n] for n in difflib.get_close_matches(name, beside, n=1, cutoff=cutoff)]
    near += [anywhere[n] for n in difflib.get_close_matches(name, anywhere, n=1, cutoff=0.9)]
    near += difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if near:
        return UserError(f"no setting --config.{key}: did you mean --config.{near[0]}?")
    if beside and group:
        return UserError(f"no setting --config.{key}: {group} has {', '.join(sorted(beside))}")
    return UserError(f"no setting --config.{key}: top-level keys: {', '.join(sorted(path for path in known if '.' not in path))}")


def _value(config: ConfigDict, path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config


def _tuple(text: str) -> tuple:
    """What a person means by it: Python's own way of writing a tuple or a list, or names with commas between them."""
    try:
        value = ast.literal_eval(text) if text.strip() else ()
    except (SyntaxError, ValueError):
        value = text.strip().removeprefix("(").removesuffix(")").removeprefix("[").removesuffix("]")
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(value) if isinstance(value, tuple | list) else (value,)


# type of the recipe's value -> (what reads the text, what it must be); other types are left to ml_collections' own reading.
_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


def _readable(key: str, text: str, value: Any) -> str:
    """The text as ml_collections reads it. Raises UserError for a value of another type than the recipe's `value`."""
    if isinstance(value, tuple):
        return repr(_tuple(text))
    if type(value) in _READERS:
        read, wanted = _READERS[type(value)]
        try:
            read(text)
        except (KeyError, ValueError):
            raise UserError(f"--config.{key}={text}: it must be {wanted}, such as {json.dumps(value)}") from None
    return text


def _whole(values: Any, least: int = 1, count: int | None = None) -> bool:
    """Whole numbers from `least` on; `count` of them, or at least one."""
    right = len(values) == count if count else len(values) > 0
    return right and all(isinstance(n, int) and n >= least for n in values)


# (regex on the path, what the value must be, test of (value, its group)); the first that matches a path counts. Names that stand in no rule are
# checked by what they configure.
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
    for path in paths(config):
        value, group = _value(config, path), _value(config, path.rpartition(".")[0]) if "." in path else config
        if isinstance(value, ConfigDict):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path} is {value}: it must be a finite number")
        rule = next(((wanted, test) for pattern, wanted, test in LIMITS if re.search(pattern, path)), None)
        if rule and not rule[1](value, group):
            raise UserError(f"{path} is {value}: it must be {rule[0]}")
