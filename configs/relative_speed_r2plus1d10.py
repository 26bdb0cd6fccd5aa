"""RSPNet with R(2+1)D of 10 layers on Kinetics-400: which clip runs at the same speed, and which is of the same video?

Paper: Chen, Huang, He, Long, Zeng, Wen, Tan, Gan, "RSPNet: Relative Speed Perception for Unsupervised Video Representation Learning", AAAI 2021 (arXiv
2011.07949).
Command: python -m vssl_jax.main --config=configs/relative_speed_r2plus1d10.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated; the authors' command names 4 GPUs.
Expected: UCF101 81.1 and HMDB51 44.6 after fine-tuning (the authors' repository; the net called R(2+1)D there is the 10-layer one).
Reproduced here: not yet run at full size. Queue, decay, temperature, margin, width, weights, speeds, crop, colors, epochs, rate and decay of weights are
those of the authors' code, on the 4 GPUs of their command with 32 clips each. Unlike there, each video draws its speed by itself, where half of every batch
had either; query and keys lie within 128 frames, where they lay anywhere, and shorter videos are left out, not looped; batch statistics are of all devices
and of both keys together. Weights start as He et al. have them, there as PyTorch does.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


def get_config(arg: str = ""):
    # Of 500 steps an average of .999 would end with six tenths of its random weights.
    local = {"queue": 1024, "decay": 0.99}
    return pretext.recipe(arg, _paper, local=local, smoke={"queue": 16, "dim": 8}, frames=lambda config: 2 * span(config))


def span(config):
    return (config.model.frames - 1) * max(config.objective.speeds) + 1


def _paper(config):
    config.model = {"name": "r2plus1d10_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    config.model.update({"pixel_mean": IMAGENET_MEAN, "pixel_std": IMAGENET_STD})
    color = (
        {"name": "gray", "prob": 0.2},
        {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "shuffle": True},
    )
    view = {"crop": {"name": "random_resized", "area": (0.4, 1.0)}, "flip": 0.5, "color": color}
    config.objective = {
        "name": "relative_speed", "speeds": (1, 2), "queue": 16_384, "dim": 128, "temperature": 0.07, "margin": 2.0, "decay": 0.999,
        "weights": (1.0, 1.0), "view": view, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=128, canvas=(256, 456))
    config.train.batch_size = 128
    config_lib.by_epochs(config, epochs=200, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=0.1, weight_decay=1e-4, decay_all=True)
    config.optimizer.update({"schedule": "cosine", "final_learning_rate": 1e-4})
