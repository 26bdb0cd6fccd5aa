"""Convolutions over time, rows and columns, by whichever program is fastest where it runs.

The one idea: which form to use is a pure function of (platform, kernel, channels), `choose`, made when the program is traced, and every form
computes the same convolution with padding k // 2 on both sides. That padding is explicit because XLA's SAME pads an even side with stride 2
less in front than behind, and no network here was trained so. Accelerators have their own 3-D convolutions. On a CPU XLA's is slow, while its
2-D convolution and its matrix product come near the processor's peak, so there the taps in time are taken apart:

    taps      each tap is a convolution of the frames that it meets (none is of padding), and the results are added
    channels  the frames of all taps lie side by side in channels, for one convolution: where there are few channels (a stem)

The CPU's forms have backward passes of their own. XLA's derivative with regard to a kernel is several times slower than its convolution where
places are many: they are taken in pieces, and where channels are many too it is made of matrix products, one for each row and column of the
kernel, whose taps in time lie side by side.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.platform import platform

Triple = tuple[int, int, int]

FEW_CHANNELS = 16
PLACES = 8192  # (frames, rows, columns) in a piece of a kernel's derivative
MOST_PIECES = 8  # each is an instruction to compile
PRODUCT_CHANNELS, PRODUCT_SIDES = 64, 14 * 14  # from which on a kernel's derivative is faster by matrix products


def choose(platform: str, kernel: tuple[int, int, int, int, int], strides: Triple = (1, 1, 1)) -> str:
    """The form for a kernel [t,h,w,C,O] on `platform` ('cpu', 'gpu', 'tpu')."""
    if platform != "cpu":
        return "direct"
    taps, rows, columns, inputs, outputs = kernel
    if taps > 1 and rows == columns == 1 and strides == (1, 1, 1):
        return "channels" if inputs < outputs else "taps"  # the smaller side is the one that is copied
    return "channels" if inputs < FEW_CHANNELS else "taps"


def conv3d(
    x_BxTxHxWxC: jax.Array, kernel_txhxwxCxO: jax.Array, strides: Triple = (1, 1, 1), impl: str = "auto", dilation: int = 1
) -> jax.Array:
    """The convolution [B,T',H',W',O] of clips with a kernel, in their dtype; each side is padded by k // 2 zeros at both ends, so with stride
    s it comes out (n + 2 (k // 2) - k) // s + 1 long.

    `impl` is a key of IMPLEMENTATIONS or 'auto'. Taps in time are `dilation` frames apart, and the padding is as many times as long. Raises UserError
    for another name, and for dilation with a stride in time.
    """
    strides = tuple(strides)
    if dilation != 1:
        return _dilated(x_BxTxHxWxC, kernel_txhxwxCxO, strides, impl, dilation)
    if impl == "auto":
        impl = choose(platform(), kernel_txhxwxCxO.shape, strides)
    if impl not in IMPLEMENTATIONS:
        raise unknown_name("convolution", impl, ["auto", *IMPLEMENTATIONS])
    return IMPLEMENTATIONS[impl](x_BxTxHxWxC, kernel_txhxwxCxO, strides)


def _dilated(x_BxTxHxWxC, kernel, strides, impl, dilation):
    """Taps meet every `dilation`-th frame: those frames are a clip of their own."""
    if dilation < 1 or strides[0] != 1:
        raise UserError(
            f"a convolution with dilation {dilation} in time and strides {strides}: dilation is 1 or more, and the stride in time then 1"
        )
    batch, frames, *sides = x_BxTxHxWxC.shape
    x = _between(x_BxTxHxWxC, 0, -frames % dilation)
    clips = jnp.moveaxis(x.reshape(batch, -1, dilation, *sides), 2, 1).reshape(batch * dilation, -1, *sides)
    y = conv3d(clips, kernel, strides, impl)
    return jnp.moveaxis(y.reshape(batch, dilation, *y.shape[1:]), 1, 2).reshape(batch, -1, *y.shape[2:])[:, :frames]


def length(size: int, kernel: int, stride: int) -> int:
    """How long an axis comes out."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def _direct(x, kernel, strides):
    padding = [(k // 2, k // 2) for k in kernel.shape[:3]]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def _taps(x_BxTxHxWxC, kernel_txhxwxCxO, strides):
    if kernel_txhxwxCxO.shape[0] > 1 and kernel_txhxwxCxO.shape[1:3] == (1, 1) and strides == (1, 1, 1):
        return _temporal(x_BxTxHxWxC, kernel_txhxwxCxO[:, 0, 0])
    return _sum_of_taps(x_BxTxHxWxC, kernel_txhxwxCxO, strides)


def _sum_of_taps_plain(x_BxTxHxWxC, kernel_txhxwxCxO, strides):
    """The sum over taps in time of a convolution in space of the frames that the tap meets."""
    out, total = length(x_BxTxHxWxC.shape[1], kernel_txhxwxCxO.shape[0], strides[0]), None
    for tap, seen, slots in _met(x_BxTxHxWxC.shape[1], kernel_txhxwxCxO.shape[0], strides[0]):
        part = _in_space(x_BxTxHxWxC[:, seen], kernel_txhxwxCxO[tap], strides[1:])
        part = _between(part, slots.start, out - slots.stop)
        total = part if total is None else total + part
    return total


def _met(frames: int, taps: int, stride: int) -> Iterator[tuple[int, slice, slice]]:
    """(tap, the frames that it meets, the slots of the output where it does so); taps that only meet padding are left out."""
    for tap in range(taps):
        offset = tap - taps // 2
        first, last = max(0, -(offset // stride)), min(length(frames, taps, stride) - 1, (frames - 1 - offset) // stride)
        if first <= last:
            start = first * stride + offset
            yield tap, slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)


def _between(x_BxTxHxWxC, before: int, behind: int):
    """With so many frames of zeros at both ends."""
    return jnp.pad(x_BxTxHxWxC, ((0, 0), (before, behind), (0, 0), (0, 0), (0, 0))) if before or behind else x_BxTxHxWxC


def taps_in_channels(x_BxTxHxWxC: jax.Array, taps: int, stride: int = 1) -> jax.Array:
    """[B,T',H,W,taps*C]: beside every frame that a convolution in time centres on, its neighbours, in the order of the taps."""
    if taps == 1:
        return x_BxTxHxWxC[:, ::stride]
    out = length(x_BxTxHxWxC.shape[1], taps, stride)
    padded = _between(x_BxTxHxWxC, taps // 2, taps // 2)
    frames = [lax.slice_in_dim(padded, i, i + (out - 1) * stride + 1, stride, axis=1) for i in range(taps)]
    return jnp.concatenate(frames, axis=-1)


def _channels(x_BxTxHxWxC, kernel_txhxwxCxO, strides):
    """Taps in time are channels: one convolution in space."""
    t, h, w, c, o = kernel_txhxwxCxO.shape
    if t > 1 and (h, w) == (1, 1) and strides == (1, 1, 1):
        return _temporal_by_inputs(x_BxTxHxWxC, kernel_txhxwxCxO[:, 0, 0])
    kernel_hxwxtCxO = jnp.moveaxis(kernel_txhxwxCxO, 0, 2).reshape(1, h, w, t * c, o)
    return _sum_of_taps(taps_in_channels(x_BxTxHxWxC, t, strides[0]), kernel_hxwxtCxO, (1, *strides[1:]))


def _in_space(x_BxTxHxWxC, kernel_hxwxCxO, strides):
    """A convolution of every frame; of one pixel it is a matrix product."""
    h, w = kernel_hxwxCxO.shape[:2]
    if (h, w) == (1, 1):
        return x_BxTxHxWxC[:, :, :: strides[0], :: strides[1]] @ kernel_hxwxCxO[0, 0]
    frames = x_BxTxHxWxC.reshape(-1, *x_BxTxHxWxC.shape[2:])
    padding = [(h // 2, h // 2), (w // 2, w // 2)]
    out = lax.conv_general_dilated(frames, kernel_hxwxCxO, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape(*x_BxTxHxWxC.shape[:2], *out.shape[1:])


def _sum_of_taps_backward(strides, saved, g_BxTxHxWxO):
    x_BxTxHxWxC, kernel_txhxwxCxO = saved
    (dx,) = jax.linear_transpose(lambda x: _sum_of_taps_plain(x, kernel_txhxwxCxO, strides), x_BxTxHxWxC)(g_BxTxHxWxO)
    _, h, w, *channels = kernel_txhxwxCxO.shape
    many = min(channels) >= PRODUCT_CHANNELS and math.prod(g_BxTxHxWxO.shape[2:4]) >= PRODUCT_SIDES
    derivative = _kernel_by_products if h * w == 1 or many else _kernel_by_pieces
    return dx, derivative(x_BxTxHxWxC, kernel_txhxwxCxO, strides, g_BxTxHxWxO)


def _kernel_by_pieces(x_BxTxHxWxC, kernel_txhxwxCxO, strides, g_BxTxHxWxO):
    """Summed over pieces of the clips' time: each device has its own clips whole."""
    out = [jnp.zeros_like(tap) for tap in kernel_txhxwxCxO]
    for tap, seen, slots in _met(x_BxTxHxWxC.shape[1], len(out), strides[0]):
        x, g = x_BxTxHxWxC[:, seen], g_BxTxHxWxO[:, slots]
        pieces = min(g.shape[1], MOST_PIECES, -(-math.prod(g.shape[:4]) // PLACES))
        size = -(-g.shape[1] // pieces)
        for start in range(0, g.shape[1], size):
            piece = slice(start, start + size)
            out[tap] += jax.linear_transpose(lambda kernel, x=x[:, piece]: _in_space(x, kernel, strides[1:]), out[tap])(g[:, piece])[0]
    return jnp.stack(out)


def _kernel_by_products(x_BxTxHxWxC, kernel_txhxwxCxO, strides, g_BxTxHxWxO):
    """One product for each row and column: of what the taps in time bring there, side by side where they are one frame apart."""
    t, h, w, c, o = kernel_txhxwxCxO.shape
    shifted = functools.partial(_shifted, sides=(h, w), strides=strides[1:], out=g_BxTxHxWxO.shape[2:4])
    if t % 2 and strides[0] == 1:
        g_BxTxHxWxtO = taps_in_channels(g_BxTxHxWxO, t)
        dkernel_hwxtxOxC = jnp.stack([_product(g_BxTxHxWxtO, x) for x in shifted(x_BxTxHxWxC)]).reshape(h * w, t, o, c)[:, ::-1]
    else:
        taps = [jnp.zeros((h * w, o, c), kernel_txhxwxCxO.dtype)] * t
        for tap, seen, slots in _met(x_BxTxHxWxC.shape[1], t, strides[0]):
            taps[tap] = jnp.stack([_product(g_BxTxHxWxO[:, slots], x) for x in shifted(x_BxTxHxWxC[:, seen])])
        dkernel_hwxtxOxC = jnp.stack(taps, axis=1)
    return dkernel_hwxtxOxC.transpose(1, 0, 3, 2).reshape(t, h, w, c, o)


def _shifted(x_BxTxHxWxC, sides, strides, out):
    """What each row and column of a kernel with these sides meets, [B,T,*out,C]."""
    padded = jnp.pad(x_BxTxHxWxC, ((0, 0), (0, 0), *((k // 2, k // 2) for k in sides), (0, 0)))
    for starts in itertools.product(*map(range, sides)):
        rows, columns = (slice(i, i + (n - 1) * s + 1, s) for i, n, s in zip(starts, out, strides, strict=True))
        yield padded[:, :, rows, columns]


_sum_of_taps = jax.custom_vjp(_sum_of_taps_plain, nondiff_argnums=(2,))
_sum_of_taps.defvjp(lambda x, kernel, strides: (_sum_of_taps_plain(x, kernel, strides), (x, kernel)), _sum_of_taps_backward)


def _flipped(kernel_txCxO):
    """The kernel of the derivative with regard to the input, [t,O,C]."""
    return jnp.swapaxes(kernel_txCxO[::-1], 1, 2)


def _after(x_BxTxHxWxC, kernel_txCxO):
    """A convolution in time as one matrix product per tap, shifted and added: it copies outputs, not inputs."""
    frames, total = x_BxTxHxWxC.shape[1], None
    for tap, seen, slots in _met(frames, kernel_txCxO.shape[0], 1):
        part = _between((x_BxTxHxWxC @ kernel_txCxO[tap])[:, seen], slots.start, frames - slots.stop)
        total = part if total is None else total + part
    return total


def _before(x_BxTxHxWxtC, kernel_txCxO):
    """The same from taps_in_channels: one matrix product."""
    return x_BxTxHxWxtC @ kernel_txCxO.reshape(-1, kernel_txCxO.shape[-1])


def _product(x_BxTxHxWxC, y_BxTxHxWxO):
    """x^T y over all places, [C,O]."""
    places = ((0, 1, 2, 3), (0, 1, 2, 3))
    return lax.dot_general(x_BxTxHxWxC, y_BxTxHxWxO, (places, ((), ())))


def _temporal_backward(saved, g_BxTxHxWxO):
    """Where outputs are fewer than inputs: their gradient is what is copied beside itself, once for both derivatives."""
    x, kernel_txCxO = saved
    t, c, o = kernel_txCxO.shape
    g_BxTxHxWxtO = taps_in_channels(g_BxTxHxWxO, t)
    dkernel_CxtxO = _product(x, g_BxTxHxWxtO).reshape(c, t, o)
    return _before(g_BxTxHxWxtO, _flipped(kernel_txCxO)), jnp.moveaxis(dkernel_CxtxO[:, ::-1], 1, 0)


def _temporal_by_inputs_forward(x_BxTxHxWxC, kernel_txCxO):
    return _before(taps_in_channels(x_BxTxHxWxC, kernel_txCxO.shape[0]), kernel_txCxO), (x_BxTxHxWxC, kernel_txCxO)


def _temporal_by_inputs_backward(saved, g_BxTxHxWxO):
    x, kernel_txCxO = saved
    dkernel = _product(taps_in_channels(x, kernel_txCxO.shape[0]), g_BxTxHxWxO).reshape(kernel_txCxO.shape)
    return _after(g_BxTxHxWxO, _flipped(kernel_txCxO)), dkernel


_temporal = jax.custom_vjp(_after)
_temporal.defvjp(lambda x, kernel: (_after(x, kernel), (x, kernel)), _temporal_backward)
_temporal_by_inputs = jax.custom_vjp(lambda x, kernel: _temporal_by_inputs_forward(x, kernel)[0])
_temporal_by_inputs.defvjp(_temporal_by_inputs_forward, _temporal_by_inputs_backward)

IMPLEMENTATIONS = {"direct": _direct, "taps": _taps, "channels": _channels}
