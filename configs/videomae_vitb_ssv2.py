"""VideoMAE ViT-B on Something-Something V2.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vitb_ssv2.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 64 GPUs x 32 clips (the repository's script); hours not given.
Expected: 69.6 top-1 after fine-tuning (800 epochs), 70.8 (2400 epochs), 2 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_base", data="ssv2", epochs=800, batch_size=2048)
