"""Fine-tuning VideoMAE ViT-S on Kinetics-400.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/finetune_vits.py --config.initial.checkpoint=PRETRAINED --config.data.path=TRAIN
    --config.eval.test.path=TEST --workdir=RUN
Hardware of the original: 32 GPUs x 12 videos, two clips of each (the repository's script); hours not given.
Expected: 79.0 top-1 (93.8 top-5) from 1600 epochs of pretraining, 5 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` trains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import finetune


def get_config(arg: str = ""):
    return finetune.recipe(arg, "vit_small", "k400", epochs=150, batch_size=384, per_gpu=12, learning_rate=5e-4)
