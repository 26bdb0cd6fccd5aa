"""What the recipes of dense predictive coding share.

`:local` is of the same size as every other method's (configs/pretext.py): the small CNN on the embedded dataset's 64-pixel videos, 500 steps of 32 videos, one
rate (MemDPC half of it). Crop and colors are those of the joint embeddings (configs/contrastive.py), but that colors are drawn for every frame, as the
authors do: colors that last would tell a video from all others.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import contrastive, pretext
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

JITTER = {"name": "jitter", "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.25, "shuffle": True}


def recipe(variant: str, paper: Callable[[ConfigDict], None], own: Mapping[str, Any]):
    """The locked config of one recipe; `own`: what its objective has at small size besides."""
    local = {"blocks": 6, "frames": 4, "predicted": 2, "dim": 64, **own}
    smoke = {"blocks": 3, "frames": 2, "predicted": 1, "dim": 8}
    if "memory_rows" in own:
        smoke["memory_rows"] = 8
    config = pretext.recipe(variant, paper, local=local, smoke=smoke, frames=span)
    if not variant:
        return config
    config = config.unlock()
    (view,) = contrastive.local_views(clips=1)
    jitter, gray = view["color"]
    color = ({"name": "each_frame", "chain": (jitter,)}, gray)
    config.objective.view = {name: view[name] for name in ("crop", "flip")} | {"color": color}
    config.train.knn_every = 2 if variant == "smoke" else 250
    return config.lock()


def span(config: ConfigDict) -> int:
    """The frames of all blocks."""
    c = config.objective
    return c.blocks * (c.frames if c.frames else config.model.frames)


def paper(config: ConfigDict, gray: float, crop: Mapping[str, Any], memory_rows: int = 0) -> None:
    """8 blocks of 5 frames, of which 3 are predicted, by the authors' net of 18 layers in whose first two stages no convolution looks across time. Adam, 1e-3.

    Ours is the R3D-18 whose stages are such; see the recipes for what else differs. Its maps are of 8 x 8 places where theirs are of 4 x 4, so that a batch has
    4 times as many rows to compare, and 16 times as many scores.
    """
    config.model = {"name": "r3d18", "kinds": ("2d", "2d", "3d", "3d"), "frames": 5, "size": 128, "dtype": "auto"}
    config.model.update({"pixel_mean": IMAGENET_MEAN, "pixel_std": IMAGENET_STD})
    color = ({"name": "each_frame", "chain": ({"name": "one_channel", "prob": gray}, JITTER)},)
    config.objective = {
        "name": "dpc", "blocks": 8, "frames": 0, "predicted": 3, "dim": 256, "memory_rows": memory_rows, "dropout": 0.1,
        "view": {"crop": crop, "flip": 0.5, "color": color}, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    config.optimizer.update({"name": "adam", "learning_rate": 1e-3, "lr_batch": 0, "weight_decay": 1e-5, "decay_all": True, "b2": 0.999})
    config.optimizer.schedule = "none"
