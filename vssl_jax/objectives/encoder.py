"""What all methods share that train one backbone with a head on it: its start, its features, its embedding, its export."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models import flops as flops_lib
from vssl_jax.objectives.protocol import STATS, Memory, Objective, Parts, Tree
from vssl_jax.perturb import recipe
from vssl_jax.perturb.view import EvalView, RandomView


@dataclass(frozen=True)
class OnEncoder(Objective):
    """Parts: "encoder" (a backbone), and what the method adds. Memory: "stats", the backbone's batch statistics, of the global batch whatever
    the mesh.

    `frames` is how many of them a clip that the encoder gets in training has.
    """

    encoder: nn.Module
    head: nn.Module
    frames: int
    view: RandomView
    eval_view: EvalView

    @property
    def clip_size(self) -> tuple[int, int]:
        """Rows and columns of what the encoder gets in training."""
        return recipe.pair(self.view.size)

    def start_encoder(self, rng: jax.Array) -> tuple[Tree, Tree, backbone_lib.Features]:
        """(its parameters, its statistics, the shapes of its features for one clip)."""
        clip_shape = (1, self.frames, *self.clip_size, 3)
        params, stats = backbone_lib.init(self.encoder, rng, clip_shape)
        features = jax.eval_shape(
            lambda p, s: backbone_lib.apply(self.encoder, p, s, jnp.zeros(clip_shape), train=False, method="features")[0], params, stats
        )
        return params, stats, features

    def features(self, params: Parts, memory: Memory, clips_BxTxHxWx3: jax.Array, rng_B, train: bool) -> tuple[backbone_lib.Features, Tree]:
        """(features, the new statistics). `rng_B`: a key per clip, for a backbone that draws in training."""
        keys = rng_B if train else None
        return backbone_lib.apply(self.encoder, params["encoder"], memory[STATS], clips_BxTxHxWx3, train=train, rng=keys, method="features")

    def embed(self, params, memory, batch):
        views = self.eval_view(batch)
        features, _ = self.features(params, memory, views.reshape(-1, *views.shape[2:]), None, train=False)
        return {"video": jnp.mean(features.pooled_BxD.reshape(*views.shape[:2], -1), axis=1)}

    def backbone(self, params, memory):
        return params["encoder"], memory[STATS]

    def flops(self, clips):
        """Without the head, which is small beside any encoder."""
        forward = flops_lib.backbone(self.encoder)
        return None if forward is None else 3.0 * forward * clips
