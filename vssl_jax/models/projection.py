"""From a backbone's features to the unit vectors that contrastive methods compare."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.backbone import Features


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
