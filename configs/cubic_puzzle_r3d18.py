"""Space-time cubic puzzles with R3D-18 on Kinetics-400.

Paper: Kim, Cho, Kweon, "Self-Supervised Video Representation Learning with Space-Time Cubic Puzzles", AAAI 2019.
Command: python -m vssl_jax.main --config=configs/cubic_puzzle_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 65.8 and HMDB51 33.7 after fine-tuning (as published).
Reproduced here: not yet run at full size. The paper's 2 x 2 x 4 grid, pieces of 80 x 80 x 16, one color channel and the rotation term; rate and decay are
those of clip order prediction, epochs and batch this project's choice. In `:local` a piece is as long as its cell: no gap between pieces in time.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"picture": 144, "hidden": 64}, smoke={"picture": 80, "hidden": 16}, frames=span)


def span(config):
    return 4 * config.model.frames


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 80, "dtype": "auto"}
    view = {"crop": {"name": "center"}, "flip": 0.5, "color": ({"name": "one_channel"},), "per": "video"}
    config.objective = {
        "name": "cubic_puzzle", "picture": 224, "hidden": 512, "dropout": 0.5, "view": view, "eval_view": {"short_side": 112, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=span(config) + 64, canvas=(256, 456))  # a piece begins anywhere in the first half of its cell
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
