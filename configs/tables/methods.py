"""What python -m vssl_jax.instrument measures of the methods: every method's `:local` on one backbone, with equal steps and data, beside the same backbone with
random weights and the one trained with labels. A task's `_random_labels` is its control: the same training on answers that have nothing to do with the
questions. What that gains over random weights as well is not the task's merit.

  python -m vssl_jax.instrument --config=configs/tables/methods.py --workdir=runs/methods --results=.results/methods.jsonl --readme=README.md

goes on where it was stopped; --only=^rotation measures one of them. One method of each row of the survey has 3 seeds, and so have CoCLR and TCLR; the others 1.
Variants: none (many hours on two cores), `:smoke` (seconds a method).
"""

import importlib

from configs import contrastive, instrument
from vssl_jax.errors import unknown_name
from vssl_jax.instrument_rows import RANDOM_LABELS

# name -> recipe
PRETEXT = {
    "rotation": "rotation_r3d18",
    "pace": "pace_r2plus1d10",
    "clip_order": "clip_order_r3d10_ucf101",
    "cubic_puzzle": "cubic_puzzle_r3d18",
    "appearance_change": "appearance_change_r3d18",
    "order_verification": "order_verification_c3d_ucf101",
    "frame_order": "frame_order_c3d_ucf101",
    "odd_one_out": "odd_one_out_r3d18_ucf101",
    "temporal_transform": "temporal_transform_r3d18_ucf101",
    "jigsaw": "jigsaw_r3d18",
    "motion_statistics": "motion_statistics_r3d10_ucf101",
    "playback_rate": "playback_rate_r3d10_ucf101",
    "relative_speed": "relative_speed_r2plus1d10",
    "speediness": "speediness_s3dg",
}
JOINT = {
    "simclr": "simclr_slowonly50",
    "cvrl": "simclr_cvrl50",
    "tclr": "tclr_r3d18_ucf101",
    "swav": "swav_slowonly50",
    "deep_cluster": "deep_cluster_slowonly50",
    "local_aggregation": "vie_r3d18",
    "coclr": "coclr_s3d_ucf101",
    "moco": "moco_slowonly50",
    "moco_v3": "moco_v3_vitb",
    "byol": "byol_slowonly50",
    "brave": "brave_tsm50",
    "dino": "dino_timesformer",
    "dpc": "dpc_r3d18",
    "memdpc": "memdpc_r3d18_ucf101",
    "uber_nce": "uber_nce_s3d_ucf101",
}
RECIPES = PRETEXT | JOINT
# The number of a method's own task, where it answers several questions: what the method is named for.
OWN_METRIC = {
    "appearance_change": "color/accuracy",
    "coclr": "rgb/accuracy",
    "cubic_puzzle": "order/accuracy",
    "motion_statistics": "motion/accuracy",
    "relative_speed": "speed/accuracy",
    "tclr": "instance/dense/accuracy",
    "temporal_transform": "form/accuracy",
}
# Those with 3 seeds stand for their row: appearance, speed, order, jigsaw; view, temporal (two) and spatio-temporal augmentation, clustering.
FIRST = ("rotation", "pace", "clip_order", "cubic_puzzle", "simclr", "byol", "tclr", "cvrl", "swav", "coclr")
# What was tried where a method does not beat random weights: name -> (method, changes, seeds). Colors tell the videos of this world apart, and views of a
# video may be found by their colors alone: gray views, of which brightness and contrast vary more, leave shape and motion.
GRAY = ({"name": "jitter", "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "prob": 0.8}, {"name": "gray", "prob": 1.0})
TRIED = {
    "simclr_gray": ("simclr", {"objective": {"views": contrastive.local_views(color=GRAY)}}, (0, 1, 2)),
    # Most of the numbers of motion statistics have no order, and by least squares a network may answer with their means.
    "motion_statistics_classes": ("motion_statistics", {"objective": {"error": "cross_entropy"}}, (0,)),
    # Which video a clip is of may be told by its colors, and that is the larger part of the loss: without it speed alone is left.
    "relative_speed_alone": ("relative_speed", {"objective": {"weights": (0.0, 1.0)}}, (0,)),
    # Vectors that are all alike may become so by what they have in common: normalized over the batch they cannot have that.
    "uber_nce_norm_last": ("uber_nce", {"objective": {"head": {"norm_last": True}}}, (0,)),
}
# Tasks that are trained on random labels too.
CONTROLS = ("pace", "clip_order", "cubic_puzzle", "speediness", "odd_one_out", "jigsaw", "frame_order", "order_verification", "temporal_transform")


def get_config(arg: str = ""):
    if arg not in ("", "smoke"):
        raise unknown_name("variant", arg, ("smoke",))
    config = instrument.get_config(arg).unlock()
    runs = {
        task: importlib.import_module(f"configs.{name}").get_config("local" if arg == "" else "smoke") for task, name in RECIPES.items()
    }
    for task in CONTROLS:
        control = runs[task].copy_and_resolve_references().unlock()
        control.objective.random_labels = True
        runs[task + RANDOM_LABELS] = control
    for name, (method, changes, _) in TRIED.items() if arg == "" else ():
        runs[name] = runs[method].copy_and_resolve_references().unlock()
        for group, values in changes.items():
            runs[name][group].update(values)
    config.seeds, config.control_seeds = (0, 1, 2), (0, 1, 2)
    config.seeds_of = {name: (0, 1, 2) if name.removesuffix(RANDOM_LABELS) in FIRST else (0,) for name in runs}
    config.seeds_of.update({name: seeds for name, (*_, seeds) in TRIED.items() if name in runs})
    del config.controls["vit"]
    config.controls.cnn.backbone = runs["pace"].model.to_dict()
    config.controls.cnn.steps = runs["pace"].train.steps
    config.methods = runs
    config.random = {"cnn": "pace"}
    config.own_metric = {name: OWN_METRIC[of] for name in runs if (of := TRIED.get(name, (name.removesuffix(RANDOM_LABELS),))[0]) in OWN_METRIC}
    config.net_of = {name: "cnn" for name in runs}
    config.protocols = ("knn", "retrieval", "linear")
    tuned = instrument.tuned(steps=400, batch_size=32, rate=2e-3) | {"labels": (200,)}
    if arg == "smoke":
        tuned |= {"steps": 2, "batch_size": 8, "labels": (8,)}
        tuned["optimizer"]["warmup_steps"] = 0
        config.seeds, config.seeds_of = (0,), {name: (0,) for name in runs}
    config.tuned = {name: tuned for name in (*runs, "random_cnn")}
    return config.lock()
