"""Order verification (Shuffle and Learn) with C3D on UCF101.

Paper: Misra, Zitnick, Hebert, "Shuffle and Learn: Unsupervised Learning using Temporal Order Verification", ECCV 2016.
Command: python -m vssl_jax.main --config=configs/order_verification_c3d_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 50.2 and HMDB51 18.1 after fine-tuning (as published, with CaffeNet on single frames).
Reproduced here: not yet run at full size. The paper's task and its 25 % of questions in order; batch, rate, its drop, decay, the whole picture squeezed and
not mirrored, and the one linear layer that answers are those of the authors' files. Unlike there, the network is a 3-D one (it sees each frame as a still
clip), the five frames are equally far apart, in a window with motion that is looked for among 122 frames (shorter videos are left out), and the answer is
one score, not two.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext


def get_config(arg: str = ""):
    local = {"gaps": (4, 7), "positive": 0.5, "hidden": 64, "dropout": 0.5}
    return pretext.recipe(arg, _paper, local=local, smoke={"gaps": (1, 2)}, frames=lambda config: span(config) + 3)  # the embedded videos have 32


def span(config):
    return 4 * config.objective.gaps[1] + 1


def _paper(config):
    config.model = {"name": "c3d_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": {"name": "whole"}, "flip": 0.0, "color": (), "per": "video"}
    config.objective = {
        "name": "order_verification", "gaps": (4, 15), "positive": 0.25, "by_motion": True, "hidden": 0, "dropout": 0.0, "view": view,
        "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=2 * span(config), too_short=0.5)  # room to look for motion
    config.train.batch_size, config.train.steps = 128, 100_000
    config.data.num_examples = pretext.NUM_EXAMPLES["ucf101"]
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4, drops=(0.8,))
