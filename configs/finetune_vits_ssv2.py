"""Fine-tuning VideoMAE ViT-S on Something-Something V2.

Paper: Tong, Song, Wang, Wang, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
Command: python -m vssl_jax.main --config=configs/finetune_vits_ssv2.py --config.initial.checkpoint=PRETRAINED --config.data.path=TRAIN
    --config.eval.test.path=TEST --workdir=RUN
Hardware of the original: 32 GPUs x 12 videos, two clips of each (the repository's script); hours not given.
Expected: 66.8 top-1 (90.3 top-5) from 2400 epochs of pretraining, 2 clips x 3 crops (the repository's model zoo).
Reproduced here: not yet run at full size.

Variants: `:local` trains a small ViT on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import finetune


def get_config(arg: str = ""):
    return finetune.recipe(arg, "vit_small", "ssv2", epochs=40, batch_size=384, per_gpu=12, learning_rate=1e-3, layer_decay=0.7)
