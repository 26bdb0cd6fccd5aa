"""How many FLOPs a model needs: matrix products and convolutions only, a multiplication and an addition counted as two, forward pass.

The one idea: the count is of the mathematics, not of the program. Recomputation (remat, chunked attention) and padding do not add to it,
so MFU computed from it cannot be raised by doing more work. Normalization, softmax, GELU and the rest are left out (under 1 % at the
sizes of ViT-B; under 2 % of convolution networks). Nor does what a convolution's taps find in the padding: by the usual way of
counting, with it, R3D-18 needs 81.4 GFLOP per clip, and by this one 71.8.
"""

import math

import flax.linen as nn
import jax

from vssl_jax.models import conv3d
from vssl_jax.models.blocks3d import Conv3D
from vssl_jax.models.c3d import C3D
from vssl_jax.models.cnn import CNN
from vssl_jax.models.inception3d import Inception3D
from vssl_jax.models.mae_decoder import MAEDecoder
from vssl_jax.models.resnet3d import ResNet3D
from vssl_jax.models.slowonly import SlowOnly
from vssl_jax.models.timesformer import TimeSformer
from vssl_jax.models.vit import ViT
from vssl_jax.models.vivit import ViViT

CONVOLUTIONAL = (C3D, CNN, Inception3D, ResNet3D, SlowOnly)


def blocks(depth: int, width: int, hidden: int, tokens: int) -> float:
    """FLOPs of `depth` transformer blocks on one sequence."""
    linear = 4 * width * width + 2 * width * hidden  # query, key, value, projection; the two layers of the MLP
    attention = 2 * tokens * width  # scores, and weights times values, per token
    return 2.0 * depth * tokens * (linear + attention)


def vit(model: ViT, tokens: int | None = None) -> float:
    """FLOPs of the encoder on one clip of which `tokens` patches are visible (None: all)."""
    tokens = math.prod(model.grid) if tokens is None else tokens
    embed = 2.0 * tokens * math.prod(model.tubelet) * 3 * model.width
    return embed + blocks(model.depth, model.width, model.hidden, tokens)


def timesformer(model: TimeSformer) -> float:
    """FLOPs of divided attention on one clip."""
    (t, rows, columns), width = model.grid, model.width
    s, hidden = rows * columns, model.hidden
    embed = 2.0 * t * s * model.patch**2 * 3 * width
    in_time = t * s * (5 * width * width + 2 * t * width)  # with the layer behind the attention
    in_space = t * (s + 1) * (4 * width * width + 2 * (s + 1) * width)
    return embed + 2.0 * model.depth * (in_time + in_space + (t * s + 1) * 2 * width * hidden)


def vivit(model: ViViT) -> float:
    """FLOPs of either variant on one clip."""
    (t, rows, columns), width = model.grid, model.width
    s, hidden = rows * columns, model.hidden
    embed = 2.0 * t * s * math.prod(model.tubelet) * 3 * width
    if not model.temporal_depth:
        return embed + blocks(model.depth, width, hidden, t * s + 1)
    return embed + t * blocks(model.depth, width, hidden, s + 1) + blocks(model.temporal_depth, width, hidden, t + 1)


def _meetings(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """(output, tap) pairs along one axis where the tap meets a real input."""
    if dilation != 1:
        return sum(_meetings(len(range(start, size, dilation)), kernel, stride) for start in range(dilation))
    starts = (o * stride - kernel // 2 for o in range(conv3d.length(size, kernel, stride)))
    return sum(min(size, start + kernel) - max(0, start) for start in starts)


def _layer(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """FLOPs of a convolution (padding k // 2) or linear layer on an input [B, ..., C]; 0 of any other module."""
    if isinstance(layer, nn.Dense):
        return 2.0 * math.prod(shape) * layer.features
    if not isinstance(layer, Conv3D | nn.Conv):
        return 0.0
    kernel = layer.kernel if isinstance(layer, Conv3D) else layer.kernel_size
    dilations = (layer.dilation, 1, 1) if isinstance(layer, Conv3D) else (1,) * len(kernel)
    meetings = math.prod(_meetings(*axis) for axis in zip(shape[1:-1], kernel, layer.strides, dilations, strict=True))
    return 2.0 * shape[0] * meetings * shape[-1] * layer.features


def traced(model: nn.Module, shape: tuple[int, ...]) -> float:
    """FLOPs of the convolutions and linear layers of a module on an input of that shape: their own inputs are seen by tracing it."""
    counted = []

    def count(call, args, kwargs, context):
        if context.method_name == "__call__":
            counted.append(_layer(context.module, getattr(args[0], "shape", ())))
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), jax.ShapeDtypeStruct(shape, "float32"))
    return sum(counted)


def convolutional(model: nn.Module) -> float:
    """FLOPs of a convolution network on one clip of its size."""
    return traced(model, (1, model.frames, model.size, model.size, 3))


def backbone(model: nn.Module) -> float | None:
    """FLOPs of a backbone on one whole clip; None where they are not counted here."""
    for kind, count in ((ViT, vit), (TimeSformer, timesformer), (ViViT, vivit)):
        if isinstance(model, kind):
            return count(model)
    return convolutional(model) if isinstance(model, CONVOLUTIONAL) else None


def mae_decoder(model: MAEDecoder, encoder_width: int, visible: int, masked: int) -> float:
    """FLOPs of the decoder on one clip, with the projection of the visible tokens and the head on the masked ones."""
    ends = 2.0 * model.width * (visible * encoder_width + masked * model.out)
    return ends + blocks(model.depth, model.width, round(model.width * model.mlp_ratio), visible + masked)
