"""Backbones that compile at once."""

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.models.backbone import Features


class Means(nn.Module):
    """A backbone that compiles at once: a linear map of each clip's mean color, and batch statistics that count calls."""

    @nn.compact
    def features(self, clip, train=False, rng=None):
        calls = self.variable("batch_stats", "calls", lambda: jnp.zeros((), jnp.int32))
        if train and not self.is_initializing():
            calls.value += 1
        out = nn.Dense(4, name="color")(jnp.mean(clip, axis=(1, 2, 3)))
        return Features(out[:, None, None, None], out)

    def __call__(self, clip):
        return self.features(clip)


class Flat(nn.Module):
    """A linear map of all pixels, and batch statistics that count calls in training."""

    @nn.compact
    def features(self, clip, train=False, rng=None):
        calls = self.variable("batch_stats", "calls", lambda: jnp.zeros((), jnp.int32))
        if train and not self.is_initializing():
            calls.value += 1
        out = nn.Dense(16, name="pixels")(clip.reshape(len(clip), -1))
        return Features(out[:, None, None, None], out)

    def __call__(self, clip):
        return self.features(clip)
