"""Temporal transformations (Jenni et al.) with R3D-18 on UCF101.

Paper: Jenni, Meishvili, Favaro, "Video Representation Learning by Recognizing Temporal Transformations", ECCV 2020.
Command: python -m vssl_jax.main --config=configs/temporal_transform_r3d18_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 79.3 and HMDB51 49.8 after fine-tuning (as published for R3D-18; which data set it was trained on, and the weight decay, are not
verified).
Reproduced here: not yet run at full size. Unlike the original, whose largest speed depends on how long a video is, all speeds are possible in every video,
and the short ones are left out; the four forms of a clip are flipped each by itself.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"speeds": 3}, smoke={}, frames=span)


def span(config):
    return (config.model.frames - 1) * 2 ** (config.objective.speeds - 1) + 1


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {"name": "temporal_transform", "speeds": 4, "view": view, "eval_view": {"short_side": 128, "crops": 1}}
    pretext.clips(config, frames=span(config), too_short=0.5)
    config.train.batch_size = 6
    config_lib.by_epochs(config, epochs=100, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    config.optimizer.update({"learning_rate": 3e-4, "lr_batch": 0, "weight_decay": 0.0, "b2": 0.999, "schedule": "none"})
