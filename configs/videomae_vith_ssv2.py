"""VideoMAE ViT-H on Something-Something V2.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vith_ssv2.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: no script published; the batch is that of ViT-H on Kinetics-400.
Expected: not published for this model and data set.
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_huge", data="ssv2", epochs=2400, batch_size=1024)
