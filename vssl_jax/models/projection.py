"""From a backbone's features to the unit vectors that contrastive methods compare, and on from those: predictors and prototypes."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, check_names, unknown_name
from vssl_jax.models.backbone import STATS, Features
from vssl_jax.models.blocks3d import BatchNorm, NetConfig

Tree = Any
ACTIVATIONS = {"relu": nn.relu, "gelu": lambda x: nn.gelu(x, approximate=False)}


def unit(x: jax.Array) -> jax.Array:
    """x by its length, along the last axis; 0 stays 0, and has a gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))


class Projections(nn.Module):
    """For each of `names` a linear layer on the pooled features, after a hidden one as wide as they are if `hidden`: {name: unit vectors, float32
    [B, dim]}.
    """

    names: tuple[str, ...]
    dim: int = 128
    hidden: bool = False

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None) -> dict[str, jax.Array]:
        x = features.pooled_BxD.astype(jnp.float32)
        init = nn.initializers.he_normal()
        made = {}
        for name in self.names:
            y = nn.relu(nn.Dense(x.shape[-1], kernel_init=init, name=f"{name}_hidden")(x)) if self.hidden else x
            made[name] = unit(nn.Dense(self.dim, kernel_init=init, name=name)(y))
        return made


class MLP(nn.Module):
    """Linear layers of widths `hidden`, each with batch normalization unless `norm` is off and the activation, and one to `dim`, with batch
    normalization of its own (without scale and bias) if `norm_last`; float32 [N, dim], of unit length unless `unit_length` is off.

    Batch normalization is over all rows of the global batch, so no row can be told by which others it shares a device with.
    """

    hidden: tuple[int, ...] = (2048,)
    dim: int = 128
    norm: bool = True
    norm_last: bool = False
    activation: str = "relu"
    unit_length: bool = True

    def __post_init__(self):
        super().__post_init__()
        if min((self.dim, *self.hidden)) < 1:
            raise UserError(f"a head has hidden layers {tuple(self.hidden)} and dim {self.dim}: widths are 1 or more")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)

    @nn.compact
    def __call__(self, x_NxD: jax.Array, train: bool = False) -> jax.Array:
        x, init, config = x_NxD.astype(jnp.float32), nn.initializers.he_normal(), NetConfig()
        for i, width in enumerate(self.hidden):
            x = nn.Dense(width, use_bias=not self.norm, kernel_init=init, name=f"hidden{i}")(x)
            x = BatchNorm(config, name=f"norm{i}")(x, train) if self.norm else x
            x = ACTIVATIONS[self.activation](x)
        x = nn.Dense(self.dim, use_bias=not self.norm_last, kernel_init=nn.initializers.lecun_normal(), name="out")(x)
        x = BatchNorm(config, affine=False, name="norm_out")(x, train) if self.norm_last else x
        return unit(x) if self.unit_length else x


class Prototypes(nn.Module):
    """Scores [N, count] of unit vectors with unit vectors that are learned. Their lengths are divided out wherever they are used, so that no step
    has to put them right (SwAV's codes do so after each).
    """

    count: int

    @nn.compact
    def __call__(self, z_NxD: jax.Array) -> jax.Array:
        kernel_DxK = self.param("kernel", nn.initializers.lecun_normal(), (z_NxD.shape[-1], self.count))
        return jnp.matmul(z_NxD, unit(kernel_DxK.T).T, precision=jax.lax.Precision.HIGHEST)


def check_predictor(predictor: MLP, head: MLP) -> None:
    """Raises UserError where what it foretells is no unit vector of the head's width, or the head scales what it reads."""
    if head.unit_length:
        raise UserError("objective.head.unit_length is true: a predictor reads the head's vectors as they are, set it to false")
    if not predictor.unit_length:
        raise UserError("objective.predictor.unit_length is false: what is compared must be of unit length, set it to true")
    if predictor.dim != head.dim:
        raise UserError(
            f"objective.predictor.dim is {predictor.dim} and objective.head.dim {head.dim}: what is foretold has the head's width, set both alike"
        )


def start(module: nn.Module, rng: jax.Array, width: int) -> tuple[Tree, Tree]:
    """Fresh (params, statistics) of an MLP or of Prototypes for vectors of that width."""
    variables = module.lazy_init(rng, jax.ShapeDtypeStruct((1, width), jnp.float32))
    return variables["params"], variables.get(STATS, {})


def apply(module: nn.Module, params: Tree, stats: Tree, x_NxD: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
    """(its output, the new statistics)."""
    if not (stats and train):
        return module.apply({"params": params} | ({STATS: stats} if stats else {}), x_NxD, train), stats
    out, changed = module.apply({"params": params, STATS: stats}, x_NxD, train, mutable=[STATS])
    return out, changed[STATS]


def build(config: Mapping[str, Any]) -> MLP:
    """An MLP of a recipe's entries. Raises UserError for one that it does not have."""
    known = [name for name in MLP.__dataclass_fields__ if name not in ("parent", "name")]
    check_names("field of a head", config, known)
    return MLP(**{name: tuple(value) if isinstance(value, list) else value for name, value in config.items()})
