"""VideoMAE ViT-S on Something-Something V2.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vits_ssv2.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 nodes x 8 GPUs x 32 clips as the script launches it (its comment says 32 GPUs); hours not given.
Expected: 66.8 top-1 after fine-tuning, 2 clips x 3 crops (the repository's model zoo, 2400 epochs).
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_small", data="ssv2", epochs=2400, batch_size=2048)
