"""PRP with R3D of 10 layers on UCF101: at which rate is the clip sampled, and how does it look at twice the rate?

Paper: Yao, Liu, Luo, Zhou, Ye, "Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation Learning", CVPR 2020 (arXiv 2006.11476).
Command: python -m vssl_jax.main --config=configs/playback_rate_r3d10_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 66.5 and HMDB51 29.7 after fine-tuning (the authors' repository), nearest neighbor R@1 22.8 (as published; the net called R3D there is the
10-layer one).
Reproduced here: not yet run at full size. The rates, the weights of the losses, learning rate, decay, batch, epochs and the middle crop are the authors'
code's, and so is that the frames between those of rate 1 are left out of the loss. Unlike there: every video serves every rate (they draw the rate first and
pass over what is too short for it); what moves is weighed by neighboring given frames and all channels together (theirs by every fifth dense frame, channel
by channel); the loss is a mean over all frames that count (theirs of each clip first); the decoder has one convolution a step, with GroupNorm, and ends
linear (theirs with transposed convolutions, BatchNorm and a ReLU at the end), and none stands before it and the answer; the learning rate is constant (theirs
falls by the loss on 800 held-out videos), and that of the answer's layer is not ten times the rest's. Weights start as He et al. have them, there as PyTorch
does.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    local = {"rates": (1, 2, 4), "widths": (32, 16, 8)}  # videos of 32 frames
    return pretext.recipe(arg, _paper, local=local, smoke={"widths": (8, 4)}, frames=span)


def span(config):
    return (2 * config.model.frames - 1) * max(config.objective.rates) // 2 + 1


def _paper(config):
    config.model = {"name": "r3d10_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": {"name": "center", "fraction": 0.875}, "flip": 0.0, "color": ()}
    config.objective = {
        "name": "playback_rate", "rates": (1, 2, 4, 8), "classification": 0.1, "reconstruction": 1.0, "emphasis": (0.8, 2.0), "widths": (256, 128, 64),
        "view": view, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config), too_short=0.5)
    config.train.batch_size = 8
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    pretext.sgd(config, rate=1e-2, weight_decay=5e-4, decay_all=True)
