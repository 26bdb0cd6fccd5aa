"""What the fine-tuning recipes share. Source: the public scripts of VideoMAE (Tong et al. 2022) at commit 14ef8d8, one per model and data set, and the
defaults of its run_class_finetuning.py.

A classifier starts from the encoder of `initial.checkpoint` (a pretraining's workdir, or an export) without its final norm: the head brings a norm of its
own, after the mean over tokens. At the end its number is read from several clips x 3 crops of every test video. Rates are per 256 videos of the global
batch, each of which is seen in two clips a step (repeated augmentation).

Differences from the scripts: the two clips of a video are drawn apart in time, theirs are one clip augmented twice; frames of training stand 4 apart, theirs
64/15 = 4.27; RandAugment comes after the crop, theirs before it; resizing is antialiased, theirs not; the clips of testing on Something-Something V2 stand
at 1/4 and 3/4 of every segment, theirs at 0 and 1/2. As there, mixup and CutMix are drawn once for the clips that shared a GPU, and a video that is too short
for a clip repeats its last frame.
"""

from configs import videomae
from vssl_jax import config as config_lib
from vssl_jax.errors import unknown_name

CLASSES = {"k400": 400, "ssv2": 174, "ucf101": 101}
# clips of a test video; left and right are classes of Something-Something, so it is never mirrored
TEST_CLIPS = {"k400": 5, "ssv2": 2, "ucf101": 5}
FLIP = {"k400": 0.5, "ssv2": 0.0, "ucf101": 0.5}


def recipe(variant: str, backbone: str, data: str, **published):
    """The locked config of one recipe. `published`: epochs, batch_size (videos), per_gpu (of them), learning_rate, and layer_decay, drop_path, dropout and
    final_learning_rate where they are not the usual ones.
    """
    variants = {"": _paper, "local": _local, "smoke": _smoke}
    if variant not in variants:
        raise unknown_name("variant", variant, [v for v in variants if v])
    return variants[variant](backbone, data, **published).lock()


def _paper(
    backbone: str,
    data: str,
    epochs: int,
    batch_size: int,
    per_gpu: int,
    learning_rate: float,
    layer_decay: float = 0.75,
    drop_path: float = 0.1,
    dropout: float = 0.0,
    final_learning_rate: float = 1e-6,
):
    config = config_lib.base()
    config.model = {
        "name": backbone, "frames": 16, "size": 224, "tubelet": (2, 16, 16), "final_norm": False, "drop_path": drop_path, "dtype": "auto",
        **config_lib.BLOCKS,
    }  # fmt: skip
    config.initial.drop = ("norm",)
    config.objective = {
        "name": "classify",
        "classes": CLASSES[data],
        "freeze": False,
        "head": {"name": "fc_norm", "dropout": dropout},
        "smoothing": 0.1,
        "mix": {"mixup": 0.8, "cutmix": 1.0, "prob": 1.0, "switch": 0.5, "group": 2 * per_gpu},
        "view": {
            "crop": {"name": "random_resized"},
            "flip": FLIP[data],
            "color": ({"name": "randaugment", "magnitude": 7.0, "layers": 4, "magnitude_std": 0.5}, {"name": "erase", "prob": 0.25}),
        },
        "eval_view": {"short_side": 224, "crops": 1},  # of validation on the way
    }
    config.data.source = "folder"
    config.data.layout = "yuv420"
    config.data.canvas = (320, 456)
    sampled = {"name": "segments"} if data == "ssv2" else {"name": "dense", "stride": 4}
    config.data.sampler.update({**sampled, "frames": 16, "clips": 2, "pad": True})
    config.train.batch_size = batch_size
    config_lib.by_epochs(config, epochs, warmup_epochs=5, num_examples=videomae.DATA[data]["num_examples"])
    config.optimizer.update(
        {"learning_rate": learning_rate, "final_learning_rate": final_learning_rate, "b2": 0.999, "layer_decay": layer_decay}
    )
    config.train.validate_every = config.data.get_ref("num_examples") // config.train.get_ref("batch_size")  # once an epoch
    config.checkpoint.every = 1000
    config.eval = _testing(config, data)
    return config


def _testing(config, data: str):
    """Several clips x 3 crops of every test video; eval.test.path is the user's to give."""
    evaluation = config_lib.evaluation()
    evaluation.protocols = ("classifier",)
    evaluation.batch_size = 8
    evaluation.classifier.view = {"short_side": 224, "crops": 3}
    test = evaluation.test
    test.update({"source": "folder", "layout": "yuv420", "canvas": config.data.canvas})
    name = "segment_views" if data == "ssv2" else "views"
    test.sampler.update({"name": name, "frames": 16, "stride": 4, "clips": TEST_CLIPS[data], "pad": True})
    return evaluation


def _local(backbone: str, data: str, **published):
    """The small ViT of videomae's `:local` on all labels of the embedded dataset: minutes on two cores. Without `initial.checkpoint` it is the
    supervised control.
    """
    config = _embedded(_paper(backbone, data, **published), videomae.recipe("local", backbone, data, epochs=1, batch_size=64))
    config.train.batch_size = 64
    config.train.steps = 1000
    config.train.log_every = 50
    config.train.validate_every = 250
    config.optimizer.update({"learning_rate": 1e-3, "final_learning_rate": 0.0, "warmup_steps": 50})
    config.checkpoint.every = 500
    return config


def _smoke(backbone: str, data: str, **published):
    config = _embedded(_paper(backbone, data, **published), videomae.recipe("smoke", backbone, data, epochs=1, batch_size=8))
    config.train.batch_size = 8
    config.train.steps = 4
    config.train.log_every = 1
    config.train.validate_every = 2
    config.optimizer.warmup_steps = 2
    config.checkpoint.every = 2
    return config


def _embedded(config, small):
    """The same training of the encoder of `small`, videomae's variant of that name, on its data."""
    config.model = {**small.model.to_dict(), "final_norm": False, "drop_path": 0.0}
    config.data = small.data.to_dict()
    config.train.epochs = 0  # as many steps as the variant says
    config.objective.update({"classes": 8, "smoothing": 0.0})
    config.objective.mix = {}
    config.objective.head.dropout = 0.0
    config.objective.view = {"crop": {"name": "whole"}, "flip": 0.0, "color": ()}  # a flip would change the class
    config.objective.eval_view = {"short_side": 0, "crops": 1}
    config.optimizer.update({"lr_batch": 0, "layer_decay": 1.0})
    config.eval.classifier.view = {"short_side": 0, "crops": 1}
    config.eval.train = small.eval.train.to_dict()
    config.eval.test = small.eval.test.to_dict()
    config.eval.batch_size = small.eval.batch_size
    return config
