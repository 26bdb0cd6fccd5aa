"""How many FLOPs a model needs: matrix products only, a multiplication and an addition counted as two, forward pass.

The one idea: the count is of the mathematics, not of the program. Recomputation (remat, chunked attention) and padding do not add to it,
so MFU computed from it cannot be raised by doing more work. Normalization, softmax, GELU and the rest are left out (under 1 % at the
sizes of ViT-B).
"""

import math

import flax.linen as nn

from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.vit import ViT


def blocks(depth: int, width: int, hidden: int, tokens: int) -> float:
    """FLOPs of `depth` transformer blocks on one sequence."""
    linear = 4 * width * width + 2 * width * hidden  # query, key, value, projection; the two layers of the MLP
    attention = 2 * tokens * width  # scores, and weights times values, per token
    return 2.0 * depth * tokens * (linear + attention)


def vit(model: ViT, tokens: int | None = None) -> float:
    """FLOPs of the encoder on one clip of which `tokens` patches are visible (None: all)."""
    tokens = math.prod(model.grid) if tokens is None else tokens
    embed = 2.0 * tokens * math.prod(model.tubelet) * 3 * model.width
    return embed + blocks(model.depth, model.width, round(model.width * model.mlp_ratio), tokens)


def backbone(model: nn.Module) -> float | None:
    """FLOPs of a backbone on one whole clip; None where they are not counted here."""
    return vit(model) if isinstance(model, ViT) else None


def mae_decoder(model: MAEDecoder, encoder_width: int, visible: int, masked: int) -> float:
    """FLOPs of the decoder on one clip, with the projection of the visible tokens and the head on the masked ones."""
    ends = 2.0 * model.width * (visible * encoder_width + masked * model.out)
    return ends + blocks(model.depth, model.width, round(model.width * model.mlp_ratio), visible + masked)
