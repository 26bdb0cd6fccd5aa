"""Clip order prediction (VCOP) with R3D of 10 layers on UCF101.

Paper: Xu, Xiao, Zhao, Shao, Xie, Zhuang, "Self-supervised Spatiotemporal Learning via Video Clip Order Prediction", CVPR 2019.
Command: python -m vssl_jax.main --config=configs/clip_order_r3d10_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 64.9 and HMDB51 29.5 after fine-tuning, nearest neighbor R@1 14.1 (as published; the net called R3D there is the 10-layer one).
Reproduced here: not yet run at full size. Unlike the original, whose rate is constant and whose checkpoint is chosen on 800 validation videos, the last one
is taken; and batch normalization is over the three clips of all videos together, not by place. Weights start as He et al. have them, there as PyTorch does.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"gap": 2}, smoke={"gap": 1, "hidden": 16}, frames=span)


def span(config):
    return config.objective.count * config.model.frames + (config.objective.count - 1) * config.objective.gap


def _paper(config):
    config.model = {"name": "r3d10_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    # Every clip has a crop of its own: 112 pixels out of a film resized to 128 x 171.
    view = {"crop": pretext.FIXED, "flip": 0.0, "color": ()}
    config.objective = {
        "name": "clip_order", "count": 3, "gap": 8, "hidden": 512, "dropout": 0.5, "view": view, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=3 * 16 + 2 * 8, too_short=0.25)
    config.train.batch_size = 8
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4, decay_all=True)
