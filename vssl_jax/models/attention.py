"""Attention of all tokens to all tokens, by whichever program is fastest where it runs.

The one idea: which implementation to use is a pure function of (platform, dtype, length, head width), `choose`, made when the program is
traced, and every implementation computes the same softmax(q k^T / sqrt(hd)) v with the softmax in float32. The platform is that of the
mesh in use, so that a program compiled on a CPU for a TPU takes the TPU's path.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from vssl_jax.errors import unknown_name
from vssl_jax.models import layout
from vssl_jax.platform import platform

CHUNK = 196  # queries a chunk holds at most: 1568 = 8 chunks
_SPLASH_BLOCK = 128  # the TPU kernel's lengths are multiples of this


def choose(platform: str, dtype: jnp.dtype, length: int, head_dim: int = 64) -> str:
    """The implementation for `length` tokens of `dtype` on `platform` ('cpu', 'gpu', 'tpu')."""
    half = dtype in (jnp.bfloat16, jnp.float16)
    # What cuDNN's kernel takes on any GPU that has it. On an H200 it is 1.7 times as fast as "xla" at 160 tokens, 4.4 times at 1568.
    if platform == "gpu" and half and length >= 128 and head_dim % 8 == 0 and head_dim <= 128:
        return "cudnn"
    if platform == "tpu" and length >= 1024:
        return "splash"
    if platform == "cpu" and length >= 2 * CHUNK:
        return "chunked"
    return "xla"


def attention(q_BxNxHxhd: jax.Array, k_BxNxHxhd: jax.Array, v_BxNxHxhd: jax.Array, impl: str = "auto") -> jax.Array:
    """softmax(q k^T / sqrt(hd)) v per head, [B,N,H,hd] in the dtype of q; scores and softmax are float32."""
    if impl == "auto":
        impl = choose(platform(), q_BxNxHxhd.dtype, k_BxNxHxhd.shape[1], q_BxNxHxhd.shape[-1])
    if impl not in IMPLEMENTATIONS:
        raise unknown_name("attention", impl, ["auto", *IMPLEMENTATIONS])
    return IMPLEMENTATIONS[impl](q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


def _xla(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def _cudnn(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def _chunked(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd):
    """Queries by chunks, whose scores the backward pass makes again: the N x N scores are never in memory, only N x CHUNK of them."""
    length = q_BxNxHxhd.shape[1]
    chunks = -(-length // CHUNK)
    size = -(-length // chunks)
    q, k, v = (
        jnp.swapaxes(x, 1, 2) for x in (q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)
    )  # heads first: one matrix product per head, without strides
    q = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * size - length), (0, 0)))  # rows of zeros are cut off below
    q = jnp.moveaxis(q.reshape(*q.shape[:2], chunks, size, q.shape[-1]), 2, 0)
    out = jnp.moveaxis(_of_chunks(q, k, v), 0, 2)
    out = out.reshape(*out.shape[:2], chunks * size, out.shape[-1])[:, :, :length]
    return jnp.swapaxes(out, 1, 2)


_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _of_chunks(q_CxBxHxSxhd, k_BxHxNxhd, v_BxHxNxhd):
    """Attention of C chunks of queries, [C,B,H,S,hd]. Its gradient is by hand (Dao et al. 2022, https://arxiv.org/abs/2205.14135, appendix B.4): with the
    logarithm of each softmax's sum the weights come of the scores in one pass, and the softmax's own gradient needs no sum over the keys.
    """
    return _of_chunks_forward(q_CxBxHxSxhd, k_BxHxNxhd, v_BxHxNxhd)[0]


def _of_chunks_forward(q, k, v):
    def one(q_BxHxSxhd):
        scores = _einsum("bhqd,bhkd->bhqk", q_BxHxSxhd * q.shape[-1] ** -0.5, k)
        most = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - most)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = _einsum("bhqk,bhkd->bhqd", weights.astype(v.dtype), v) / total
        return out.astype(v.dtype), most + jnp.log(total)

    out, log_total = jax.lax.map(one, q)
    return out, (q, k, v, out, log_total)


def _of_chunks_backward(kept, d_out):
    q, k, v, out, log_total = kept
    scale = q.shape[-1] ** -0.5

    def one(sums, chunk):
        dk, dv = sums
        q, out, log_total, d_out = chunk
        weights = jnp.exp(_einsum("bhqd,bhkd->bhqk", q * scale, k) - log_total)
        dv += _einsum("bhqk,bhqd->bhkd", weights.astype(d_out.dtype), d_out)
        along = jnp.sum(d_out.astype(jnp.float32) * out, axis=-1, keepdims=True)  # sum over keys of weight x its gradient
        d_scores = (weights * (_einsum("bhqd,bhkd->bhqk", d_out, v) - along)).astype(q.dtype)
        dk += _einsum("bhqk,bhqd->bhkd", d_scores, q * scale)
        return (dk, dv), (_einsum("bhqk,bhkd->bhqd", d_scores, k) * scale).astype(q.dtype)

    zeros = jnp.zeros(k.shape, jnp.float32)
    (dk, dv), dq = jax.lax.scan(one, (zeros, zeros), (q, out, log_total, d_out))
    return dq, dk.astype(k.dtype), dv.astype(v.dtype)


_of_chunks.defvjp(_of_chunks_forward, _of_chunks_backward)


def _splash(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd):
    """The TPU's flash kernel. It wants lengths in blocks of 128: padded, with the padding in a segment of its own that no real token
    attends to.

    A Pallas kernel is opaque to the partitioner, so under a mesh it runs per shard: batch over ('data', 'fsdp'), heads over 'model'; an
    axis that does not divide them (the batch of one that gives shapes at initialization) computes the same on all its devices.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes:  # no mesh, or a shard already
        return _splash_local(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)
    spec = P(layout.axes(layout.BATCH, q_BxNxHxhd.shape[0]), None, layout.axes((layout.MODEL,), q_BxNxHxhd.shape[2]), None)
    return jax.shard_map(_splash_local, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


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
