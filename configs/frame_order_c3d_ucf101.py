"""Frame sorting (OPN) with C3D on UCF101.

Paper: Lee, Huang, Singh, Yang, "Unsupervised Representation Learning by Sorting Sequences", ICCV 2017.
Command: python -m vssl_jax.main --config=configs/frame_order_c3d_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: UCF101 56.3 and HMDB51 22.1 after fine-tuning (as published, with CaffeNet on single frames).
Reproduced here: not yet run at full size. The paper's 12 classes; batch, rate, its drop at step 130,000 of 170,000, decay and the guards (80 pixels of a film
of 240 rows, frame by frame moved by up to 5; one channel) are those of the authors' files. Unlike there, the network is a 3-D one that sees each frame as a
still clip, without their layer of 1024 a frame and their normalization of pairs; a crop lies anywhere (theirs where the motion is); the window with motion
is looked for among 92 frames, and shorter videos are left out; the four frames share one channel (theirs draw one each).

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import pretext


def get_config(arg: str = ""):
    local, smoke = {"gaps": (4, 8), "hidden": 64}, {"gaps": (1, 2), "hidden": 16}
    return pretext.recipe(arg, _paper, local=local, smoke=smoke, frames=lambda config: span(config) + 7)  # the embedded videos have 32


def span(config):
    return (config.objective.count - 1) * config.objective.gaps[1] + 1


def _paper(config):
    config.model = {"name": "c3d_vcop", "frames": 16, "size": 80, "dtype": "auto"}
    crop = {"name": "multiscale", "scales": (1 / 3,), "distort": 0, "places": 0}
    view = {"crop": crop, "flip": 0.5, "color": ({"name": "one_channel"},), "per": "video", "shift": 0.0625}  # 5 of 80 pixels
    config.objective = {
        "name": "frame_order", "count": 4, "gaps": (4, 15), "by_motion": True, "hidden": 512, "dropout": 0.5, "view": view,
        "eval_view": {"short_side": 240, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=2 * span(config), canvas=(240, 320), too_short=0.5)  # room to look for motion
    config.train.batch_size = 64
    config.train.steps = 170_000
    config.data.num_examples = pretext.NUM_EXAMPLES["ucf101"]
    pretext.sgd(config, rate=1e-2, weight_decay=5e-4, drops=(130 / 170,))
