"""What the networks that tests make up say of the clips they take."""

import flax.linen as nn

from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD


class OfClips(nn.Module):
    """The fields of a backbone; a subclass has `__call__(clip, train, rng)`."""

    frames: int = 4
    size: int = 16
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD

    def features(self, clip, train=False, rng=None):
        return self(clip, train, rng)
