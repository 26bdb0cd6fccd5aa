"""SimCLR over several clips of a video with SlowOnly ResNet-50 on Kinetics-400.

Paper: Feichtenhofer, Fan, Xiong, Girshick, He, "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning", CVPR 2021 (arXiv 2104.14558); the
method is Chen et al. 2020 (arXiv 2002.05709).
Command: python -m vssl_jax.main --config=configs/simclr_slowonly50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 machines of 8 GPUs; hours not stated.
Expected: Kinetics-400 61.5 by a linear probe, UCF101 88.3 after fine-tuning (the authors' repository).
Reproduced here: not yet run at full size. There are 2 clips of a video here, as in the authors' table; their configuration asks for 4, and its loss is the
sum over neighbors, first and second, second and third, third and fourth. It has the peak rate twice, .6 and 1.2, of which the last counts. It synchronizes
the normalization of the head's hidden layers and does not switch it on, so theirs has none as far as can be read; here it is on, as in SimCLR. Their frames
are first resized to a side of 224 and colored before the crop. What holds for all recipes of this setting (batch normalization over all views and videos)
stands in configs/contrastive.py. A short video is left out, there its last frame is repeated.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive


def get_config(arg: str = ""):
    return contrastive.recipe(arg, _paper, local={}, smoke={})


def _paper(config):
    config.objective = {
        "name": "simclr", "temperature": 0.1, "scale": 1.0, "chunk": 0, "head": {"hidden": (2048, 2048), "dim": 128},
        "views": contrastive.slowonly_views(2), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    contrastive.slowonly(config, clips=2, rate=1.2, weight_decay=1e-6, lars=True)
