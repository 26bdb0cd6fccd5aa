"""Pace prediction with R(2+1)D of 10 layers on Kinetics-400.

Paper: Wang, Jiao, Liu, "Self-supervised Video Representation Learning by Pace Prediction", ECCV 2020 (the classification task; the paper's contrastive term
is not in the public code either).
Command: python -m vssl_jax.main --config=configs/pace_r2plus1d10.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 77.1 and HMDB51 36.6 after fine-tuning (as published; the net called R(2+1)D there is the 10-layer one).
Reproduced here: not yet run at full size. Unlike the original, short videos are left out and not played in a loop, whose seams tell the pace; pictures are
RGB in [0, 1], not BGR to 255; an epoch is the data set once, where their list of UCF101 has every video ten times. Films keep their aspect, there all are
squeezed to 128 x 171. Weights start as He et al. have them, there as PyTorch does.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"paces": (1, 2, 4)}, smoke={}, frames=span)


def span(config):
    return (config.model.frames - 1) * max(config.objective.paces) + 1


def _paper(config):
    config.model = {"name": "r2plus1d10_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    # The authors' public code: strong colors, drawn for every frame anew, so that the pace cannot be read from how fast they change.
    jitter = {"name": "jitter", "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "prob": 0.8, "shuffle": True}
    color = ({"name": "each_frame", "chain": (jitter,)},)
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": color}
    config.objective = {"name": "pace", "paces": (1, 2, 3, 4), "view": view, "eval_view": {"short_side": 128, "crops": 1}}
    pretext.clips(config, frames=span(config), canvas=(128, 228))
    config.train.batch_size = 30
    config_lib.by_epochs(config, epochs=18, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-3, weight_decay=0.005, drops=(1 / 3, 2 / 3), decay_all=True)
