"""Backbones that compile at once: a linear map of what each of them looks at in a clip, and batch statistics that count calls in training."""

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.models.backbone import Features


class Linear(nn.Module):
    width: int = 4
    layer: str = "color"

    def look(self, clip):
        """[B,T,H,W,3] -> what the linear map reads at each place of the feature map, [B,T',H',W',*]."""
        raise NotImplementedError

    @nn.compact
    def features(self, clip, train=False, rng=None):
        calls = self.variable("batch_stats", "calls", lambda: jnp.zeros((), jnp.int32))
        if train and not self.is_initializing():
            calls.value += 1
        out = nn.Dense(self.width, name=self.layer)(self.look(clip))
        return Features(out, out.mean((1, 2, 3)))

    def __call__(self, clip):
        return self.features(clip)


class Means(Linear):
    """Each clip's mean color."""

    def look(self, clip):
        return clip.mean((1, 2, 3), keepdims=True)


class Times(Linear):
    """One pixel of each frame, by which times differ."""

    def look(self, clip):
        return clip[:, :, :1, :1]


class Grid(Linear):
    """The mean color of every 8 x 8 pixels."""

    width: int = 6

    def look(self, clip):
        b, t, h, w, _ = clip.shape
        return clip.reshape(b, t, h // 8, 8, w // 8, 8, 3).mean((3, 5))


class Flat(Linear):
    """All pixels."""

    width: int = 16
    layer: str = "pixels"

    def look(self, clip):
        return clip.reshape(len(clip), 1, 1, 1, -1)
