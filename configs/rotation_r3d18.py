"""3DRotNet with R3D-18 on Kinetics-400: by how many quarters is the clip turned?

Paper: Jing, Yang, Liu, Tian, "Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction", 2018 (arXiv 1811.11387).
Command: python -m vssl_jax.main --config=configs/rotation_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 62.9 and HMDB51 33.7 after fine-tuning (as published).
Reproduced here: not yet run at full size. The paper's task (all four turns of a clip in a batch, 16 frames of 112 pixels); rate, decay and epochs are those of
clip order prediction, since the paper's own were not at hand.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={}, smoke={}, frames=lambda config: config.model.frames)


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {"name": "rotation", "every": True, "view": view, "eval_view": {"short_side": 128, "crops": 1}}
    pretext.clips(config, frames=16, stride=2)
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
