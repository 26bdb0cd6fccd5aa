"""Attention of all tokens to all tokens, by whichever program is fastest where it runs.

The one idea: which implementation to use is a pure function of (platform, dtype, length, head width), `choose`, made when the program is
traced, and every implementation computes the same softmax(q k^T / sqrt(hd)) v with the softmax in float32. The platform is that of the
mesh in use, so that a program compiled on a CPU for a TPU takes the TPU's path.
"""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.models import layout
from vssl_jax.platform import platform

# Of about so many scores "chunked" makes one array at a time, 20 MB of float32 (the backward pass has three of them): two heads of 1568 tokens, which a CPU
# with 2 cores is fastest with.
SCORES = 5_000_000
_SPLASH_BLOCK = 128  # the TPU kernel's lengths are multiples of this


_HALF = (jnp.bfloat16, jnp.float16)


def choose(platform: str, dtype: jnp.dtype, length: int, head_dim: int = 64) -> str:
    """The implementation for `length` tokens of `dtype` on `platform` ('cpu', 'gpu', 'tpu')."""
    # What cuDNN's kernel takes on any GPU that has it (`_capable`). On an H200 it is 1.7 times as fast as "xla" at 160 tokens, 4.4 times at 1568.
    if platform == "gpu" and dtype in _HALF and length >= 128 and head_dim % 8 == 0 and head_dim <= 128:
        return "cudnn"
    if platform == "tpu" and length >= 1024:
        return "splash"
    # At 160 tokens as fast as "xla" with jax 0.12, and 1.6 times as fast with 0.10; at 64 tokens no faster.
    if platform == "cpu" and length >= 128:
        return "chunked"
    return "xla"


def attention(q_BxNxHxhd: jax.Array, k_BxNxHxhd: jax.Array, v_BxNxHxhd: jax.Array, impl: str = "auto") -> jax.Array:
    """softmax(q k^T / sqrt(hd)) v per head, [B,N,H,hd] in the dtype of q; scores and softmax are float32. Raises UserError for an implementation
    that is not known, or that cannot run where this is traced for.
    """
    where, dtype = platform(), q_BxNxHxhd.dtype
    if impl == "auto":
        impl = choose(where, dtype, k_BxNxHxhd.shape[1], q_BxNxHxhd.shape[-1])
        if impl == "cudnn" and not _has_cudnn():
            impl = "xla"
    elif impl not in IMPLEMENTATIONS:
        raise unknown_name("attention", impl, ["auto", *IMPLEMENTATIONS])
    elif lacking := _lacking(impl, where, dtype):
        raise UserError(f"model.impl is {impl!r}, which {lacking}: set it to 'auto' (that of an export is in its meta.json)")
    return IMPLEMENTATIONS[impl](q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


def _lacking(impl: str, platform: str, dtype: jnp.dtype) -> str:
    """What a kernel that was asked for needs and does not have; '' for nothing."""
    if impl == "splash" and platform != "tpu":
        return f"runs on a TPU, and this is a {platform.upper()}"
    if impl == "cudnn" and platform != "gpu":
        return f"runs on a GPU, and this is a {platform.upper()}"
    if impl == "cudnn" and not _has_cudnn():
        return "needs an NVIDIA GPU from Ampere on"
    if impl == "cudnn" and dtype not in _HALF:
        return f"takes bfloat16 or float16, and model.dtype is {dtype}"
    return ""


def _has_cudnn() -> bool:
    """Whether the GPU that is here has cuDNN's kernel; where none is here, a program is compiled for one that has."""
    return jax.default_backend() != "gpu" or _capable(getattr(jax.local_devices()[0], "compute_capability", ""))


def _capable(compute_capability: str) -> bool:
    """Whether cuDNN's kernel is there for a GPU: NVIDIA's from Ampere on ('8.0'), not older ones, nor AMD's ('gfx942')."""
    return re.fullmatch(r"\d+\.\d+", compute_capability) is not None and float(compute_capability) >= 8


def _xla(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def _cudnn(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def _per_shard(local: Callable, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """`local(q, k, v)` on each device's part, batch over ('data', 'fsdp') and heads over 'model': for what the partitioner cannot look into, or would cut
    where it must not. An axis that does not divide them (the batch of one that gives shapes at initialization) computes the same on all its devices.
    """
    if layout.alone() or jax.sharding.get_abstract_mesh().manual_axes:  # or a shard already
        return local(q, k, v)
    spec = P(layout.axes(layout.BATCH, q.shape[0]), None, layout.axes((layout.MODEL,), q.shape[2]), None)
    return jax.shard_map(local, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q, k, v)


def _chunked(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd):
    return _per_shard(_chunked_local, q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


def _chunked_local(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd):
    """A few heads at a time, and of very long sequences a chunk of their queries, whose scores the backward pass makes again: all of them are never in
    memory. For a CPU: the groups go one after the other, and leave an accelerator little to do at a time.
    """
    (rows, length, heads, width), keys = q_BxNxHxhd.shape, k_BxNxHxhd.shape[1]
    chunks = -(-length * keys // SCORES)
    size = -(-length // chunks)
    most = min(max(SCORES // (size * keys), 1), rows * heads)
    together = next(n for n in range(most, 0, -1) if rows * heads % n == 0)
    q, k, v = (
        jnp.swapaxes(x, 1, 2).reshape(-1, together, x.shape[1], width) for x in (q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)
    )  # heads first: one matrix product per head, without strides
    q = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * size - length), (0, 0)))  # rows of zeros are cut off below
    q = jnp.moveaxis(q.reshape(-1, together, chunks, size, width), 2, 1)
    out = jnp.moveaxis(_of_groups(q, k, v), 1, 2).reshape(rows, heads, chunks * size, width)[:, :, :length]
    return jnp.swapaxes(out, 1, 2)


_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _transposed(x):
    """In memory: XLA's CPU spends an eighth of attention's time on packing where a product sums over rows of its first matrix, and next to none without."""
    return jax.lax.optimization_barrier(jnp.swapaxes(x, -1, -2))


@jax.custom_vjp
def _of_groups(q_PxCxGxSxhd, k_PxGxNxhd, v_PxGxNxhd):
    """Attention of P groups of G heads, whose queries are in C chunks, [P,C,G,S,hd]: a group and a chunk after the other. Its gradient is by hand (Dao et
    al. 2022, https://arxiv.org/abs/2205.14135, appendix B.4): with the logarithm of each softmax's sum the weights come of the scores in one pass, and the
    softmax's own gradient needs no sum over the keys.
    """
    return _of_groups_forward(q_PxCxGxSxhd, k_PxGxNxhd, v_PxGxNxhd)[0]


def _of_groups_forward(q, k, v):
    def group(one_group):
        q_C, k_t, v = one_group

        def chunk(q_GxSxhd):
            scores = _einsum("gqd,gdk->gqk", q_GxSxhd * q.shape[-1] ** -0.5, k_t)
            most = jnp.max(scores, axis=-1, keepdims=True)
            weights = jnp.exp(scores - most)
            total = jnp.sum(weights, axis=-1, keepdims=True)
            out = _einsum("gqk,gkd->gqd", weights.astype(v.dtype), v) / total
            return out.astype(v.dtype), most + jnp.log(total)

        return jax.lax.map(chunk, q_C)

    out, log_total = jax.lax.map(group, (q, _transposed(k), v))
    return out, (q, k, v, out, log_total)


def _of_groups_backward(kept, d_out):
    q, k, v, out, log_total = kept
    scale = q.shape[-1] ** -0.5
    along = jnp.sum(d_out.astype(jnp.float32) * out, axis=-1, keepdims=True)  # sum over keys of weight x its gradient

    def group(one_group):
        k, k_t, v_t, chunks = one_group

        def chunk(sums, one_chunk):
            dk_t, dv_t = sums
            q, q_t, d_out, d_out_t, log_total, along = one_chunk
            weights = jnp.exp(_einsum("gqd,gdk->gqk", q * scale, k_t) - log_total)
            dv_t += _einsum("gdq,gqk->gdk", d_out_t, weights.astype(d_out.dtype))
            d_scores = (weights * (_einsum("gqd,gdk->gqk", d_out, v_t) - along)).astype(q.dtype)
            dk_t += _einsum("gdq,gqk->gdk", q_t, d_scores)
            return (dk_t, dv_t), (_einsum("gqk,gkd->gqd", d_scores, k) * scale).astype(q.dtype)

        zeros = jnp.zeros(k_t.shape, jnp.float32)
        (dk_t, dv_t), dq = jax.lax.scan(chunk, (zeros, zeros), chunks)
        return dq, dk_t.astype(k.dtype), dv_t.astype(k.dtype)

    chunks = (q, _transposed(q * scale), d_out, _transposed(d_out), log_total, along)
    dq, dk_t, dv_t = jax.lax.map(group, (k, _transposed(k), _transposed(v), chunks))
    return dq, jnp.swapaxes(dk_t, -1, -2), jnp.swapaxes(dv_t, -1, -2)


_of_groups.defvjp(_of_groups_forward, _of_groups_backward)


def _splash(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd):
    """The TPU's flash kernel. It wants lengths in blocks of 128: padded, with the padding in a segment of its own that no real token
    attends to.
    """
    return _per_shard(_splash_local, q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


def _splash_local(q, k, v, interpret: bool = False):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, heads, hd = q.shape[1:]

    def padded(x):
        x = jnp.swapaxes(x, 1, 2)
        return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % _SPLASH_BLOCK), (0, 0)))

    def segments(x, real):
        return (jnp.arange(x.shape[2]) >= real).astype(jnp.int32)

    q, k, v, keys = padded(q * hd**-0.5), padded(k), padded(v), k.shape[1]
    full = masks.MultiHeadMask([masks.FullMask((q.shape[2], k.shape[2]))] * heads)
    call = kernel.make_splash_mha_single_device(mask=full, interpret=interpret)
    ids = kernel.SegmentIds(q=segments(q, length), kv=segments(k, keys))
    out = jax.vmap(functools.partial(call, segment_ids=ids))(q, k, v)
    return jnp.swapaxes(out[:, :, :length], 1, 2)


IMPLEMENTATIONS = {"xla": _xla, "cudnn": _cudnn, "chunked": _chunked, "splash": _splash}
