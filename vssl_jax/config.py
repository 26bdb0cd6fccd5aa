"""The keys that every recipe has, with their defaults, and how a recipe is read: as a dict, key by key, against another.

A recipe is a function get_config(arg) that starts from `base()`, and returns it locked: a key that does not exist is an error that names the nearest one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


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


def groups_of_data(config: ConfigDict) -> dict[str, ConfigDict]:
    """The groups that have all keys of `data`, by their names: 'data', 'eval.train', ..."""
    groups = {path: at(config, path) for path in paths(config)}
    return {path: group for path, group in groups.items() if isinstance(group, ConfigDict) and data().keys() <= set(group)}


def paths(config: ConfigDict, prefix: str = "") -> list[str]:
    """Every key as the command line spells it: 'train.batch_size', ..."""
    out = []
    for key, value in config.items():
        out += [f"{prefix}{key}", *paths(value, f"{prefix}{key}.")] if isinstance(value, ConfigDict) else [f"{prefix}{key}"]
    return out


def at(config: ConfigDict, path: str) -> Any:
    """The value or group that a key of `paths` names."""
    for key in path.split("."):
        config = config[key]
    return config
