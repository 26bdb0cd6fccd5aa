"""VideoMAE ViT-S on Kinetics-400.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vits.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 32 GPUs x 32 clips (the repository's script); hours not given.
Expected: 79.0 top-1 after fine-tuning, 5 clips x 3 crops (the repository's model zoo, 1600 epochs).
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_small", data="k400", epochs=1600, batch_size=1024)
