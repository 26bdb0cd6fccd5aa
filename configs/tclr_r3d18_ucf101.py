"""TCLR with R3D-18 on UCF101: other times of the same video are negatives too.

Paper: Dave, Gupta, Rizve, Shah, "TCLR: Temporal Contrastive Learning for Video Representation", CVIU 2022 (arXiv 2101.07974).
Command: python -m vssl_jax.main --config=configs/tclr_r3d18_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: one GPU of 48 GB, as users report; hours not stated.
Expected: UCF101 69.9 by a linear probe, 82 after fine-tuning, nearest neighbor R@1 56.1 (the authors' repository).
Reproduced here: not yet run at full size. The network (whose last stage keeps four times by dilation in place of stride), crops, colors, black boxes, batch,
rate, decay and the 5 epochs that the rate rises in are those of the authors' code, and so is that pictures are not normalized. Each term is a mean, and the
weights make them the sums of that code at a batch of 40. Unlike there, the rate rises evenly (there 1/100, 1/20, 1/10, 1/2 of it, epoch by epoch) and falls
by a cosine over 400 epochs, where it is divided by 10 whenever the loss has not fallen for 9 epochs; batch normalization is over all views together, and the
head's last has no scale and bias; contrast changes about the clip's mean; a crop can lie at the picture's right border; pictures are RGB, not BGR; videos of
57 to 63 frames are left out, there mirrored.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext
from vssl_jax import config as config_lib

PARTS = 4


def get_config(arg: str = ""):
    # 8 frames in 4 parts of 8: the parts overlap, since the videos have 32 frames.
    local = {"weights": (1.0, 1.0, 1.0, 1.0), "views": _views(contrastive.local_views(1)[0], frames=8, stride=3, apart=5)}
    toy = {"views": _views(contrastive.local_views(1)[0], frames=4, stride=2, apart=1)}
    return contrastive.recipe(arg, _paper, local=local, smoke=toy)


def _views(view, frames: int, stride: int, apart: int):
    """The sparse clip, and dense ones that begin `apart` frames from each other."""
    dense = tuple(view | {"clip": 0, "frames": frames, "stride": 1, "first": apart * part, "repeat": 2} for part in range(PARTS))
    return (view | {"clip": 0, "frames": frames, "stride": stride, "first": 0, "repeat": 2}, *dense)


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto", "last_time_stride": 1, "last_time_dilation": 2}
    config.model.update({"pixel_mean": (0.0,) * 3, "pixel_std": (1.0,) * 3})
    hue, saturation, brightness = (
        {"name": "jitter", key: strength, "prob": 0.3} for key, strength in (("hue", 0.1), ("saturation", 0.25), ("brightness", 0.25))
    )
    contrast = {"name": "jitter", "contrast": 0.25}
    others = (hue, saturation, brightness)
    color = (
        {"name": "one_of", "chains": ((contrast, *others), (*others, contrast), others), "probs": (0.125, 0.125, 0.75)},
        {
            "name": "one_of",
            "chains": (
                ({"name": "gray", "prob": 1.0}, {"name": "gamma", "power": (0.75, 1.25), "prob": 0.75}),
                ({"name": "drop_channel"},),
            ),
            "probs": (0.175, 0.125),
        },
        {"name": "cutout", "sides": (9, 18), "prob": 0.5},
    )
    view = {"crop": {"name": "square", "side": (0.6, 1.0)}, "flip": 0.5, "color": color}
    config.objective = {
        "name": "tclr", "parts": PARTS, "temperature": 0.1, "weights": (1.0, 14.0, 40.0, 16.0), "chunk": 0,
        "head": {"hidden": (512,), "dim": 128, "norm_last": True},
        "views": _views(view, frames=16, stride=4, apart=16), "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=64, canvas=(240, 320), too_short=0.25)
    config.train.batch_size = 40
    config_lib.by_epochs(config, epochs=400, warmup_epochs=5, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    config.optimizer.update({"name": "adam", "learning_rate": 1e-3, "lr_batch": 0, "weight_decay": 1e-9, "decay_all": True, "b2": 0.999})
