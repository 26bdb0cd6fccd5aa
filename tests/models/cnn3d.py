"""The 3-D convolution networks at toy size, and at full size by shapes."""

import jax
import numpy as np

from vssl_jax import models
from vssl_jax.models import backbone

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
