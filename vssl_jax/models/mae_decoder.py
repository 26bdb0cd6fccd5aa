"""The light decoder of a masked autoencoder (VideoMAE, Tong et al. 2022, section 3; He et al. 2022).

The one idea: the order of tokens means nothing to a transformer, positions are in the tokens, so the sequence is [visible, masked] as it
comes, nothing is put back in its place, and the predictions are its tail.
"""

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.models import positions as positions_lib
from vssl_jax.models.transformer import BlockConfig, LayerNorm, block_stack, dense


class MAEDecoder(nn.Module):
    """Predicts `out` values of each masked patch from the encoder's visible tokens. Fields as of ViT."""

    width: int
    depth: int
    heads: int
    out: int
    mlp_ratio: float = 4.0
    positions: str = "sincos_1d"
    dtype: str = "float32"
    impl: str = "auto"
    unroll: int = 0
    remat: str = "auto"

    @nn.compact
    def __call__(self, tokens_BxVxD, visible_BxV, masked_BxM, grid: tuple[int, int, int]):
        """Predictions [B,M,P] of the patches `masked`, in the order of `masked`. `grid` is the encoder's (time, rows, columns)."""
        table_NxD = jnp.asarray(positions_lib.table(self.positions, grid, self.width), self.dtype)
        # cut at one standard deviation, as VideoMAE does; the limits are in units of it
        mask_token = self.param("mask_token", nn.initializers.truncated_normal(0.02, lower=-1.0, upper=1.0), (self.width,))
        # The one layer that VideoMAE leaves as PyTorch starts it: uniform to 1 / sqrt(inputs).
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        visible = dense(self.width, self.dtype, "encoder_to_decoder", uniform, use_bias=False)(tokens_BxVxD)
        visible = visible + jnp.take(table_NxD, visible_BxV, axis=0)
        masked = mask_token.astype(self.dtype) + jnp.take(table_NxD, masked_BxM, axis=0)
        x = jnp.concatenate([visible, masked], axis=1)
        config = BlockConfig(self.dtype, self.impl, self.unroll, self.remat)
        x, _ = block_stack(self.depth, self.heads, round(self.width * self.mlp_ratio), config, name="blocks")(x, None)
        x = LayerNorm(self.dtype, name="norm")(x[:, -masked_BxM.shape[1] :])
        return dense(self.out, self.dtype, "head")(x)
