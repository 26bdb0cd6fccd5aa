"""The 3-D convolution networks at toy size, and at full size by shapes."""

import jax
import numpy as np

from vssl_jax import models
from vssl_jax.models import backbone

# name: parameters, clips (frames, side), map (slots, side, channels). The counts are torchvision's (r3d18, mc3_18, r2plus1d18, s3d; tsm_r50: its
# image network's), PySlowFast's (slowonly_r50), CVRL's (cvrl_r3d50), VCOP's code's (the rest of *_vcop), and of the papers' layers (c3d, i3d, s3d_g).
TABLE = {
    "c3d": (27_655_936, (16, 112), (2, 7, 512)),
    "c3d_vcop": (27_661_440, (16, 112), (2, 7, 512)),
    "r3d18": (33_166_272, (16, 112), (2, 7, 512)),
    "mc3_18": (11_490_240, (16, 112), (16, 7, 512)),
    "r2plus1d18": (31_300_125, (16, 112), (2, 7, 512)),
    "r3d10_vcop": (14_361_792, (16, 112), (2, 7, 512)),
    "r2plus1d10_vcop": (14_365_303, (16, 112), (2, 7, 512)),
    "i3d": (12_287_264, (64, 224), (8, 7, 1024)),
    "s3d": (7_910_048, (64, 224), (8, 7, 1024)),
    "s3d_g": (9_098_000, (64, 224), (8, 7, 1024)),
    "slowonly_r50": (31_634_496, (8, 224), (8, 7, 2048)),
    "cvrl_r3d50": (31_672_128, (16, 224), (8, 7, 2048)),
    "tsm_r50": (23_508_032, (16, 224), (16, 7, 2048)),
}
_SMALL = {"width": 4, "frames": 8, "size": 32}
# Every structure of its original, with few channels and, but for VCOP's, one block a stage.
TINY = {
    "c3d": _SMALL,
    "c3d_vcop": _SMALL,
    "r3d18": _SMALL | {"layers": (1, 1, 1, 1)},
    "mc3_18": _SMALL | {"layers": (1, 1, 1, 1)},
    "r2plus1d18": _SMALL | {"layers": (1, 1, 1, 1)},
    "r3d10_vcop": _SMALL,
    "r2plus1d10_vcop": _SMALL,
    "i3d": _SMALL | {"width": 1 / 32},
    "s3d": _SMALL | {"width": 1 / 32},
    "s3d_g": _SMALL | {"width": 1 / 32},
    "slowonly_r50": _SMALL | {"layers": (1, 1, 1, 1)},
    "cvrl_r3d50": _SMALL | {"layers": (1, 1, 1, 1)},
    "tsm_r50": _SMALL | {"layers": (1, 1, 1, 1)},
}


def tiny(name: str, **fields):
    return models.build({"name": name} | TINY[name] | fields)


def shapes(model):
    """(params, stats, features) of a backbone on one clip of its size, without computing anything."""
    clip = jax.ShapeDtypeStruct((1, model.frames, model.size, model.size, 3), "float32")
    features, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, method="features"), clip)
    return variables["params"], variables.get(backbone.STATS, {}), features


def drawn(model, seed: int = 0):
    """(params, stats) by numpy, nothing to compile: He's kernels, and everything else random around where it starts."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape, np.float32)
        match path[-1].key:
            case "kernel":
                return noise * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
            case "scale" | "var":
                return np.exp(0.2 * noise)
            case _:
                return 0.2 * noise

    return jax.tree_util.tree_map_with_path(draw, shapes(model)[:2])
