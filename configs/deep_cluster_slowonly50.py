"""DeepCluster-v2 over 2 clips of a video with SlowOnly ResNet-50 on Kinetics-400.

Paper: Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020 (arXiv
2006.09882), appendix; DeepCluster is Caron, Bojanowski, Joulin, Douze 2018 (arXiv 1807.05520).
Command: python -m vssl_jax.main --config=configs/deep_cluster_slowonly50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 64 GPUs for ImageNet, at most 25 hours for 400 epochs of two crops (the authors' script).
Expected: no number of it on video is published; ImageNet 70.2 by a linear probe after 400 epochs of two crops, where SwAV has 70.1 (the authors' repository).
Reproduced here: not yet run at full size. It is an image method in the video setting of configs/swav_slowonly50.py (clips, views, batch, optimizer, epochs)
with the clustering and the head of the authors' code: three clusterings of 3000 clusters, by turns of either clip, 10 iterations of k-means once an epoch,
temperature .1, one hidden layer of 2048. There an extra pass over the data fills the bank before the first epoch; here the first of the 200 epochs does, in
which nothing is learned. Other data: --config.data.num_examples=VIDEOS sets an epoch's length and the places of the bank. What holds for all recipes of this
setting (batch normalization over all views and videos) stands in configs/contrastive.py. A short video is left out, there its last frame is repeated.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive


def get_config(arg: str = ""):
    return contrastive.recipe(
        arg, _paper, local=contrastive.LOCAL_BANK | {"prototypes": 64}, smoke=contrastive.SMOKE_BANK | {"prototypes": 4, "iterations": 2}
    )


def _paper(config):
    config.objective = {
        "name": "deep_cluster", "prototypes": 3000, "heads": 3, "temperature": 0.1, "iterations": 10, "assigned": 2, "chunk": 0,
        "head": {"hidden": (2048,), "dim": 128}, "views": contrastive.slowonly_views(2), "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    contrastive.slowonly(config, clips=2, rate=0.6, weight_decay=1e-6, lars=True)
    contrastive.remember(config)
