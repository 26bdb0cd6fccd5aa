"""Dense optical flow from one frame to the next by TV-L1, on the device, and flow as a picture that a network reads.

TV-L1 (Zach, Pock and Bischof 2007, "A duality based approach for realtime TV-L1 optical flow") looks for the flow that is smooth except for
jumps and leaves brightness unchanged except for outliers: it minimizes the sum over pixels of |grad u| + |grad v| + lambda |second(x + flow) -
first(x)|. Here with the pyramid and the warps of Sanchez, Meinhardt-Llopis and Facciolo 2013 (IPOL,
https://doi.org/10.5201/ipol.2013.26) as OpenCV's DualTVL1 has them, and its median filter. CoCLR and many two-stream networks were trained on
TV-L1 flow.

The one idea: u and v are one array that starts with an axis of 2, so an iteration is a handful of elementwise sums over shifted arrays. The
numbers of iterations are fixed (OpenCV stops when the flow changes by less than 0.01 pixel), so it is one program for all frames and a pair's
flow doesn't depend on its neighbors in the batch.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb import resample
from vssl_jax.perturb.color import luma

SMALLEST = 16  # pixels: OpenCV makes no level of the pyramid with a shorter side
# Gradients are of gray values from 0 to 255: where their square is less, the brightness says nothing and rounding would decide.
_FLAT = 1e-6
_CUBIC = -0.75  # the free parameter of cubic interpolation (Keys 1981) that OpenCV has; Keys has -0.5
STILL = 128  # no motion in a picture of flow of 8 bits: 127.5, rounded
_REACH = 4  # zeros around a picture: a window of 4 x 4 that lies in them holds nothing else


@dataclass(frozen=True)
class TVL1:
    """How flow is found. Names and defaults are OpenCV's, but for the numbers of iterations.

    OpenCV runs up to `outer` = 10 times `inner` = 30 iterations a warp and leaves both when the root mean square of an iteration's change is
    below epsilon = 0.01 pixel. Here both numbers are fixed, so 30 iterations are the default: about as many as OpenCV needs. With equal numbers
    and OpenCV's epsilon at 0 the two flows are the same (tests/perturb/test_flow.py, with how far apart they are otherwise).

    Raises UserError where a setting makes no sense.
    """

    tau: float = 0.25  # time step of the dual variables; above 0.25 the iterations may diverge
    lambda_: float = 0.15  # weight of the brightness: lower is smoother
    theta: float = 0.3  # how tightly the smooth flow is coupled to the one that fits the brightness, in square pixels
    scales: int = 5  # levels of the pyramid at most: levels with a side under 16 pixels are left out, as in OpenCV
    scale_step: float = 0.8  # size of a level relative to the finer one; 0.5 reaches farther with as many levels
    warps: int = 5  # times the second frame is warped, at each level
    outer: int = 2  # times the flow is filtered by medians, at each warp
    inner: int = 15  # iterations after each filtering
    median: int = 5  # side of the filter in pixels: 3 or 5, or 1 for none

    def __post_init__(self):
        if not 0 < self.tau <= 0.25:
            raise UserError(f"TV-L1 flow has tau={self.tau}: it must be more than 0 and at most 0.25, or the iterations diverge")
        for name in ("lambda_", "theta"):
            if not getattr(self, name) > 0:
                raise UserError(f"TV-L1 flow has {name}={getattr(self, name)}: it must be more than 0")
        for name in ("scales", "warps", "outer", "inner"):
            if getattr(self, name) < 1:
                raise UserError(f"TV-L1 flow has {name}={getattr(self, name)}: it must be at least 1")
        if not 0 < self.scale_step < 1:
            raise UserError(f"TV-L1 flow has scale_step={self.scale_step}: it must be between 0 and 1")
        if self.median not in (1, 3, 5):
            raise UserError(f"TV-L1 flow has median={self.median}: it must be 3 or 5, or 1 for no filter")

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of the pyramid's levels, the full size first. Raises UserError for frames that have none."""
        if min(height, width) < SMALLEST:
            raise UserError(f"TV-L1 flow of frames of {height}x{width}: both sides must have at least {SMALLEST} pixels")
        sizes = [(height, width)]
        while len(sizes) < self.scales:
            smaller = tuple(round(side * self.scale_step) for side in sizes[-1])
            if min(smaller) < SMALLEST:
                break
            sizes.append(smaller)
        return sizes


def tvl1(first: jax.Array, second: jax.Array, settings: TVL1 = TVL1()) -> jax.Array:
    """Flow from the first frames to the second: the point seen at pixel x of the first is at x + flow in the second.

    Pure, and jittable with the settings static. Points that leave the picture get their flow from their neighbors. Everything is float32.

    Args:
        first: gray frames [..., H, W], 0 to 255: `lambda_` is for values of this range.
        second: the same shape.
        settings: see TVL1.

    Returns:
        float32 [..., H, W, 2]: pixels right (u) and down (v).

    Raises:
        UserError: a side is shorter than 16 pixels.
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"flow between frames of different shapes, {first.shape} and {second.shape}")
    sizes = settings.sizes(*first.shape[-2:])
    frames_2xNxHxW = jnp.stack([first, second]).astype(jnp.float32).reshape(2, -1, *sizes[0])
    levels = [frames_2xNxHxW]
    for size in sizes[1:]:
        levels.append(_resized(levels[-1], size, 1 / settings.scale_step))
    flow_2xNxHxW = jnp.zeros_like(levels[-1])
    for i in reversed(range(len(levels))):
        flow_2xNxHxW = _one_level(levels[i], flow_2xNxHxW, settings)
        if i:  # the next level has other sides by whole pixels, yet OpenCV scales the flow by the step itself
            scale = np.divide(sizes[i], sizes[i - 1])
            flow_2xNxHxW = _resized(flow_2xNxHxW, sizes[i - 1], scale) / settings.scale_step
    return jnp.moveaxis(flow_2xNxHxW, 0, -1).reshape(*first.shape, 2)


def tvl1_video(frames: jax.Array, settings: TVL1 = TVL1()) -> jax.Array:
    """Flow from each frame of [..., T, H, W] to the next, float32 [..., T-1, H, W, 2]; else as tvl1."""
    return tvl1(frames[..., :-1, :, :], frames[..., 1:, :, :], settings)


def _resized(planes_2xNxHxW: jax.Array, size: tuple[int, int], scale: float | np.ndarray) -> jax.Array:
    """Bilinear and not smoothed first, as OpenCV resizes. `scale` is the distance of two new pixels in old ones: not always the ratio of the
    sides, which are rounded to whole pixels.
    """

    def matrix(new, old, step):
        length = jnp.float32(new * step)
        return resample.weights(resample.Line(jnp.float32(0), length, jnp.array(False)), (new, old), jnp.int32(old), antialias=False)

    steps = np.broadcast_to(scale, 2)
    rows, columns = (matrix(new, old, step) for new, old, step in zip(size, planes_2xNxHxW.shape[2:], steps, strict=True))
    half = jnp.einsum("hH,cnHW->cnhW", rows, planes_2xNxHxW, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("wW,cnhW->cnhw", columns, half, precision=jax.lax.Precision.HIGHEST)


def _one_level(frames_2xNxHxW: jax.Array, flow_2xNxHxW: jax.Array, settings: TVL1) -> jax.Array:
    """The flow, improved by warps and iterations at this level's size; the dual variables start at 0 and live through all of its warps."""
    first_NxHxW, second_NxHxW = frames_2xNxHxW
    padded = _with_gradient(second_NxHxW)

    def warp(_, state):
        flow_2xNxHxW, dual = state
        warped_3xNxHxW = _warped(padded, flow_2xNxHxW)
        gradient_2xNxHxW = warped_3xNxHxW[1:]
        # Brightness is linear around this flow: rho(flow) = rest + gradient . flow.
        rest_NxHxW = warped_3xNxHxW[0] - first_NxHxW - _dot(gradient_2xNxHxW, flow_2xNxHxW)
        iterate = functools.partial(_iteration, rest_NxHxW, gradient_2xNxHxW, settings)

        def filtered(_, state):
            flow_2xNxHxW, dual = state
            return jax.lax.fori_loop(0, settings.inner, iterate, (median_filter(flow_2xNxHxW, settings.median), dual))

        return jax.lax.fori_loop(0, settings.outer, filtered, (flow_2xNxHxW, dual))

    zero = jnp.zeros_like(flow_2xNxHxW)
    return jax.lax.fori_loop(0, settings.warps, warp, (flow_2xNxHxW, (zero, zero)))[0]


def _iteration(rest_NxHxW: jax.Array, gradient_2xNxHxW: jax.Array, settings: TVL1, _, state):
    """One step of the alternation: the flow that fits the brightness, the smooth flow near it, its dual variables."""
    flow, (across, down) = state  # all [2, N, H, W]: of u and of v
    # Step 1) fit: towards rho = 0 along the gradient, by lambda theta |gradient| at most (Zach et al., the thresholding step).
    square_NxHxW = _dot(gradient_2xNxHxW, gradient_2xNxHxW)
    rho_NxHxW = rest_NxHxW + _dot(gradient_2xNxHxW, flow)
    most = settings.lambda_ * settings.theta
    fit = flow + jnp.clip(-rho_NxHxW / (square_NxHxW + _FLAT), -most, most) * gradient_2xNxHxW
    # Step 2) smooth: flow = fit + theta div p.
    divergence = across - _shifted(across, 3, 1) + down - _shifted(down, 2, 1)
    flow = fit + settings.theta * divergence
    # Step 3) dual: p = (p + tau/theta grad flow) / (1 + tau/theta |grad flow|), u and v each for itself (Chambolle 2004).
    right, below = _difference(flow, 3), _difference(flow, 2)
    step = settings.tau / settings.theta
    shrink = 1 / (1 + step * jnp.sqrt(right**2 + below**2))
    return flow, ((across + step * right) * shrink, (down + step * below) * shrink)


def _dot(a_2xNxHxW: jax.Array, b_2xNxHxW: jax.Array) -> jax.Array:
    """Written out: XLA makes a loop over pixels of its own of a sum over an axis of 2, which took 13 times the rest of an iteration on a CPU."""
    return a_2xNxHxW[0] * b_2xNxHxW[0] + a_2xNxHxW[1] * b_2xNxHxW[1]


def _shifted(x: jax.Array, axis: int, by: int) -> jax.Array:
    """x moved along the axis by 1 or -1, zeros come in."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(by, -by, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])


def _difference(x: jax.Array, axis: int) -> jax.Array:
    """The next value less this one, 0 at the end: the negative adjoint of the divergence, which is 0 outside."""
    n = x.shape[axis]
    ahead = jax.lax.slice_in_dim(x, 1, n, axis=axis) - jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)
    return jax.lax.pad(ahead, jnp.zeros((), x.dtype), [(0, int(a == axis), 0) for a in range(x.ndim)])


def _with_gradient(picture_NxHxW: jax.Array) -> jax.Array:
    """[N, H + 8, W + 8, 3]: the picture and its central differences right and down, with zeros around."""

    def central(axis):
        edge = jnp.pad(picture_NxHxW, [(0, 0)] + [(1, 1) if a == axis else (0, 0) for a in (1, 2)], mode="edge")
        n = edge.shape[axis]
        return (jax.lax.slice_in_dim(edge, 2, n, axis=axis) - jax.lax.slice_in_dim(edge, 0, n - 2, axis=axis)) / 2

    planes_NxHxWx3 = jnp.stack([picture_NxHxW, central(2), central(1)], axis=-1)
    return jnp.pad(planes_NxHxWx3, [(0, 0), (_REACH, _REACH), (_REACH, _REACH), (0, 0)])


def _cubic(distance: jax.Array) -> jax.Array:
    """Weight of a pixel at that distance from the point, 0 to 2 (Keys 1981)."""
    a, d = _CUBIC, distance
    return jnp.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, a * (((d - 5) * d + 8) * d - 4))


def _warped(padded_NxHxWx3: jax.Array, flow_2xNxHxW: jax.Array) -> jax.Array:
    """The planes at x + flow, by cubic interpolation, [3, N, H, W]. Outside the picture they are 0: there the gradient is 0 too, and so the
    brightness asks for nothing.
    """
    n, rows, columns = flow_2xNxHxW.shape[1:]
    x = jnp.arange(columns) + flow_2xNxHxW[0]
    y = jnp.arange(rows)[:, None] + flow_2xNxHxW[1]

    def window(position, side):  # its first pixel, counted in the padded picture, and the weights of its four
        low = jnp.clip(jnp.floor(position), -3, side + 1)
        inside = jnp.clip(position - low, 0, 1)
        weights = [_cubic(jnp.abs(inside - k)) for k in (-1, 0, 1, 2)]
        return low.astype(jnp.int32) - 1 + _REACH, weights

    (left, across), (top, down) = window(x, columns), window(y, rows)
    width = columns + 2 * _REACH
    pixels_NxPx3 = padded_NxHxWx3.reshape(n, -1, 3)
    start_NxP = (top * width + left).reshape(n, -1)
    out = 0.0
    for i in range(4):
        for j in range(4):
            taken_NxPx3 = jnp.take_along_axis(pixels_NxPx3, (start_NxP + (i * width + j))[..., None], axis=1, mode="clip")
            out += taken_NxPx3 * (down[i] * across[j]).reshape(n, -1)[..., None]
    return jnp.moveaxis(out.reshape(n, rows, columns, 3), -1, 0)


def median_filter(x: jax.Array, side: int) -> jax.Array:
    """Medians of side x side windows of the last two axes, where pixels outside are those of the edge. `side` is odd; 1 changes nothing.

    By comparisons of whole arrays, since sorting along an axis is slow on accelerators. Columns are sorted before they are shared by the windows
    that contain them; when a window's columns and then its rows are sorted, (i + 1)(j + 1) of its values are at most as large as the one at (i,
    j), which so is above the median where that is more than half of them; and likewise from the other end.
    """
    if side == 1:
        return x
    reach, half = side // 2, side * side // 2 + 1
    height, width = x.shape[-2:]
    edge = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(reach, reach)] * 2, mode="edge")
    columns = _sorted([edge[..., i : i + height, :] for i in range(side)])
    # They are shared by windows at different places; a compiler that fuses all of it sorts them anew for each.
    columns = jax.lax.optimization_barrier(columns)
    rows = [_sorted([column[..., j : j + width] for j in range(side)]) for column in columns]
    near = [
        rows[i][j]
        for i in range(side)
        for j in range(side)
        if (i + 1) * (j + 1) <= half and (side - i) * (side - j) <= half
    ]  # fmt: skip
    return _sorted(near)[len(near) // 2]  # as many were too large as too small; comparisons of no use to the middle one are compiled away


def _sorted(values: list[jax.Array]) -> list[jax.Array]:
    values = list(values)
    for i, j in _exchanges(len(values)):
        values[i], values[j] = jnp.minimum(values[i], values[j]), jnp.maximum(values[i], values[j])
    return values


def _exchanges(n: int) -> Iterator[tuple[int, int]]:
    """Pairs that sort any n values when compared in this order: Batcher's merge exchange (Knuth, TAOCP volume 3, 5.2.2, algorithm M)."""
    top = 1 << (n - 1).bit_length() - 1
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2


def gray_of(batch: batch_lib.Batch) -> jax.Array:
    """The batch's frames in gray, whole canvas: float32 [B, K, T, H, W], 0 to 255, and 0 outside the extent.

    YUV420: the Y plane, stretched from 16..235 to the full range where it is limited, with the matrix it was coded with (for BT.709 the weights
    of red, green and blue are others). RGB: BT.601 luma. Where the canvas is larger than the picture, its edge is an edge that does not move:
    crop first for flow that is right there.
    """
    if batch_lib.VIDEO in batch:
        return luma(batch[batch_lib.VIDEO].astype(jnp.float32))[..., 0]
    plane = batch[batch_lib.LUMA].astype(jnp.float32)
    full_range = jnp.array([full for _, full in batch_lib.YUV_SPACES])[batch[batch_lib.YUV_SPACE]][:, :, None, None, None]
    return jnp.where(full_range, plane, jnp.clip((plane - 16) * (255 / 219), 0, 255))


def to_picture(flow: jax.Array, bound: float = 20.0) -> jax.Array:
    """Flow [..., 2] as a picture [..., 3] with values in [0, 1], as two-stream networks and CoCLR (https://arxiv.org/abs/2010.09709) read it.

    u and v are cut off at `bound` pixels and mapped linearly, no motion to 0.5. The third channel is 0.5 everywhere: what it holds in the
    data that CoCLR's authors published, as JPEG files of three channels, could not be verified. A mirrored picture of flow is not the flow of
    the mirrored frames, see objectives/coclr.py (`flow_of`). Raises UserError unless bound > 0.
    """
    if not bound > 0:
        raise UserError(f"a picture of flow has bound={bound}: it must be more than 0, in pixels")
    two = (jnp.clip(flow, -bound, bound) / bound + 1) / 2
    return jnp.concatenate([two, jnp.full_like(two[..., :1], 0.5)], axis=-1)
