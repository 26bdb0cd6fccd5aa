"""Dense predictive coding (DPC) with an R3D-18 on Kinetics-400: of all places and times of a batch, which one comes next here?

Paper: Han, Xie, Zisserman, "Video Representation Learning by Dense Predictive Coding", ICCV workshops 2019 (arXiv 1909.04656).
Command: python -m vssl_jax.main --config=configs/dpc_r3d18.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: more than a week on 4 P40 GPUs (the authors' repository).
Expected: UCF101 68.2 and HMDB51 34.5 after fine-tuning; with 34 layers at 224 pixels 75.7 and 35.7 (the authors' repository, for their own net).
Reproduced here: not yet run at full size; `:local` (500 steps, 1 seed) does not beat random weights (README, "How they compare"). Blocks,
stride, batch, rate, epochs, crop, strengths of colors and the recurrent network's dropout are those of the authors' code. Unlike there:
- the net: theirs has a 1x7x7 stem, a max pool, and 256 channels and no ReLU at its end, and so maps of 4 x 4 places; ours has a 3x7x7 stem, no pool, 512
  channels and 8 x 8 places, and a linear layer to 256 after its last ReLU;
- the rate is constant, as in the code, where the paper lowers it once the validation loss stands still (as cited, not checked);
- negatives are those of the whole batch, not of a GPU; batch normalization keeps running statistics, which evaluation uses.

Variants: `:local` trains a small CNN on the embedded dataset in minutes on a CPU; `:smoke` runs the same code at toy size in seconds.
"""

from configs import predictive, pretext
from vssl_jax import config as config_lib


def get_config(arg: str = ""):
    return predictive.recipe(arg, _paper, own={})


def _paper(config):
    predictive.paper(config, gray=0.5, crop={"name": "random_resized", "area": (0.5, 1.0)})
    pretext.clips(config, frames=predictive.span(config), stride=5, canvas=(150, 268), too_short=0.1)
    config.train.batch_size = 128
    config_lib.by_epochs(config, epochs=300, warmup_epochs=0, num_examples=pretext.NUM_EXAMPLES["k400"])
