"""What python -m vssl_jax.instrument measures on the embedded dataset: the supervised controls, the controls without the order of frames, random
features, and the methods that are small enough for a CPU.

Variants: none (slide-8, hours on a laptop; it goes on where it was stopped), `:smoke` (seconds, shows nothing but that it runs).
"""

from configs import videomae, videomae_vitb
from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name

WHOLE = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}  # a flip would change the class
CNN = {"name": "cnn_small", "frames": 8, "size": 64}


def get_config(arg: str = ""):
    if arg not in ("", "smoke"):
        raise unknown_name("variant", arg, ("smoke",))
    mae = videomae_vitb.get_config("local" if arg == "" else "smoke")
    if arg == "":
        mae.train.steps = 24_000  # the loss still falls at the 10,000 of `:local`
    config = config_lib.evaluation()
    for split in (config.train, config.test):
        split.update({"world": mae.data.world, "canvas": mae.data.canvas, "memory_gb": 2.0})
    config.train.sampler.update({"name": "dense", "frames": mae.model.frames, "stride": videomae.STRIDE})
    config.test.sampler.update({"name": "views", "frames": mae.model.frames, "stride": videomae.STRIDE})
    config.protocols = ("knn", "linear", "attentive")
    config.seeds = (0, 1, 2, 3, 4)
    config.control_seeds = (0,)
    vit = mae.eval.finetune.copy_and_resolve_references()
    config.controls = {
        "cnn": {**tuned(steps=400, batch_size=32, rate=2e-3), "backbone": CNN},
        "vit": {**_at_rate(vit, 1e-3), "steps": 1000, "batch_size": 64, "backbone": mae.model.to_dict()},
    }
    for control in config.controls.values():
        control.optimizer.layer_decay = 1.0
        del control["labels"]
    config.methods = {"videomae_vit": mae, "pace_cnn": _pace(mae)}
    config.random = {"vit": "videomae_vit", "cnn": "pace_cnn"}  # net -> the method whose backbone it is
    # Fine-tuning of each, at the rate that was best for it on the validation split with 200 labels: of 1e-3, 2e-3, 3e-3, 6e-3, 1e-2 for the pretrained ViT
    # (8000 steps, one seed), of 5e-4, 1e-3, 2e-3, 3e-3 for the random one (one to three seeds).
    config.tuned = {
        "videomae_vit": _at_rate(vit, 6e-3),
        "random_vit": _at_rate(vit, 1e-3),
        "pace_cnn": {**tuned(400, 32, 2e-3), "labels": ()},
        "random_cnn": {**tuned(400, 32, 2e-3), "labels": ()},
    }
    if arg == "smoke":
        _smoke(config)
    return config.lock()


def tuned(steps: int, batch_size: int, rate: float):
    """Training a CNN with labels."""
    config = config_lib.evaluation().finetune.to_dict()
    config.update(
        {"steps": steps, "batch_size": batch_size, "smoothing": 0.0, "head": {"name": "linear"}, "model": {}, "drop": (), "view": WHOLE}
    )
    config["optimizer"].update({"learning_rate": rate, "lr_batch": 0, "warmup_steps": steps // 20, "layer_decay": 1.0})
    return config


def _at_rate(vit, rate: float):
    tuned = {**vit.to_dict(), "steps": 600, "labels": (100, 200, 400)}
    tuned["optimizer"] = {**tuned["optimizer"], "learning_rate": rate}
    return tuned


def _pace(mae):
    """Pace prediction on the small CNN, at strides 1, 2 and 4 of the world's own frames."""
    config = config_lib.base()
    config.data = mae.data.to_dict()
    config.data.sampler.update({"frames": 29, "stride": 1})
    config.model = CNN
    config.objective = {"name": "pace", "paces": (1, 2, 4), "view": WHOLE, "eval_view": {"short_side": 0, "crops": 1}}
    config.train.update({"steps": 500, "batch_size": 32, "log_every": 20, "picture_every": 0})
    config.optimizer.update({"learning_rate": 2e-3, "lr_batch": 0, "warmup_steps": 25, "b2": 0.999})
    config.checkpoint.every = 250
    return config


def _smoke(config):
    for split in (config.train, config.test):
        split.world_videos = 16
    config.seeds = (0, 1)
    config.batch_size, config.knn.k, config.retrieval.k = 8, 5, (1, 5)
    few = {"steps": 2, "batch_size": 8}
    for group in (config.linear, config.attentive, *config.controls.values(), *config.tuned.values()):
        group.update(few)
        group.optimizer.warmup_steps = 0
    config.tuned["videomae_vit"].labels = config.tuned["random_vit"].labels = (8,)
    config.methods["pace_cnn"].train.update(few)
    config.methods["pace_cnn"].optimizer.warmup_steps = 0
    config.methods["pace_cnn"].data.world_videos = 16
    for net in (config.controls.cnn.backbone, config.methods["pace_cnn"].model):
        net.frames = 4
    config.methods["pace_cnn"].data.sampler.frames = 13
