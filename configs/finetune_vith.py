"""Fine-tuning VideoMAE ViT-H on Kinetics-400.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/finetune_vith.py --config.initial.checkpoint=PRETRAINED --config.data.path=TRAIN
    --config.eval.test.path=TEST --workdir=RUN
Hardware of the original: 64 GPUs x 8 videos, two clips of each (the repository's script); hours not given.
Expected: 86.6 top-1 (97.1 top-5) from 1600 epochs of pretraining, 5 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` trains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import finetune


def get_config(arg: str = ""):
    return finetune.recipe(
        arg, "vit_huge", "k400", epochs=50, batch_size=512, per_gpu=8, learning_rate=1e-3, drop_path=0.2, dropout=0.5, final_learning_rate=1e-5
    )
