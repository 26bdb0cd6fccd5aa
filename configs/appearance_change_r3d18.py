"""Color and noise level prediction with R3D-18 on Kinetics-400: by how much were the clip's colors and its noise changed?

Paper: none defines this task. Schiappa, Rawat, Shah, "Self-Supervised Learning for Videos: A Survey", ACM Computing Surveys 2023, describes it in words
(predict an appearance-modifying change: color, rotation, random noise). What is adjusted and the levels are this project's choice;
clip and crop are those of the rotation recipe, rate and decay those of clip order prediction.
Command: python -m vssl_jax.main --config=configs/appearance_change_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: there is no original.
Expected: not known.
Reproduced here: not yet run at full size.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={}, smoke={}, frames=lambda config: config.model.frames)


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto"}
    # No colors in the view: they would be taken for the question's.
    view = {"crop": pretext.FIXED, "flip": 0.5, "color": ()}
    config.objective = {
        "name": "appearance_change", "adjust": "saturation", "color_levels": (1.0, 0.6, 0.3, 0.0), "noise_levels": (0.0, 0.05, 0.1, 0.2),
        "view": view, "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=16, stride=2, canvas=(128, 228))
    config.train.batch_size = 32
    config_lib.by_epochs(config, epochs=20, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
    pretext.sgd(config, rate=1e-3, weight_decay=5e-4)
