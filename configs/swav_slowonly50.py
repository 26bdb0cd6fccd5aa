"""SwAV over 2 clips of a video with SlowOnly ResNet-50 on Kinetics-400.

Paper: Feichtenhofer, Fan, Xiong, Girshick, He, "A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning", CVPR 2021 (arXiv 2104.14558); the
method is Caron et al. 2020 (arXiv 2006.09882).
Command: python -m vssl_jax.main --config=configs/swav_slowonly50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 machines of 8 GPUs; hours not stated.
Expected: Kinetics-400 62.6 by a linear probe, UCF101 90.2 after fine-tuning (the authors' repository).
Reproduced here: not yet run at full size. Head, rate, warm-up and decay are those of the authors' configuration. The prototypes learn from the first step on,
there from the second epoch on. Frames are colored after the crop; theirs are first resized to a side of 224 and colored before it. What holds for all recipes
of this setting (batch normalization over all views and videos) stands in configs/contrastive.py. A short video is left out, there its last frame is repeated.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive


def get_config(arg: str = ""):
    return contrastive.recipe(arg, _paper, local={"prototypes": 64}, smoke={"prototypes": 10})


def _paper(config):
    config.objective = {
        "name": "swav", "prototypes": 1000, "temperature": 0.1, "epsilon": 0.05, "iterations": 3, "assigned": 2, "chunk": 0,
        "head": {"hidden": (2048, 2048), "dim": 128}, "views": contrastive.slowonly_views(2), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    contrastive.slowonly(config, clips=2, rate=0.6, weight_decay=1e-6, lars=True)
