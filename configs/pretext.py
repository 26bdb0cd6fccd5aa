"""What the recipes of pretext tasks share: a recipe says what its paper changes, and what its task is at small size.

`:local` is the same for every task, so that their numbers can stand in one table: the small CNN on the embedded dataset's 64-pixel videos, 8 frames a clip,
500 steps of 32 videos, one rate; only the task and the frames that it needs differ. All see the whole picture, unflipped and in its colors, so the guards
that a paper puts into its view (moved frames, one color channel) are in its own recipe and in `:smoke`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import videomae
from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name

# Videos in the published training lists.
NUM_EXAMPLES = {"k400": 240_436, "ucf101": 9_537}
WHOLE = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}
FIXED = {"name": "multiscale", "scales": (0.875,), "distort": 0, "places": 0}  # a side of 112 / 128 of the short one, anywhere
LOCAL_FRAMES = 8


def recipe(
    variant: str,
    paper: Callable[[ConfigDict], None],
    local: Mapping[str, Any],
    smoke: Mapping[str, Any],
    frames: Callable[[ConfigDict], int],
):
    """The locked config of one recipe.

    Args:
      variant: '', 'local' or 'smoke'.
      paper: fills in the paper's settings.
      local, smoke: settings of the objective that differ there.
      frames: how many dense frames the task needs of a clip, from its config.
    """
    config = config_lib.base()
    config.data.source = "folder"
    config.data.layout = "yuv420"
    config.train.picture_every = 1000
    paper(config)
    config.eval = config_lib.evaluation_like(config)
    if variant in ("local", "smoke"):
        config.objective.update(local if variant == "local" else {**local, **smoke})
        view = config.objective.view.to_dict()
        small_size(config)
        config.objective.view = WHOLE
        if variant == "smoke":
            toy_size(config)
            config.objective.view = view
        config.data.sampler.frames = frames(config)
    elif variant:
        raise unknown_name("variant", variant, ("local", "smoke"))
    return config.lock()


def sgd(config: ConfigDict, rate: float, weight_decay: float, drops: tuple[float, ...] = (), decay_all: bool = False) -> None:
    """Plain SGD with momentum .9 at a constant rate, or one that falls to a tenth after each of the shares `drops` of the training. `decay_all`: biases and
    normalization too, as in the authors' PyTorch.
    """
    config.optimizer.update(
        {
            "name": "sgd",
            "learning_rate": rate,
            "lr_batch": 0,
            "momentum": 0.9,
            "weight_decay": weight_decay,
            "decay_all": decay_all,
            "schedule": "steps" if drops else "none",
        }
    )
    config.optimizer.drops = drops


def clips(config: ConfigDict, frames: int, stride: int = 1, canvas: tuple[int, int] = (128, 172), too_short: float = 0.05) -> None:
    """Dense clips of that many frames; films of 128 rows, as most of these methods read them. `too_short`: the share of videos that may be left out before
    the run stops; UCF101's begin at 29 frames, and 186 are their mean.
    """
    config.data.sampler.update({"frames": frames, "stride": stride})
    config.data.canvas = canvas
    config.data.max_short_fraction = too_short


def small_size(config: ConfigDict) -> None:
    config.model = {"name": "cnn_small", "frames": LOCAL_FRAMES, "size": 64, "dtype": "auto"}
    videomae.small(config, frames=LOCAL_FRAMES, size=64)
    config.data.max_short_fraction = 0.05
    config.data.sampler.stride = 1
    config.train.update({"batch_size": 32, "steps": 500, "log_every": 50, "picture_every": 250, "validate_every": 250})
    config.optimizer = config_lib.optimizer()
    config.optimizer.update({"learning_rate": 2e-3, "lr_batch": 0, "warmup_steps": 25, "b2": 0.999})
    config.checkpoint.every = 250
    tuned = config.eval.finetune
    tuned.update({"labels": (200,), "steps": 400, "drop": ()})
    tuned.head = {"name": "linear"}
    tuned.model = {}
    tuned.optimizer.update({"learning_rate": 2e-3, "layer_decay": 1.0, "warmup_steps": 20})


def toy_size(config: ConfigDict) -> None:
    config.model.update({"width": 4, "frames": 4, "size": 32})
    config.data.world_videos = config.eval.train.world_videos = config.eval.test.world_videos = 16
    config.train.update({"batch_size": 8, "steps": 4, "log_every": 1, "picture_every": 2, "validate_every": 2})
    config.optimizer.warmup_steps = 2
    config.checkpoint.every = 2
    config.eval.batch_size, config.eval.knn.k, config.eval.retrieval.k = 8, 5, (1, 5)
    for split in (config.eval.train, config.eval.test):
        split.sampler.frames = 4
    for name in ("linear", "attentive", "finetune"):
        config.eval[name].update({"steps": 3, "batch_size": 8})
        config.eval[name].optimizer.warmup_steps = 0
    config.eval.finetune.labels = (8,)
