"""Temporal transformations (Jenni et al.) with R3D-18 on UCF101.

Paper: Jenni, Meishvili, Favaro, "Video Representation Learning by Recognizing Temporal Transformations", ECCV 2020.
Command: python -m vssl_jax.main --config=configs/temporal_transform_r3d18_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 79.3 and HMDB51 49.8 after fine-tuning (as published for R3D-18; the code names UCF101 as what it was trained on).
Reproduced here: not yet run at full size. Batch (2 GPUs of 8 videos), epochs, rate, its cosine, decay, sizes of pictures and colors are those of the authors'
code for this network; AdamW there does not multiply the decay by the rate, whose value here is theirs by the rate. What differs:
- The net: its first two stages see single frames, as theirs, but theirs has 1x7x7 at its start and a max pool.
- Brightness is multiplied, theirs adds up to 32 / 255.
- Forward, periodic and shuffled clips run at every speed, each by a draw of its own, and all begin anywhere. Theirs shuffles neighboring frames only, turns
  back anywhere, at the speed of the forward clip, and warps by steps of any length up to the largest. There and here the stretch that a clip reaches over
  tells something of its form.
- The largest speed depends on a video's length there; here all are possible in every video, and short ones are left out.
- The four forms of a clip are flipped each by itself.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return pretext.recipe(arg, _paper, local={"speeds": 3}, smoke={}, frames=span)


def span(config):
    return (config.model.frames - 1) * 2 ** (config.objective.speeds - 1) + 1


def _paper(config):
    config.model = {"name": "r3d18", "kinds": ("2d", "2d", "3d", "3d"), "frames": 16, "size": 128, "dtype": "auto"}
    config.model.update({"pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3})
    jitter = {"name": "jitter", "brightness": 32 / 255, "saturation": 0.5, "shuffle": True}
    color = ({"name": "each_frame", "chain": (jitter, {"name": "gray", "prob": 0.2})},)
    crop = {"name": "multiscale", "scales": (0.5,), "distort": 0, "places": 0}  # 128 pixels of 256
    view = {"crop": crop, "flip": 0.5, "color": color}
    config.objective = {"name": "temporal_transform", "speeds": 4, "view": view, "eval_view": {"short_side": 256, "crops": 1}}
    pretext.clips(config, frames=span(config), canvas=(256, 342), too_short=0.5)
    config.train.batch_size = 16
    config_lib.by_epochs(config, epochs=200, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    config.optimizer.update({"learning_rate": 3e-4, "lr_batch": 0, "final_learning_rate": 3e-7, "weight_decay": 1 / 3, "b2": 0.99})
