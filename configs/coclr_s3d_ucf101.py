"""CoCLR with two S3D, one for colors and one for optical flow, on UCF101.

Paper: Han, Xie, Zisserman, "Self-supervised Co-training for Video Representation Learning", NeurIPS 2020 (arXiv 2010.09709).
Command: python -m vssl_jax.main --config=configs/coclr_s3d_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 2 GPUs; hours not stated.
Expected: nearest neighbor R@1 on UCF101 51.8 with colors and 48.4 with flow, from 33.1 and 45.2 after InfoNCE alone (the authors' repository).
Evaluation: that number is hit@1 of python -m vssl_jax.evaluate --config=configs/eval/probes.py --config.checkpoint=RUN --config.protocols=retrieval
    --config.retrieval.center=each --config.features=flow (or video, or video,flow), with these settings of both train and test: canvas=240,320 (flow is in
    pixels of the film, which is to be as large as in training), sampler.frames=33 (32 for video alone), sampler.stride=1, and sampler.clips as many as
    cover a video. The authors crop at random there too; here crops are in the middle.
Reproduced here: not yet run at full size. All of it is one run: InfoNCE for each network (300 epochs), then two cycles of 100 epochs for either; the rate
falls to a tenth after four fifths of each turn, where the authors' InfoNCE has 250 and 280 epochs. Flow is computed as the run goes, by TV-L1 on the whole
film and cut and mirrored like a picture; --config.data.flow=FLOW reads it as vssl_jax.make_flow stored it (--config.objective.flow_of=view has it of what is
seen, so that mirrored clips move the other way). The two views are augmented in the two ways of the authors' code, each half of the time: of two clips, whose
colors are then changed three times of ten each, or of one of the two, with the colors of one view changed. Whether the own key is left out of the positives
is drawn for each video, there for a batch. S3D is that of the classifiers: epsilon .001 (theirs .00001), at its end a mean over windows of 2 x 7 x 7 (theirs
of all places). Batch normalization is over the global batch, theirs over a GPU's 32 clips with keys shuffled. Short videos are left out, there filled up.
Contrast changes about the clip's mean, there each frame's. Convolutions start as He et al. have them, there normal with a deviation of .01.

Variants: `:local` trains two small CNNs on the embedded dataset on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

ADAM = {"name": "adam", "learning_rate": 1e-3, "lr_batch": 0, "weight_decay": 1e-5, "decay_all": True, "b2": 0.999}
PAIRING = {"one_clip": 0.5, "colored": 0.3}
QUICK = {"scales": 3, "scale_step": 0.5, "warps": 2, "outer": 1, "inner": 10, "median": 3}


def get_config(arg: str = ""):
    local = {
        "pairing": {},
        "queue": 512,
        "flow": QUICK,
        "flow_of": "view",
        "bound": 8.0,
        "average": {"decay": 0.99, "final": -1.0},
        "head": {"hidden": (64,), "dim": 32, "norm": False},
    }
    toy = {
        "pairing": PAIRING,
        "queue": 16,
        "mined": 2,
        "flow": QUICK | {"scales": 1, "warps": 1, "median": 1},
        "initial": 1,
        "learning": 1,
        "head": {"hidden": (8,), "dim": 8, "norm": False},
    }
    config = contrastive.recipe(arg, _paper, local=local, smoke=toy, more=1).unlock()
    if arg:
        config.objective.cycles = 1
    if arg == "smoke":
        config.optimizer.warmup_steps = 0
    if arg == "local":
        config.objective.initial, config.objective.learning = 150, 100
    if arg:
        config.optimizer.by_turn = True
        config.train.steps = 2 * (config.objective.initial + config.objective.learning)
    return config.lock()


def network_and_data(config, frames: int):
    config.model = {"name": "s3d", "frames": 32, "size": 128, "dtype": "auto", "pixel_mean": IMAGENET_MEAN, "pixel_std": IMAGENET_STD}
    pretext.clips(config, frames=frames, canvas=(240, 320))
    config.data.sampler.clips = 2
    config.data.group = r"(v_.*_g\d+)_c\d+"
    config.train.batch_size = 64


def head_and_views():
    color = (
        {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "prob": 0.8, "shuffle": True},
        {"name": "one_of", "chains": (({"name": "each_frame", "chain": ({"name": "one_channel"},)},),), "probs": (0.2,)},
        {"name": "blur", "prob": 0.5, "sigma": (0.1, 2.0)},
    )
    view = {"crop": {"name": "random_resized", "area": (0.2, 1.0)}, "flip": 0.5, "color": color}
    return {
        "head": {"hidden": (1024,), "dim": 128, "norm": False}, "views": (view | {"clip": 0}, view | {"clip": 1}),
        "pairing": PAIRING,
        "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip


def _paper(config):
    network_and_data(config, frames=33)
    config.objective = {
        "name": "coclr", "queue": 2048, "temperature": 0.07, "mined": 5, "drop_own": 0.9, "siblings": True, "flow": {}, "flow_of": "film", "bound": 20.0,
        "average": {"decay": 0.999, "final": -1.0}, "cycles": 2, "chunk": 0, **head_and_views(),
    }  # fmt: skip
    config.data.num_examples = pretext.NUM_EXAMPLES["ucf101"]
    epoch = config.data.get_ref("num_examples") // config.train.get_ref("batch_size")
    config.train.epochs = 1000  # of both networks together: three tenths for InfoNCE of either, a tenth for either in each cycle
    tenth = config.train.get_ref("epochs") // 10
    config.objective.initial, config.objective.learning = epoch * (tenth * 3), epoch * tenth
    config.train.steps = (
        config.objective.get_ref("initial") * 2 + config.objective.get_ref("learning") * config.objective.get_ref("cycles") * 2
    )
    config.optimizer.update(ADAM | {"schedule": "steps", "by_turn": True})
    config.optimizer.drops = (0.8,)
