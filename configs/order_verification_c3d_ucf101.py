"""Order verification (Shuffle and Learn) with C3D on UCF101.

Paper: Misra, Zitnick, Hebert, "Shuffle and Learn: Unsupervised Learning using Temporal Order Verification", ECCV 2016.
Command: python -m vssl_jax.main --config=configs/order_verification_c3d_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 50.2 and HMDB51 18.1 after fine-tuning (as published, with CaffeNet on single frames).
Reproduced here: not yet run at full size. The paper's task and its 25 % of questions in order; the network is a 3-D one (it sees each frame as a still clip),
the five frames are equally far apart, and rate, decay, epochs and batch are those of clip order prediction.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    local = {"gaps": (4, 7), "positive": 0.5, "hidden": 64}
    return pretext.recipe(arg, _paper, local=local, smoke={"gaps": (1, 2)}, frames=span)


def span(config):
    return 4 * config.objective.gaps[1] + 1


def _paper(config):
    config.model = {"name": "c3d_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": (), "per": "video"}
    config.objective = {
        "name": "order_verification", "gaps": (4, 15), "positive": 0.25, "by_motion": True, "hidden": 512, "dropout": 0.5, "view": view,
        "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config), too_short=0.25)
    config.train.batch_size = 8
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
