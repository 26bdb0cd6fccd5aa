"""VIE (video instance embedding by local aggregation) with R3D-18 on Kinetics-400.

Paper: Zhuang, She, Andonian, Mark, Yamins, "Unsupervised Learning from Video with Deep Neural Embeddings", CVPR 2020 (arXiv 1905.11954); local
aggregation is Zhuang, Zhai, Yamins 2019 (arXiv 1903.12355).
Command: python -m vssl_jax.main --config=configs/vie_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: one GPU in the authors' script; hours not stated.
Expected: not verified.
Reproduced here: not yet run at full size. The settings are those of the authors' code for its 3D ResNet: 50,000 steps of instance discrimination, then local
aggregation up to step 1,600,000 with one clustering of 10,000 and 4096 neighbors (for most of its other networks 8000 and 512). Theirs is a ResNet with
activations before convolutions, and 7x7x7 and a max pool at its start; R3D-18 here is torchvision's. K-means is spherical here and Euclidean there, both by
20 iterations, and here once an epoch from the first one on, though nothing reads it in the first turn. A video's own entry is always one of its neighbors
here, there only where it is near enough. Short videos are left out here and run in a loop there. Momentum begins anew with the second turn. A first visit
writes the vector itself into the bank, there half of it beside a random one. Other data: --config.data.num_examples=VIDEOS sets an epoch's length and the
places of the bank. The head's bias does not decay, there all but normalization does. Contrast changes about the clip's mean, there each frame's.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


def get_config(arg: str = ""):
    # Neighbors, noise and clusters by about the same share of the videos as at full size.
    local = {"views": contrastive.local_views(1), "noise": 512, "background": 64, "clusters": 128, "initial": 200}
    toy = {"noise": 16, "background": 8, "clusters": 4, "iterations": 2, "initial": 2}
    return contrastive.recipe(arg, _paper, local=contrastive.LOCAL_BANK | local, smoke=contrastive.SMOKE_BANK | toy)


def _paper(config):
    config.model = {"name": "r3d18", "frames": 16, "size": 112, "dtype": "auto", "pixel_mean": IMAGENET_MEAN, "pixel_std": IMAGENET_STD}
    # Resized to a short side of 128 to 159 rows, then cut out at any place.
    crop = {"name": "multiscale", "scales": tuple(112 / side for side in range(128, 160)), "distort": 0, "places": 0}
    color = (
        {"name": "jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "shuffle": True},
        {"name": "gray", "prob": 0.3},
    )
    config.objective = {
        "name": "local_aggregation", "temperature": 0.07, "momentum": 0.5, "noise": 4096, "background": 4096, "clusters": 10_000, "clusterings": 1,
        "iterations": 20, "initial": 50_000, "chunk": 0, "head": {"hidden": (), "dim": 128, "norm": False},
        "views": ({"clip": 0, "crop": crop, "flip": 0.5, "color": color},), "eval_view": {"short_side": 128, "crops": 1},
    }  # fmt: skip
    pretext.clips(config, frames=16, canvas=(160, 284))
    config.train.batch_size, config.train.steps = 64, 1_600_000
    config.data.num_examples = pretext.NUM_EXAMPLES["k400"]
    pretext.sgd(config, rate=0.03, weight_decay=1e-4, drops=(974_946 / 1_600_000, 1_304_998 / 1_600_000))
    contrastive.remember(config)
