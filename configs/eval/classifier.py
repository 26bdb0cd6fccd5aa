"""A trained classifier (a run of configs/finetune_*.py, or converted weights with a head) on labeled videos of your own: the softmax averaged over 5 clips
x 3 crops.

Command: python -m vssl_jax.evaluate --config=configs/eval/classifier.py --config.checkpoint=RUN --config.test.source=folder --config.test.path=TEST
The class names must be the classifier's, in its order: --config.test.classes=FILE names a text file of them, one a line.
The clips are the model's: as many frames, as far apart as the checkpoint's run has them. Something-Something V2: --config.test.sampler.name=segment_views
    --config.test.sampler.clips=2

Variant `:smoke`: the embedded dataset, the model of a recipe's `:smoke`.
"""

from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name


def get_config(arg: str = ""):
    if arg not in ("", "smoke"):
        raise unknown_name("variant", arg, ("smoke",))
    config = config_lib.evaluation()
    config.protocols = ("classifier",)
    config.baseline = False
    config.batch_size = 8
    config.classifier.view = {"short_side": 224, "crops": 3}
    config.test.update({"source": "folder", "layout": "yuv420", "canvas": (320, 456)})
    config.test.sampler.update({"name": "views", "frames": 0, "stride": 0, "clips": 5, "pad": True})
    if arg == "smoke":
        config.classifier.view = {"short_side": 0, "crops": 1}
        config.test.update({"source": "embedded", "layout": "rgb", "world_videos": 16, "canvas": (64, 64)})
    return config.lock()
