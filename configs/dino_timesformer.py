"""SVT: self-distillation between large and small, long and short views of a video, with TimeSformer-B on Kinetics-400.

Paper: Ranasinghe, Naseer, Khan, Khan, Ryoo, "Self-supervised Video Transformer", CVPR 2022 (arXiv 2112.01514); the method is DINO, Caron et al. 2021 (arXiv
2104.14294).
Command: python -m vssl_jax.main --config=configs/dino_timesformer.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 4 GPUs in the authors' script; hours not stated.
Expected: UCF101 93.7 and HMDB51 67.2 after fine-tuning (as published, not verified). These begin from DINO's weights of ImageNet, which the authors say
in an issue of their repository: do not expect them from random weights (--config.initial.checkpoint names others).
Reproduced here: not yet run at full size. Rate, decays, temperatures, warm-up, stochastic depth, crops and colors are the defaults of the authors' code, the
batch that of their script; its epochs are 100, the paper's 20. Unlike there, views are cut from 64 frames, 3 apart, where they were cut from the whole video:
a large one has 8 frames that span them, a small one 8 neighbors; gradients are clipped to their norm all together, there each parameter's to its own; the
class token and the positions have no weight decay; contrast changes about the mean of the clip, not of each frame; crops are antialiased, not bicubic. Blur
and solarization, which their code switches off, are left out.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    view = contrastive.local_views(1)[0] | {"first": -1}
    small = view | {"size": 32, "frames": 4, "repeat": 4, "crop": {"name": "random_resized", "area": (0.1, 0.4)}}
    local = {
        "prototypes": 256, "frozen": 50, "head": {"hidden": (64,), "dim": 32, "norm": False, "activation": "gelu"}, "average": {"decay": 0.99, "final": 1.0},
        "views": (view | {"repeat": 2}, small),
    }  # fmt: skip
    toy = {"prototypes": 16, "frozen": 1, "views": (view | {"repeat": 2}, small | {"size": 16, "frames": 2, "repeat": 2})}
    return contrastive.recipe(arg, _paper, local=local, smoke=toy, dense=2, eval_stride=24)


def _paper(config):
    config.model = {"name": "timesformer", "frames": 8, "size": 224, "dtype": "auto", "any_size": True, "drop_path": 0.1}
    config.model.update(config_lib.BLOCKS)
    jitter = {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "prob": 0.8, "shuffle": True}
    view = {"clip": 0, "first": -1, "flip": 0.5, "color": (jitter, {"name": "gray", "prob": 0.2})}
    large = view | {"stride": 8, "repeat": 2, "crop": {"name": "random_resized", "area": (0.4, 1.0)}}
    small = view | {"size": 96, "repeat": 8, "crop": {"name": "random_resized", "area": (0.05, 0.4)}}
    config.objective = {
        "name": "dino", "prototypes": 65_536, "large": 2, "temperature": 0.1, "sharp": 0.04, "center_decay": 0.9, "chunk": 0,
        "head": {"hidden": (2048, 2048), "dim": 256, "norm": False, "activation": "gelu"}, "average": {"decay": 0.996, "final": 1.0},
        "views": (large, small), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    config.data.sampler.update({"frames": 64, "stride": 3, "clips": 1})
    config.data.canvas = (256, 456)  # a 16:9 film of 256 rows fits
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=10, num_examples=pretext.NUM_EXAMPLES["k400"])
    config.objective.frozen = config.data.get_ref("num_examples") // config.train.get_ref("batch_size")  # an epoch
    config.optimizer.update(
        {
            "learning_rate": 5e-4, "lr_batch": 256, "final_learning_rate": 8e-6, "weight_decay": 0.04, "weight_decay_final": 0.4, "clip_norm": 3.0,
            "b2": 0.999,
        }
    )  # fmt: skip
