"""configs/videomae_vitb.py:smoke on noise, without an evaluation: what the tests of whole processes run."""

from configs import videomae_vitb


def get_config(arg: str = ""):
    config = videomae_vitb.get_config("smoke")
    with config.unlocked():
        config.eval = {}
        config.report = False
        config.data.source = "synthetic"
        config.data.videos = 64
        config.model.depth = 1
        config.optimizer.lr_batch = 0
        config.optimizer.learning_rate = 1e-3
        config.train.picture_every = 0
    return config
