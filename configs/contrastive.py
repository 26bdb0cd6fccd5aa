"""What the recipes of joint-embedding methods share.

`:local` is the same for every method, and of the pretext tasks' size (configs/pretext.py), so that all numbers can stand in one table: the small CNN on the
embedded dataset's 64-pixel videos, two clips of 8 frames of each video, 500 steps of 32 videos, one rate.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import pretext
from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name

EVAL_VIEW = {"short_side": 256, "crops": 1}
# Of methods that remember every video: those of the embedded dataset's training split, clustered once an epoch.
LOCAL_BANK = {"videos": 3000, "refresh_every": 3000 // 32}
SMOKE_BANK = {"videos": 16, "refresh_every": 16 // 8}


def recipe(
    variant: str,
    paper: Callable[[ConfigDict], None],
    local: Mapping[str, Any],
    smoke: Mapping[str, Any],
    dense: int = 1,
    more: int = 0,
    eval_stride: int = 0,
):
    """The locked config of one recipe.

    Args:
      variant: '', 'local' or 'smoke'.
      paper: fills in the paper's settings.
      local, smoke: settings of the objective that differ there, `views` and `head` among them where they are not the usual ones.
      dense, more: how many times as long as the longest view a clip is there, and how many frames longer.
      eval_stride: of the clips of its evaluation, where a view takes not every frame of a clip; 0: as the clips are read.
    """
    config = config_lib.base()
    config.data.source = "folder"
    config.data.layout = "yuv420"
    paper(config)
    config.eval = config_lib.evaluation_like(config)
    for split in (config.eval.train, config.eval.test):
        split.sampler.stride = eval_stride or split.sampler.stride
    if variant in ("local", "smoke"):
        _objective(config, {"views": local_views(), "head": {"hidden": (64,), "dim": 32}, **local})
        pretext.small_size(config)
        config.train.knn_every, config.data.group, config.data.sampler.target_fps = 250, "", 0.0
        if variant == "smoke":
            _objective(config, {"head": {"hidden": (8,), "dim": 8}, **smoke})
            pretext.toy_size(config)
            config.train.knn_every = 2
        spans = [
            max(view.get("first", 0), 0) + (view.get("frames", config.model.frames) - 1) * view.get("stride", 1) + 1
            for view in config.objective.views
        ]
        config.data.sampler.update(
            {"frames": dense * max(spans) + more, "clips": 1 + max(view.get("clip", 0) for view in config.objective.views)}
        )
    elif variant:
        raise unknown_name("variant", variant, ("local", "smoke"))
    return config.lock()


def _objective(config: ConfigDict, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        config.objective[name] = value  # whole: update() would leave what an older group had


def local_views(clips: int = 2, **changes: Any) -> tuple[dict[str, Any], ...]:
    """A view of each clip. Not flipped: a flip would change the embedded dataset's classes."""
    color = (
        {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "prob": 0.8},
        {"name": "gray", "prob": 0.2},
    )
    view = {"crop": {"name": "random_resized", "area": (0.4, 1.0)}, "flip": 0.0, "color": color} | changes
    return tuple(view | {"clip": clip} for clip in range(clips))


def slowonly(config: ConfigDict, clips: int, rate: float, weight_decay: float, lars: bool) -> None:
    """The setting of Feichtenhofer et al. 2021 as their public code has it: SlowOnly R50 on clips of 8 frames of 64 at 30 a second; a batch of 64 on each
    of 8 machines.

    Their code draws each clip's colors in the way of MoCo v2; its crop is by a share of the picture's area. Its 8 frames span the 64 from end to end,
    9 apart; its cosine begins at step 0, below the warm-up. Batch normalization is over the global batch and all views here, there over one view's 64
    clips of a machine.
    """
    config.model = {"name": "slowonly_r50", "frames": 8, "size": 224, "dtype": "auto", "last_scale": 1.0}
    config.data.sampler.update({"frames": 8, "stride": 9, "clips": clips, "target_fps": 30.0})
    config.data.canvas = (256, 456)  # a 16:9 film of 256 rows fits
    config.train.batch_size = 512
    config_lib.by_epochs(config, epochs=200, warmup_epochs=35, num_examples=pretext.NUM_EXAMPLES["k400"])
    config.optimizer.update(
        {
            "name": "lars" if lars else "sgd",
            "learning_rate": rate,
            "lr_batch": 64,
            "schedule": "whole_cosine",
            "nesterov": True,
            "start_learning_rate": 0.001,
            "weight_decay": weight_decay,
        }
    )


def slowonly_views(clips: int) -> tuple[dict[str, Any], ...]:
    color = (
        {"name": "jitter", "brightness": 0.6, "contrast": 0.6, "saturation": 0.6, "hue": 0.15, "prob": 0.8, "shuffle": True},
        {"name": "gray", "prob": 0.2},
        {"name": "blur", "prob": 0.5, "sigma": (0.1, 2.0)},
    )
    crop = {"name": "random_resized", "area": (0.2, 0.766), "aspect": (0.75, 4 / 3)}
    return tuple({"clip": clip, "crop": crop, "flip": 0.5, "color": color} for clip in range(clips))


def remember(config: ConfigDict) -> None:
    """Places for all videos of the data, which are clustered once an epoch. Both follow data.num_examples and train.batch_size."""
    examples, batch = config.data.get_ref("num_examples"), config.train.get_ref("batch_size")
    config.objective.videos = examples + 0  # a value of its own: setting it leaves num_examples as it is
    config.objective.refresh_every = examples // batch
