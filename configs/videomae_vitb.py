"""VideoMAE ViT-B on Kinetics-400.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/videomae_vitb.py --config.data.source=folder --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: 64 V100, about 27 h for 800 epochs (the authors, in their repository's issue 5).
Expected: 80.0 top-1 after fine-tuning (800 epochs), 81.5 (1600 epochs), 5 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` pretrains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import videomae


def get_config(arg: str = ""):
    return videomae.recipe(arg, backbone="vit_base", data="k400", epochs=800, batch_size=2048)
