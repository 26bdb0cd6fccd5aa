"""Odd-one-out (O3N) with R3D-18 on UCF101.

Paper: Fernando, Bilen, Gavves, Gould, "Self-Supervised Video Representation Learning With Odd-One-Out Networks", CVPR 2017.
Command: python -m vssl_jax.main --config=configs/odd_one_out_r3d18_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 60.3 and HMDB51 32.5 after fine-tuning (as published, with CaffeNet on stacks of frame differences).
Reproduced here: not yet run at full size. The paper's six clips of which one is out of order; the network sees the clips themselves and not the differences of
frames, and rate, epochs and batch are those of clip order prediction, whose decay spares biases and normalization here.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"skip": 2, "hidden": 64}, smoke={"hidden": 16}, frames=span)


def span(config):
    return 2 * ((config.model.frames - 1) * config.objective.skip + 1)  # room for clips at different places


def _paper(config):
    config.model = {"name": "r3d18", "frames": 6, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {
        "name": "odd_one_out", "count": 6, "skip": 2, "fusion": "differences", "hidden": 128, "dropout": 0.5, "view": view,
        "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config))
    config.train.batch_size = 8
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
