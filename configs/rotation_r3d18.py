"""3DRotNet with R3D-18 on Kinetics-400: by how many quarters is the clip turned?

Paper: Jing, Yang, Liu, Tian, "Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction", 2018 (arXiv 1811.11387).
Command: python -m vssl_jax.main --config=configs/rotation_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 62.9 and HMDB51 33.7 after fine-tuning (as published).
Reproduced here: not yet run at full size. All four turns of a clip are in a batch, 16 frames of 112 pixels, as in the paper; rate, its drops, decay and batch
are those of the authors' code, whose file goes on from step 116,000: the training ends at 120,000 here (their 100 epochs would be 750,000). Unlike there, a
clip is not first turned by up to 10 degrees, the network is torchvision's R3D-18 with its pixel statistics (theirs has 7x7x7 and a max pool at its start),
and one linear layer answers (theirs has a hidden one of 64).

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={}, smoke={}, frames=lambda config: config.model.frames)


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {"name": "rotation", "every": True, "view": view, "eval_view": {"short_side": 128, "crops": 1}}
    pretext.clips(config, frames=16, stride=2, canvas=(128, 228))
    config.train.batch_size = 32
    config.train.steps, config.data.num_examples = 120_000, pretext.NUM_EXAMPLES["k400"]
    pretext.sgd(config, rate=0.1, weight_decay=1e-3, drops=(0.2, 0.4, 0.6, 0.8), decay_all=True)  # every 24,000 steps
