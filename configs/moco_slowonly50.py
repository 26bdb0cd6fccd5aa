"""MoCo over 4 clips of a video (rho = 4) with SlowOnly ResNet-50 on Kinetics-400.

Paper: Feichtenhofer, Fan, Xiong, Girshick, He, "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning", CVPR 2021 (arXiv 2104.14558); the
method is He et al. 2020 (arXiv 1911.05722).
Command: python -m vssl_jax.main --config=configs/moco_slowonly50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 machines of 8 GPUs; hours not stated.
Expected: Kinetics-400 71.0 by a linear probe, UCF101 94.5 after fine-tuning; with 2 clips 66.6 and 91.3 (the authors' repository).
Reproduced here: not yet run at full size. Each of the 4 clips asks for the other 3, and the loss is four times the mean over those pairs, as the authors'
code sums its gradients. Frames are colored after the crop, where theirs are before. Batch normalization is over the global batch here, so that keys need no
shuffling; the authors normalize by device and shuffle. The weight decay, .0001, is their code's default. Nothing is learned there until the queue is full
(128 steps of their 512 videos on 8 machines); here it is full of random vectors from the first step on. The head's biases have no weight decay, there they
have. A short video is left out, there its last frame is repeated.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive


def get_config(arg: str = ""):
    local = {"queue": 1024, "scale": 1.0, "average": {"decay": 0.99, "final": -1.0}}
    return contrastive.recipe(arg, _paper, local=local, smoke={"queue": 16})


def _paper(config):
    config.objective = {
        "name": "moco", "queue": 65_536, "temperature": 0.1, "every": True, "scale": 4.0, "chunk": 0,
        "head": {"hidden": (2048, 2048), "dim": 128, "norm": False}, "average": {"decay": 0.994, "final": 1.0},
        "views": contrastive.slowonly_views(4), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    contrastive.slowonly(config, clips=4, rate=0.1, weight_decay=1e-4, lars=False)
