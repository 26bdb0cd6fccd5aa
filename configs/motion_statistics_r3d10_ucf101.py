"""Motion and appearance statistics with R3D of 10 layers on UCF101: where does the clip move, which way, and in which colors?

Paper: Wang, Jiao, Bao, He, Liu, Liu, "Self-supervised Spatio-temporal Representation Learning for Videos by Predicting Motion and Appearance Statistics", CVPR
2019 (arXiv 1904.03597), and its journal version of 2021.
Command: python -m vssl_jax.main --config=configs/motion_statistics_r3d10_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: not known for this network and data set, which are the defaults of the authors' code; C3D on Kinetics-400 has UCF101 61.2 and HMDB51 33.4 after
fine-tuning (as published).
Reproduced here: not yet run at full size. Weights, rates, decay, drops and crop are those of the authors' code; its batch is 30 in a comment and 4 in force,
and its biases learn twice as fast, which is not done here. Its 18 epochs are of a list with several clips of every video, about ten by the list's size (the
authors' code for TensorFlow lowers the rate every 20,000 steps, too): 180 epochs of the videos. Motion is measured by differences of frames, not by stored
TV-L1 flow; colors by histograms of 32 bins, not 256; slopes are central differences, there Prewitt's; where nothing moves no answer is asked, there 0.
Pictures are RGB in [0, 1], not BGR to 255; a mirrored clip's motion is mirrored, there it is not. Two errors of the code, in the colors of the second ring
and of all places, are not repeated. Weights start as He et al. have them, there as PyTorch does.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={}, smoke={}, frames=lambda config: config.model.frames)


def _paper(config):
    config.model = {"name": "r3d10_vcop", "frames": 16, "size": 112, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {
        "name": "motion_statistics", "error": "squares", "motion": 1.0, "appearance": 0.1, "bins": 32,
        "view": view, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=16)
    config.train.batch_size = 30
    config_lib.by_epochs(config, epochs=180, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    pretext.sgd(config, rate=5e-4, weight_decay=0.005, drops=(1 / 3, 2 / 3), decay_all=True)
