"""SpeedNet with S3D-G on Kinetics-400: normal speed, or faster?

Paper: Benaim, Ephrat, Lang, Mosseri, Freeman, Rubinstein, Irani, Dekel, "SpeedNet: Learning the Speediness in Videos", CVPR 2020 (arXiv 2004.06130).
Command: python -m vssl_jax.main --config=configs/speediness_s3dg.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 81.1 and HMDB51 48.8 after fine-tuning, nearest neighbor R@1 13.0 on UCF101 (as published).
Reproduced here: not yet run at full size. There is no code of the authors. The clip (64 frames), the ranges of skips, the pooling and the sizes of 64 to 336
pixels are as the paper is cited, not checked against its text; batch, rate, decay, epochs, crop and flip were not at hand and are this project's
choice. Unlike the original, frames are skipped evenly and not at random, and the network always gets 224 pixels: resized to 64..336 and back.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

import math

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={}, smoke={}, frames=span)


def span(config):
    return math.floor((config.model.frames - 1) * config.objective.fast[1] + 0.5) + 1


def _paper(config):
    config.model = {"name": "s3d_g", "frames": 64, "size": 224, "dtype": "auto"}
    # Both versions of a video have the same crop and flip: they differ in nothing but speed and sharpness.
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": (), "per": "video"}
    config.objective = {
        "name": "speediness", "normal": (1.0, 1.2), "fast": (1.7, 2.2), "resize": (64 / 224, 336 / 224),
        "view": view, "eval_view": {"short_side": 256, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config), canvas=(256, 456))
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-2, weight_decay=5e-4)
