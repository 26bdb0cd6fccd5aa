"""UberNCE with S3D on UCF101: contrast with all videos of a class as positives, CoCLR's upper bound. It reads labels.

Paper: Han, Xie, Zisserman, "Self-supervised Co-training for Video Representation Learning", NeurIPS 2020 (arXiv 2010.09709).
Command: python -m vssl_jax.main --config=configs/uber_nce_s3d_ucf101.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated.
Expected: not verified.
Reproduced here: not yet run at full size. Queue, temperature, decay, rate, epochs, augmentation and the loss, a mean over the positives' logarithms, are those
of the authors' code; what differs, configs/coclr_s3d_ucf101.py says.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import coclr_s3d_ucf101, contrastive, pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    local = {"pairing": {}, "queue": 512, "average": {"decay": 0.99, "final": -1.0}}
    return contrastive.recipe(arg, _paper, local=local, smoke={"queue": 16})


def _paper(config):
    coclr_s3d_ucf101.network_and_data(config, frames=32)
    config.objective = {
        "name": "uber_nce", "queue": 2048, "temperature": 0.07, "average": {"decay": 0.999, "final": -1.0}, "chunk": 0, **coclr_s3d_ucf101.head_and_views(),
    }  # fmt: skip
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["ucf101"])
    config.optimizer.update(coclr_s3d_ucf101.ADAM | {"schedule": "steps"})
    config.optimizer.drops = (250 / 300, 280 / 300)
