"""What every backbone is to the rest of the code: clips in, a map of features and one pooled vector out.

The one idea: a backbone is a linen module with `features(clip, train, rng)`, and `init` and `apply` below split its variables into the
two trees that train differently: `params`, which the optimizer moves, and `stats` (running statistics of batch normalization), which the
objective keeps in its memory. A backbone without such statistics has `stats == {}` and callers need not know. Statistics are those of the
global batch, on any number of devices (models/blocks3d.py).

What clips a backbone takes is part of it, and goes where its weights go: the fields `frames`, `size` (rows = columns), `pixel_mean` and
`pixel_std` (what RGB in [0, 1] is normalized by). So nobody can evaluate weights on pictures scaled in another way.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError
from vssl_jax.models import layout
from vssl_jax.perturb.view import Pixels

Tree = Any

STATS = "batch_stats"  # linen's collection of running statistics


class Features(NamedTuple):
    """What a backbone sees in a clip: `map` keeps where (time slots, rows, columns), `pooled` is their mean, or what else the network's own
    classifier reads (models/inception3d.py, c3d.py).
    """

    map_BxTxHxWxD: jax.Array
    pooled_BxD: jax.Array


def pixels(module: nn.Module) -> Pixels:
    """The pictures that a backbone takes."""
    return Pixels(module.size, module.pixel_mean, module.pixel_std)


def init(module: nn.Module, rng: jax.Array, clip_shape: tuple[int, ...]) -> tuple[Tree, Tree, Features]:
    """Fresh (params, stats) of a backbone, and the shapes of its features. `clip_shape` is (B,T,H,W,3); the forward pass is traced, once, and not
    computed. Raises UserError where the mesh splits the tokens of a clip and the backbone does not (its attribute `splits_sequences`): those devices
    would all compute the same.
    """
    if layout.parts() > 1 and not getattr(module, "splits_sequences", False):
        raise UserError(f"mesh.seq={layout.parts()} splits the tokens of a clip, which {type(module).__name__} does not do: set mesh.seq=1")
    clip, seen = jax.ShapeDtypeStruct(clip_shape, "float32"), []

    def features(module, clip):
        seen.append(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), module.features(clip)))

    variables = module.lazy_init(rng, clip, method=features)
    return variables["params"], variables.get(STATS, {}), seen[-1]


def apply(
    module: nn.Module, params: Tree, stats: Tree, clip_BxTxHxWx3: jax.Array, *, train: bool, rng=None, method: str | None = None, **kw
) -> tuple[Any, Tree]:
    """Runs a backbone on normalized clips and returns (its output, the new stats).

    `rng` holds one key per example, [B] (perturb/keys.py: then the draws do not depend on how a batch is split), and is needed only where
    the backbone is stochastic in training. `method` names the module's method, None is `__call__`; `kw` goes to it.
    """
    variables = {"params": params} | ({STATS: stats} if stats else {})
    kw = dict(kw, train=train, rng=rng)
    if not (stats and train):
        return module.apply(variables, clip_BxTxHxWx3, method=method, **kw), stats
    out, changed = module.apply(variables, clip_BxTxHxWx3, method=method, mutable=[STATS], **kw)
    return out, changed[STATS]


def frozen(module: nn.Module, params: Tree, stats: Tree, views_BxSxTxHxWx3: jax.Array) -> Features:
    """The features that a backbone makes of videos in evaluation mode: means over the S views of each, the map's in float32."""
    videos, views = views_BxSxTxHxWx3.shape[:2]
    out, _ = apply(module, params, stats, views_BxSxTxHxWx3.reshape(-1, *views_BxSxTxHxWx3.shape[2:]), train=False, method="features")
    map_BxSxTxHxWxD = out.map_BxTxHxWxD.reshape(videos, views, *out.map_BxTxHxWxD.shape[1:])
    return Features(map_BxSxTxHxWxD.astype(jnp.float32).mean(axis=1), out.pooled_BxD.reshape(videos, views, -1).mean(axis=1))
