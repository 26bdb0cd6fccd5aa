"""From the features of several pieces of a video to the answer of a question about them.

A head gets `Features` whose arrays begin with two axes, questions Q and pieces P, and gives float32 logits [Q, C].
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.backbone import Features
from vssl_jax.models.heads import dropout


def _hidden(x: jax.Array, width: int, name: str = "hidden") -> jax.Array:
    """A hidden layer and its ReLU; nothing at width 0."""
    return nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal(), name=name)(x)) if width else x


def _side_by_side(x_QxPxD: jax.Array) -> jax.Array:
    return x_QxPxD.reshape(x_QxPxD.shape[0], -1)


def _answer(head: nn.Module, x_QxD: jax.Array, train: bool, rng: Any) -> jax.Array:
    """The end of a head: dropout and the linear layer of its classes."""
    return nn.Dense(head.classes, kernel_init=nn.initializers.normal(0.01), name="linear")(dropout(x_QxD, head.dropout, train, rng))


class ConcatHead(nn.Module):
    """All pieces side by side, a hidden layer unless `hidden` is 0, and a linear one. With one piece: a linear probe's form."""

    classes: int
    hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        pooled_QxPxD = features.pooled_BxD.astype(jnp.float32)
        return _answer(self, _hidden(_side_by_side(pooled_QxPxD), self.hidden), train, rng)


class PairsHead(nn.Module):
    """Every pair of pieces, in order, through one shared hidden layer, then all pairs together (Lee et al. 2017, section 3.3: the pairwise
    features of OPN; Xu et al. 2019 use them for VCOP).
    """

    classes: int
    hidden: int = 512
    dropout: float = 0.5

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        pooled_QxPxD = features.pooled_BxD.astype(jnp.float32)
        pairs = list(itertools.combinations(range(pooled_QxPxD.shape[1]), 2))
        first, second = (jnp.array(side) for side in zip(*pairs, strict=True))
        both_QxRx2D = jnp.concatenate([pooled_QxPxD[:, first], pooled_QxPxD[:, second]], axis=-1)
        return _answer(self, _side_by_side(_hidden(both_QxRx2D, self.hidden, "pair")), train, rng)


class DifferencesHead(nn.Module):
    """The sum of the differences of all pairs, later minus earlier, a hidden layer and a linear one (one of the two fusions of Fernando
    et al. 2017; the other is concatenation).
    """

    classes: int
    hidden: int = 128
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        pooled_QxPxD = features.pooled_BxD.astype(jnp.float32)
        last = pooled_QxPxD.shape[1] - 1
        # How often each is the later one of a pair, less how often the earlier.
        weights_P = jnp.array([2.0 * i - last for i in range(last + 1)])
        return _answer(self, _hidden(jnp.einsum("p,qpd->qd", weights_P, pooled_QxPxD), self.hidden), train, rng)


class SpatialMaxHead(nn.Module):
    """The largest value of a feature over rows and columns, its mean over time, and a linear layer (Benaim et al. 2020: the fastest thing in the
    picture decides). Pieces side by side.
    """

    classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        pooled_QxPxD = jnp.mean(jnp.max(features.map_BxTxHxWxD.astype(jnp.float32), axis=(3, 4)), axis=2)
        return _answer(self, _side_by_side(pooled_QxPxD), train, rng)


class BinaryHead(nn.Module):
    """Yes or no by one logit z: the logits (0, z), whose cross-entropy is the binary one of z. `inner` is a head of one class."""

    inner: nn.Module

    @nn.compact
    def __call__(self, features: Features, train: bool = False, rng: Any = None):
        z_Qx1 = self.inner(features, train, rng)
        return jnp.concatenate([jnp.zeros_like(z_Qx1), z_Qx1], axis=-1)


def grouped(features: Features, pieces: int) -> Features:
    """[Q*P, ...] -> [Q, P, ...], the pieces of a question standing together."""
    split = lambda x: x.reshape(-1, pieces, *x.shape[1:])  # noqa: E731
    return Features(split(features.map_BxTxHxWxD), split(features.pooled_BxD))


def shapes(features: Features, pieces: int) -> Features:
    """What a head of `pieces` is initialized with, from the shapes of one clip's features."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, pieces, *x.shape[1:]), x.dtype), features)
