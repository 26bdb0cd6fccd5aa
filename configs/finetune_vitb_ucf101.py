"""Fine-tuning VideoMAE ViT-B on UCF101.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/finetune_vitb_ucf101.py --config.initial.checkpoint=PRETRAINED --config.data.path=TRAIN
    --config.eval.test.path=TEST --workdir=RUN
Hardware of the original: 8 GPUs x 16 videos, two clips of each (the repository's script); hours not given.
Expected: 91.3 top-1 (98.5 top-5) from 3200 epochs of pretraining, 5 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` trains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import finetune


def get_config(arg: str = ""):
    return finetune.recipe(
        arg,
        "vit_base",
        "ucf101",
        epochs=100,
        batch_size=128,
        per_gpu=16,
        learning_rate=5e-4,
        layer_decay=0.7,
        drop_path=0.2,
        dropout=0.5,
        final_learning_rate=1e-5,
    )
