"""Fine-tuning VideoMAE ViT-L on Kinetics-400.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/finetune_vitl.py --config.initial.checkpoint=PRETRAINED --config.data.path=TRAIN
    --config.eval.test.path=TEST --workdir=RUN
Hardware of the original: 64 GPUs x 2 videos, two clips of each (the repository's script); hours not given.
Expected: 85.2 top-1 (96.8 top-5) from 1600 epochs of pretraining, 5 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` trains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import finetune


def get_config(arg: str = ""):
    return finetune.recipe(arg, "vit_large", "k400", epochs=35, batch_size=128, per_gpu=2, learning_rate=2e-3)
