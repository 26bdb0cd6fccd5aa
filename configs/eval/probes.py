"""kNN, retrieval, linear probe and attentive probe of any checkpoint, on labeled videos of your own.

Command: python -m vssl_jax.evaluate --config=configs/eval/probes.py --config.checkpoint=RUN --config.train.source=folder --config.train.path=TRAIN
    --config.test.source=folder --config.test.path=TEST
The clips are the model's: as many frames, as far apart as the checkpoint's run has them (train.sampler and test.sampler name others), from the middle of each
video. A network of convolutions takes clips of any length: that they are not its own is said.
Probes train on features computed once. Their rates are this project's choice, not a paper's. Fine-tuning, where protocols name it (finetune), draws a clip
anew every time it sees a training video, and is tested on the same clips as the others.

Variant `:smoke`: the embedded dataset, the model of a recipe's `:smoke`, three steps.
"""

from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name


def get_config(arg: str = ""):
    if arg not in ("", "smoke"):
        raise unknown_name("variant", arg, ("smoke",))
    config = config_lib.evaluation()
    config.protocols = ("knn", "retrieval", "linear", "attentive")
    for split in (config.train, config.test):
        split.source = "folder"
        split.canvas = (320, 456)
        split.sampler.update({"name": "views", "frames": 0, "stride": 0})  # the checkpoint's
    config.batch_size = 8
    if arg == "smoke":
        _smoke(config)
    return config.lock()


def _smoke(config):
    for split in (config.train, config.test):
        split.update({"source": "embedded", "world_videos": 16, "canvas": (64, 64)})
    config.knn.k, config.retrieval.k = 5, (1, 5)
    for name in ("linear", "attentive"):
        config[name].update({"steps": 3, "batch_size": 8})
