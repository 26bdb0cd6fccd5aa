"""BraVe with two TSM ResNet-50 on Kinetics-600: 16 frames foretell 64 that are twice as far apart, and the other way round.

Paper: Recasens, Luc, Alayrac, Wang, Hemsley, Strub, Tallec, Malinowski, Patraucean, Altche, Valko, Grill, van den Oord, Zisserman, "Broaden Your Views for
Self-Supervised Video Learning", ICCV 2021 (arXiv 2103.16559).
Command: python -m vssl_jax.main --config=configs/brave_tsm50.py --config.data.path=VIDEOS --workdir=RUN
Hardware and hours of the original: not stated in the code.
Expected: by a linear SVM on the frozen narrow network, UCF101 92.6, HMDB51 65.4, Kinetics-600 70.8 (the authors' repository, V/VVV).
Reproduced here: not yet run at full size. Settings are those of the authors' public code for a broad view of colors, which is a setting there (its own broad
view is sound); what VVV stands for, and which videos a network was trained on, it does not say. What differs:
- Their narrow view begins where the broad one does. Where the broad one is of colors a start of its own is better, their code says: here it is anywhere
  within the broad one.
- A short video stops at its last frame, theirs begins anew.
- Their residual blocks normalize before they convolve; these are those of Lin et al. 2019, which the shift was made for.
- Brightness is multiplied, theirs adds up to 32 / 255; contrast changes by a clip's mean, theirs by each frame's and
  channel's; contrast comes before saturation here, there after it.
- The projector's last normalization has no scale and bias.
- The predictor's rate is ten times the others'. Their code multiplies its gradient, which LARS divides out again where it scales a kernel; but by the letter
  its masks let LARS scale and decay biases and normalization, and leave kernels plain SGD. Here LARS scales and decays kernels, and nothing else.

Variants: `:local` trains two small CNNs on the embedded dataset in minutes on a CPU, all of them at the one rate that methods
have there, the predictor's too; `:smoke` runs the same code at toy size in seconds.
"""

from configs import contrastive, pretext


def get_config(arg: str = ""):
    small, toy = _small(hidden=64, dim=32, frames=16, size=32), _small(hidden=8, dim=8, frames=8, size=16)
    return contrastive.recipe(arg, _paper, local=small, smoke=toy)


def _small(hidden, dim, frames, size):
    """The narrow view is as long and large as the encoder's clips, the broad one longer and smaller."""
    (narrow,) = contrastive.local_views(1, first=-1)
    convolved = (*narrow["color"], {"name": "random_convolution", "size": 5})
    broad = narrow | {"first": 0, "frames": frames, "stride": 2, "size": size, "color": convolved}
    return {"views": (narrow, broad), "head": _projector(hidden, dim), "predictor": {"hidden": (hidden,), "dim": dim}}


def _projector(hidden, dim):
    """The predictor reads its vectors as they are."""
    return {"hidden": (hidden,), "dim": dim, "norm_last": True, "unit_length": False}


def _paper(config):
    config.model = {"name": "tsm_r50", "frames": 16, "size": 224, "dtype": "auto", "last_scale": 1.0}
    blur = {"name": "blur", "prob": 1.0, "sigma": (0.1, 2.0)}
    color = (
        {"name": "jitter", "brightness": 32 / 255, "contrast": 0.4, "saturation": 0.4, "hue": 0.2, "prob": 0.8},
        {"name": "gray", "prob": 0.2},
    )
    view = {"clip": 0, "crop": {"name": "random_resized", "area": (0.3, 1.0), "aspect": (0.5, 2.0)}, "flip": 0.5}
    # Of every second frame: the narrow view takes them as they come, the broad one each second.
    narrow = view | {"first": -1, "stride": 1, "color": (blur | {"radius": 11}, *color)}
    convolved = (blur | {"radius": 5}, *color, {"name": "random_convolution", "size": 11})
    broad = view | {"first": 0, "frames": 64, "stride": 2, "size": 112, "color": convolved}
    config.objective = {
        "name": "brave", "both": True, "chunk": 0, "head": _projector(4096, 128), "predictor": {"hidden": (4096,), "dim": 128}, "views": (narrow, broad),
        "eval_view": contrastive.EVAL_VIEW,
    }  # fmt: skip
    pretext.clips(config, frames=127, stride=2, canvas=(256, 456))
    config.data.sampler.update({"target_fps": 25.0, "pad": True})
    config.train.update({"steps": 300_000, "batch_size": 512})
    config.optimizer.update(
        {"name": "lars", "learning_rate": 1.0, "lr_batch": 0, "warmup_steps": 5000, "weight_decay": 1e-2, "momentum": 0.9, "nesterov": True}
    )
    config.optimizer.rates = {"predictor": 10.0}
