"""MoCo v3 with VideoMAE's ViT-B on Kinetics-400: two views of one clip.

Paper: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021 (arXiv 2104.02057), which is of pictures.
Command: python -m vssl_jax.main --config=configs/moco_v3_vitb.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 nodes of 8 GPUs for ViT-B (the authors' repository; the paper's own runs were on TPUs); hours not stated.
Expected: not verified. VideoMAE's authors compare with a MoCo v3 of their own (arXiv 2203.12602), whose recipe is not public.
Reproduced here: not yet run at full size. Batch, rate, decay (of all parameters), epochs, temperature, average, heads, crops and colors are those of the
paper and its code, of pictures there and of 16 frames here, all of a clip alike, sampled as VideoMAE samples. The patch projection stays as it was drawn, as
in the paper (`optimizer.frozen`). The network is VideoMAE's: the feature is the mean of the tokens, theirs a class token; positions are of one sequence,
theirs of rows and columns; weights start otherwise. Batch normalization is over both views together, there over one at a time. Crops are antialiased,
contrast changes about the mean of the clip, and short videos are left out.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext
from vssl_jax import config as config_lib

RAW = {"norm_last": True, "unit_length": False}  # the predictor reads the head's vectors as they are


def get_config(arg: str = ""):
    # Both views are of the one clip. Without a queue the others are the batch's.
    local = {
        "views": 2 * contrastive.local_views(1), "head": {"hidden": (64, 64), "dim": 32} | RAW,
        "predictor": {"hidden": (64,), "dim": 32, "norm_last": True}, "average": {"decay": 0.99, "final": 1.0},
    }  # fmt: skip
    toy = {"hidden": (8,), "dim": 8, "norm_last": True}
    return contrastive.recipe(arg, _paper, local=local, smoke={"head": toy | RAW, "predictor": toy})


def _paper(config):
    config.model = {"name": "vit_base", "frames": 16, "size": 224, "dtype": "auto"}
    config.model.update(config_lib.BLOCKS)
    jitter = {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "prob": 0.8, "shuffle": True}
    gray, solarize = {"name": "gray", "prob": 0.2}, {"name": "solarize", "prob": 0.2}
    blur = {"name": "blur", "sigma": (0.1, 2.0)}
    view = {"clip": 0, "crop": {"name": "random_resized", "area": (0.08, 1.0)}, "flip": 0.5}
    views = (view | {"color": (jitter, gray, blur | {"prob": 1.0})}, view | {"color": (jitter, gray, blur | {"prob": 0.1}, solarize)})
    temperature = 0.2
    config.objective = {
        # A direction's entropy counts 2 temperatures, and the loss is the sum of two directions.
        "name": "moco", "queue": 0, "temperature": temperature, "every": True, "scale": 4 * temperature, "chunk": 0,
        "head": {"hidden": (4096, 4096), "dim": 256} | RAW, "predictor": {"hidden": (4096,), "dim": 256, "norm_last": True},
        "average": {"decay": 0.99, "final": 1.0}, "views": views, "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    config.data.sampler.update({"frames": 16, "stride": 4, "clips": 1})
    config.data.canvas = (256, 456)  # a 16:9 film of 256 rows fits
    config.train.batch_size = 4096
    config_lib.by_epochs(config, epochs=300, warmup_epochs=40, num_examples=pretext.NUM_EXAMPLES["k400"])
    config.optimizer.update(
        {"learning_rate": 1.5e-4, "lr_batch": 256, "weight_decay": 0.1, "decay_all": True, "b2": 0.999, "frozen": (r"^encoder/patch_embed/",)}
    )
