"""What the VideoMAE recipes share. Sources: Tong et al. 2022 (appendix, tables of pretraining settings) and the authors' public scripts.

Kinetics-400: 16 frames, stride 4. Something-Something V2: stride 2. UCF101: stride 4, mask ratio 0.75, learning rate 3e-4. No flip, no color: the only
augmentation is the multi-scale crop. Global batches are those of the scripts (GPUs x clips per GPU; the paper's table says 1024 throughout); the rates scale
linearly with them, per 256 clips.
"""

from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name
from vssl_jax.models import MAE_DECODERS

# Videos in the published training lists, and what each data set changes.
DATA = {
    "k400": {"num_examples": 240_436, "stride": 4, "mask_ratio": 0.9, "learning_rate": 1.5e-4},
    "ssv2": {"num_examples": 168_913, "stride": 2, "mask_ratio": 0.9, "learning_rate": 1.5e-4},
    "ucf101": {"num_examples": 9_537, "stride": 4, "mask_ratio": 0.75, "learning_rate": 3e-4},
}


def recipe(variant: str, backbone: str, data: str, epochs: int, batch_size: int):
    """The locked config of one recipe: the paper's for variant '', else 'local' or 'smoke'."""
    variants = {"": _paper, "local": _local, "smoke": _smoke}
    if variant not in variants:
        raise unknown_name("variant", variant, [v for v in variants if v])
    config = variants[variant](backbone, DATA[data], epochs, batch_size)
    return config.lock()


def _paper(backbone: str, data: dict, epochs: int, batch_size: int):
    config = config_lib.base()
    config.model = {"name": backbone, "frames": 16, "size": 224, "tubelet": (2, 16, 16), "dtype": "auto", **config_lib.BLOCKS}
    config.objective = {
        "name": "videomae",
        "mask_ratio": data["mask_ratio"],
        "mask": {"name": "tube"},  # or another of perturb/masks.py, with its fields
        "decoder": MAE_DECODERS[backbone],
        "normalize_target": True,
        "view": {"crop": {"name": "multiscale"}, "flip": 0.0, "color": ()},
        "eval_view": {"short_side": 224, "crops": 1},
    }
    config.data.source = "folder"
    config.data.layout = "yuv420"
    config.data.canvas = (320, 456)  # a 16:9 film of 256 rows fits; larger ones are reduced
    config.data.sampler.frames = 16
    config.data.sampler.stride = data["stride"]
    config.data.sampler.pad = True  # theirs repeats the last frame of a short video too, though the last on the grid of strides
    config.train.batch_size = batch_size
    config_lib.by_epochs(config, epochs, warmup_epochs=40, num_examples=data["num_examples"])
    # AdamW (.9, .95), decay .05; both rates are per 256 clips; the warm-up starts from 0.
    config.optimizer.learning_rate = data["learning_rate"]
    config.optimizer.final_learning_rate = 1e-5
    config.checkpoint.every = config.train.picture_every = 1000
    config.eval = config_lib.evaluation_like(config)
    return config


STRIDE = 2  # of clips of the embedded dataset: 8 frames see half a loop


def small(config, frames: int, size: int):
    """The same method on the embedded dataset's 64-pixel clips, for as many steps as its variant says: no published epochs are counted."""
    config.train.epochs = config.data.num_examples = 0
    config.data.source = "embedded"
    config.data.world = "slide-8"
    config.data.layout = "rgb"
    config.data.canvas = (64, 64)
    config.data.memory_gb = 2.0
    config.data.sampler.pad = False
    config.data.sampler.frames = frames
    config.data.sampler.stride = STRIDE
    if "view" in config.objective:
        config.objective.view.crop = {"name": "whole"}
    config.objective.eval_view = {"short_side": 0, "crops": 1}
    config.model.size = size
    config.model.frames = frames
    config.eval = config_lib.evaluation()
    for split in (config.eval.train, config.eval.test):
        split.world, split.canvas, split.memory_gb = config.data.world, config.data.canvas, config.data.memory_gb
        split.sampler.update({"frames": frames, "stride": STRIDE})
    config.eval.test.sampler.name = "views"
    tuned = config.eval.finetune
    tuned.view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}  # a flip would change the class
    tuned.smoothing = 0.0
    tuned.optimizer.lr_batch = 0


def _local(backbone: str, data: dict, epochs: int, batch_size: int):
    """Minutes on two cores. What a network this small needs to leave its plateau (the mean color of each video) within minutes:

    - pixels scaled by the deviation inside a clip, not by ImageNet's, which is three times larger: positions drown the picture otherwise;
    - patches of 4 frames (a sprite moves 4 pixels of 64 between two) and few places, half of them visible;
    - plain pixels as the target: the ground, once averaged to 16 pixels, is all noise to a patch's own normalization;
    - many steps of few clips at a high rate, and a decoder as wide as the encoder.
    """
    config = _paper(backbone, data, epochs, batch_size)
    config.objective.mask_ratio = 0.5
    config.objective.normalize_target = False
    config.model = {
        "name": "vit",
        "width": 96,
        "depth": 4,
        "heads": 8,
        "tubelet": (4, 4, 4),
        "pixel_std": (0.08, 0.08, 0.08),
        "dtype": "auto",
        **config_lib.BLOCKS,
    }
    config.objective.decoder = {"width": 96, "depth": 1, "heads": 4}
    small(config, frames=8, size=16)
    config.train.batch_size = 16
    config.train.steps = 10_000
    config.train.log_every = 100
    config.optimizer.update(
        {
            "warmup_steps": 100,
            "learning_rate": 4e-3,
            "final_learning_rate": 4e-5,
            "lr_batch": 0,
            "weight_decay": 0.0,
            "b2": 0.999,
            "clip_norm": 1.0,
        }
    )
    config.train.picture_every = 2000
    config.checkpoint.every = 1000
    config.eval.finetune.labels = (200,)
    config.eval.finetune.steps = 600
    config.eval.finetune.optimizer.update({"learning_rate": 3e-3, "layer_decay": 1.0, "warmup_steps": 50})
    return config


def _smoke(backbone: str, data: dict, epochs: int, batch_size: int):
    config = _paper(backbone, data, epochs, batch_size)
    config.model = {
        "name": "vit",
        "width": 24,
        "depth": 2,
        "heads": 2,
        "tubelet": (2, 16, 16),
        "dtype": "auto",
        **config_lib.BLOCKS,
    }
    config.objective.decoder = {"width": 16, "depth": 1, "heads": 2}
    small(config, frames=4, size=32)
    config.data.world_videos = 16
    config.train.batch_size = 8
    config.train.steps = 4
    config.optimizer.warmup_steps = 2
    config.train.log_every = 1
    config.eval.train.world_videos = config.eval.test.world_videos = 16
    config.eval.batch_size = 8
    config.eval.knn.k, config.eval.retrieval.k = 5, (1, 5)
    for name in ("linear", "attentive", "finetune"):
        config.eval[name].update({"steps": 3, "batch_size": 8})
    config.train.picture_every = 2
    config.checkpoint.every = 2
    return config
