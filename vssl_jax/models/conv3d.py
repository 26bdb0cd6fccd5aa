"""Convolutions over time, rows and columns, by whichever program is fastest where it runs.

The one idea: which form to use is a pure function of (platform, kernel), `choose`, made when the program is traced, and every form computes
the same convolution with padding k // 2 on both sides. That padding is explicit because XLA's SAME pads an even side with stride 2 less in
front than behind, and no network here was trained so. Accelerators have their own 3-D convolutions. On a CPU XLA's is slow, its 2-D one is
not, and a matrix product is better still where the kernel covers one pixel.
"""

import jax
import jax.numpy as jnp
from jax import lax

from vssl_jax.errors import unknown_name
from vssl_jax.models.platform import platform

Triple = tuple[int, int, int]


def choose(platform: str, kernel: Triple) -> str:
    """The form for a kernel of (time, rows, columns) taps on `platform` ('cpu', 'gpu', 'tpu')."""
    if platform != "cpu":
        return "direct"
    return "matmul" if kernel[1:] == (1, 1) else "folded"


def conv3d(x_BxTxHxWxC: jax.Array, kernel_txhxwxCxO: jax.Array, strides: Triple = (1, 1, 1), impl: str = "auto") -> jax.Array:
    """The convolution [B,T',H',W',O] of clips with a kernel, in their dtype; each side is padded by k // 2 zeros at both ends, so with stride
    s it comes out (n + 2 (k // 2) - k) // s + 1 long.

    `impl` is a key of IMPLEMENTATIONS or 'auto'. Raises UserError for another name.
    """
    if impl == "auto":
        impl = choose(platform(), kernel_txhxwxCxO.shape[:3])
    if impl not in IMPLEMENTATIONS:
        raise unknown_name("convolution", impl, ["auto", *IMPLEMENTATIONS])
    return IMPLEMENTATIONS[impl](x_BxTxHxWxC, kernel_txhxwxCxO, tuple(strides))


def length(size: int, kernel: int, stride: int) -> int:
    """How long an axis comes out."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def _direct(x, kernel, strides):
    padding = [(k // 2, k // 2) for k in kernel.shape[:3]]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def taps_in_channels(x_BxTxHxWxC: jax.Array, taps: int, stride: int) -> jax.Array:
    """[B,T',H,W,taps*C]: beside every frame that a convolution in time centres on, its neighbours, in the order of the taps."""
    if taps == 1:
        return x_BxTxHxWxC[:, ::stride]
    out = length(x_BxTxHxWxC.shape[1], taps, stride)
    padded = jnp.pad(x_BxTxHxWxC, ((0, 0), (taps // 2, taps // 2), (0, 0), (0, 0), (0, 0)))
    frames = [lax.slice_in_dim(padded, i, i + (out - 1) * stride + 1, stride, axis=1) for i in range(taps)]
    return jnp.concatenate(frames, axis=-1)


def _folded(x_BxTxHxWxC, kernel_txhxwxCxO, strides):
    """Taps in time are channels, frames are examples: one 2-D convolution."""
    t, h, w, c, o = kernel_txhxwxCxO.shape
    y = taps_in_channels(x_BxTxHxWxC, t, strides[0])
    kernel_hxwxtCxO = jnp.moveaxis(kernel_txhxwxCxO, 0, 2).reshape(h, w, t * c, o)
    frames, padding = y.reshape(-1, *y.shape[2:]), [(h // 2, h // 2), (w // 2, w // 2)]
    out = lax.conv_general_dilated(frames, kernel_hxwxtCxO, strides[1:], padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape(*y.shape[:2], *out.shape[1:])


def _matmul(x_BxTxHxWxC, kernel_tx1x1xCxO, strides):
    """Taps in time are channels, every place is a row: one matrix product. For kernels of one row and one column."""
    y = taps_in_channels(x_BxTxHxWxC[:, :, :: strides[1], :: strides[2]], kernel_tx1x1xCxO.shape[0], strides[0])
    return y @ kernel_tx1x1xCxO.reshape(-1, kernel_tx1x1xCxO.shape[-1])


IMPLEMENTATIONS = {"direct": _direct, "folded": _folded, "matmul": _matmul}
