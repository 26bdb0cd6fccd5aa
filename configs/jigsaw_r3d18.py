"""Video jigsaw with R3D-18 on Kinetics-400.

Paper: Ahsan, Madhok, Essa, "Video Jigsaw: Unsupervised Learning of Spatiotemporal Context for Video Action Recognition", WACV 2019.
Command: python -m vssl_jax.main --config=configs/jigsaw_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 55.4 and HMDB51 27.0 after fine-tuning (as published, with CaffeNet on single frames).
Reproduced here: not yet run at full size. The paper's three frames of 2 x 2 tiles and 1000 permutations, chosen so that the nearest two differ in 5 places
and not in 2; the network is a 3-D one that sees tiles of four consecutive frames. Rate and decay are those of clip order prediction, epochs and batch this
project's choice.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    local = {"permutations": 100, "gap": 2, "picture": 144, "hidden": 64}
    smoke = {"permutations": 10, "gap": 1, "picture": 80, "hidden": 16}
    return pretext.recipe(arg, _paper, local=local, smoke=smoke, frames=span)


def span(config):
    return config.objective.segments * config.model.frames + (config.objective.segments - 1) * config.objective.gap


def _paper(config):
    config.model = {"name": "r3d18", "frames": 4, "size": 80, "dtype": "auto"}
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": (), "per": "video"}
    config.objective = {
        "name": "jigsaw", "segments": 3, "grid": 2, "gap": 8, "permutations": 1000, "picture": 224, "normalize": True, "hidden": 512, "dropout": 0.5,
        "view": view, "eval_view": {"short_side": 80, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config), canvas=(256, 456))
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
