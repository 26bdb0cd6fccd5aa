"""BYOL over 2 clips of a video (rho = 2) with SlowOnly ResNet-50 on Kinetics-400.

Paper: Feichtenhofer, Fan, Xiong, Girshick, He, "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning", CVPR 2021 (arXiv 2104.14558); the
method is Grill et al. 2020 (arXiv 2006.07733).
Command: python -m vssl_jax.main --config=configs/byol_slowonly50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 machines of 8 GPUs; hours not stated.
Expected: Kinetics-400 67.4 by a linear probe, UCF101 94.0 after fine-tuning; with 4 clips, at twice the rate, 70.1 and 94.7 (the authors' repository).
Reproduced here: not yet run at full size. Frames are colored after the crop, where theirs are before. The loss is the mean over both directions, where theirs
is the sum, which under LARS is of consequence for biases and normalization only. `--config.objective.own=true` makes a clip's own vector a target too. What
holds for all recipes of this setting (batch normalization over all views and videos) stands in configs/contrastive.py. A short video is left out, there its
last frame is repeated.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive


def get_config(arg: str = ""):
    local = {"head": _head(64, 32), "predictor": {"hidden": (64,), "dim": 32}, "average": {"decay": 0.99, "final": 1.0}}
    return contrastive.recipe(arg, _paper, local=local, smoke={"head": _head(8, 8), "predictor": {"hidden": (8,), "dim": 8}})


def _head(hidden, dim):
    """The predictor reads its vectors as they are."""
    return {"hidden": (hidden,), "dim": dim, "unit_length": False}


def _paper(config):
    config.objective = {
        "name": "byol", "own": False, "chunk": 0, "head": _head(4096, 256), "predictor": {"hidden": (4096,), "dim": 256},
        "average": {"decay": 0.996, "final": 1.0}, "views": contrastive.slowonly_views(2), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    contrastive.slowonly(config, clips=2, rate=0.6, weight_decay=1e-6, lars=True)
