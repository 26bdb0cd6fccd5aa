"""VideoMAE ViT-B on UCF101.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vitb_ucf101.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 8 GPUs x 24 clips, about 30 h (the repository's script and issue 48).
Expected: 91.3 top-1 on UCF101 after fine-tuning, without any other data (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_base", data="ucf101", epochs=3200, batch_size=192)
