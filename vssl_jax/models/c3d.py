"""C3D (Tran et al. 2015, https://arxiv.org/abs/1412.0767, figure 3): eight 3x3x3 convolutions and max pools between them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.backbone import Features
from vssl_jax.models.blocks3d import BatchNorm, Conv3D, NetConfig, check_clip, max_pool, mean_of_places
from vssl_jax.models.heads import dropout
from vssl_jax.perturb.view import IMAGENET_MEAN, IMAGENET_STD

# name: multiple of the width, and whether rows, columns and (but the first time) time are halved behind it
CONVOLUTIONS = {
    "conv1": (1, True), "conv2": (2, True), "conv3a": (4, False), "conv3b": (4, True), "conv4a": (8, False), "conv4b": (8, True),
    "conv5a": (8, False), "conv5b": (8, False),
}  # fmt: skip
DROPOUT = 0.5


class C3D(nn.Module):
    """The convolutions as in the paper, with biases and without normalization; `norm` puts batch normalization behind each (VCOP's version).

    `pooled` is the mean of the map (512 channels at width 64), or with `fully_connected` the paper's: the map is pooled once more, and fc6
    and fc7 of `64 * width` units, each with ReLU and dropout, read all of it, so clips must then have the size that it is trained on.
    """

    norm: bool = False
    fully_connected: bool = False
    width: int = 64
    frames: int = 16
    size: int = 112
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    dtype: str = "float32"
    impl: str = "auto"
    momentum: float = 0.9

    @nn.compact
    def __call__(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        """Features of clips of at least 8 frames: the map is T/8, H/16, W/16. Raises UserError for clips that are too small. `rng`, one key
        per example, is needed in training with `fully_connected`.
        """
        check_clip(clip_BxTxHxWx3)
        config = NetConfig(self.dtype, self.impl, self.momentum)
        x = clip_BxTxHxWx3
        for name, (multiple, pool) in CONVOLUTIONS.items():
            x = Conv3D(self.width * multiple, (3, 3, 3), (1, 1, 1), config, use_bias=True, name=name)(x)
            if self.norm:
                x = BatchNorm(config, name=f"{name}_norm")(x, train)
            x = nn.relu(x)
            if pool:
                window = (1 if name == "conv1" else 2, 2, 2)
                x = max_pool(x, window, window)
        return Features(x, self._fully_connected(x, train, rng) if self.fully_connected else mean_of_places(x))

    def _fully_connected(self, map_BxTxHxWxD, train, rng) -> jax.Array:
        """fc7, float32 [B, 64 * width]."""
        x = max_pool(map_BxTxHxWxD, (2, 2, 2), (2, 2, 2), (0, 1, 1)).reshape(map_BxTxHxWxD.shape[0], -1)
        for i, name in enumerate(("fc6", "fc7")):
            x = nn.relu(nn.Dense(64 * self.width, dtype=self.dtype, name=name)(x))
            keys = None if rng is None else jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(rng)
            x = dropout(x, DROPOUT, train, keys)
        return x.astype(jnp.float32)

    def features(self, clip_BxTxHxWx3, train: bool = False, rng: Any = None) -> Features:
        return self(clip_BxTxHxWx3, train, rng)
