"""From a backbone's features to the logits of classes.

The one idea: every head takes the whole of `Features`, so a frozen probe, an attentive probe and fine-tuning differ in a name. Logits are
float32.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, check_names, unknown_name
from vssl_jax.models.backbone import Features
from vssl_jax.models.transformer import LayerNorm, Mlp


def dropout(x_BxD: jax.Array, rate: float, train: bool, rng_B: Any) -> jax.Array:
    """Dropout with one key per example, so that the draws do not depend on which examples share the batch."""
    if not train or rate == 0.0:
        return x_BxD
    if rng_B is None:
        raise ValueError("dropout needs rng: one key per example")
    # Folded, because the backbone draws its stochastic depth from the same keys.
    keep = jax.vmap(lambda key, x: jax.random.bernoulli(jax.random.fold_in(key, 1), 1.0 - rate, x.shape))(rng_B, x_BxD)
    return jnp.where(keep, x_BxD / (1.0 - rate), 0.0)


class LinearHead(nn.Module):
    """One linear layer on the pooled features: the linear probe."""

    classes: int
    init_std: float = 0.01

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        init = nn.initializers.normal(self.init_std)
        return nn.Dense(self.classes, kernel_init=init, name="linear")(features.pooled_BxD.astype(jnp.float32))


class FcNormHead(nn.Module):
    """VideoMAE's head of fine-tuning: LayerNorm after the mean over tokens (the encoder has no final norm then), dropout, one linear layer.

    The layer starts `init_scale` times smaller than usual, so the first steps hardly move the pretrained encoder.
    """

    classes: int
    dropout: float = 0.0
    init_scale: float = 0.001

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        x = LayerNorm("float32", name="norm")(features.pooled_BxD)
        x = dropout(x, self.dropout, train, rng)
        return nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.02 * self.init_scale), name="linear")(x)


class AttentiveHead(nn.Module):
    """The attentive probe of V-JEPA (Bardes et al. 2024): one learned query reads all tokens through a cross-attention block, then one
    linear layer.

    `heads` must divide the width of the features.
    """

    classes: int
    heads: int
    mlp_ratio: float = 4.0

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        x = features.map_BxTxHxWxD
        width = x.shape[-1]
        if width % self.heads:
            raise UserError(
                f"the attentive head has {self.heads} heads, which do not divide the {width} channels of the features: choose a divisor"
            )
        tokens_BxNxD = x.reshape(x.shape[0], -1, width).astype(jnp.float32)
        init = nn.initializers.truncated_normal(0.02)
        query = self.param("query", init, (1, width))
        query_Bx1xD = jnp.broadcast_to(query, (x.shape[0], 1, width))

        def project(name, y, features=(self.heads, width // self.heads), axis: Any = -1):
            return nn.DenseGeneral(features, axis=axis, kernel_init=init, name=name)(y)

        tokens = LayerNorm("float32", name="norm1")(tokens_BxNxD)
        out = jax.nn.dot_product_attention(project("q", query_Bx1xD), project("k", tokens), project("v", tokens))
        x = query_Bx1xD + project("proj", out, width, (-2, -1))
        x = x + Mlp(round(width * self.mlp_ratio), "float32", name="mlp")(LayerNorm("float32", name="norm2")(x))
        return nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.01), name="linear")(x[:, 0])


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": LinearHead, "fc_norm": FcNormHead, "attentive": AttentiveHead}


def build(config: Mapping[str, Any], classes: int) -> nn.Module:
    """The head of a config: `name` is a key of HEADS, every other entry a field of its module. Raises UserError for one that is not known."""
    fields = dict(config)
    name = fields.pop("name")
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    known = {f.name: f for f in dataclasses.fields(HEADS[name]) if f.name not in ("parent", "name", "classes")}
    check_names(f"field of head {name}", fields, known)
    if missing := [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in fields]:
        raise UserError(f"head {name!r} needs {', '.join(missing)}: set head.{missing[0]}")
    return HEADS[name](classes=classes, **fields)


def reads_map(config: Mapping[str, Any]) -> bool:
    """Whether the head of a config looks at the map of the features, which is large, and not at the pooled ones alone."""
    return config["name"] == "attentive"
