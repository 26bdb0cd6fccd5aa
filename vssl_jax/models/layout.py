"""Where activations live on a mesh: rows over the batch axes, and over 'seq' the tokens of long clips, which do not fit one device.

The one idea: all but attention is done token by token, so a device keeps a part of every sequence, and only attention brings the parts
together. Where the heads split over the devices of 'seq', queries, keys and values change from "some tokens of all heads" to "all tokens of
some heads" by one all-to-all each, and the output back (DeepSpeed-Ulysses, Jacobs et al. 2023, https://arxiv.org/abs/2309.14509). Where
they do not (a decoder of 6 heads on 4 devices), each device gathers all keys and values of the layer for its own queries. The attention
itself is the same as ever, by whichever kernel is fastest.

Without a mesh every function here does nothing of its own.
"""

import math
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P

from vssl_jax.errors import UserError

BATCH = ("data", "fsdp")
SEQ = "seq"
MODEL = "model"

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def axes(names: tuple[str, ...], size: int) -> tuple[str, ...] | None:
    """Those of the mesh's axes, if together they divide `size`; None puts all of it on each device (the batch of one that gives shapes at
    initialization).
    """
    sizes = jax.sharding.get_abstract_mesh().shape
    names = tuple(name for name in names if name in sizes)
    return names if names and size % math.prod(sizes[name] for name in names) == 0 else None


def alone() -> bool:
    """Whether one device has everything."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.empty or mesh.size == 1


def parts() -> int:
    """Devices that share a sequence."""
    return jax.sharding.get_abstract_mesh().shape.get(SEQ, 1)


def _check(size: int, what: str) -> None:
    if size % parts():
        raise UserError(f"{size} {what} do not split over mesh.seq={parts()}: choose a divisor of their number")


def tokens(x_BxNxD: jax.Array) -> jax.Array:
    """Rows over the batch axes and, where there is one, a part of every sequence over 'seq' along N; [B,N,D].

    Rows are pinned on any mesh: left to itself, the compiler may take a weight's shard over 'fsdp' for a reason to gather the activations
    instead of the weight (for ViT-g on 256 chips 719 GiB of gathers a step).
    """
    if alone():
        return x_BxNxD
    _check(x_BxNxD.shape[1], "tokens")
    return jax.lax.with_sharding_constraint(x_BxNxD, P(axes(BATCH, x_BxNxD.shape[0]), SEQ if parts() > 1 else None, None))


def frames(x_BxTxHxWxC: jax.Array) -> jax.Array:
    """Some frames of every clip on each device: [B,T,H,W,C] over 'seq' along T."""
    if parts() == 1:
        return x_BxTxHxWxC
    _check(x_BxTxHxWxC.shape[1], "frames")
    return jax.lax.with_sharding_constraint(x_BxTxHxWxC, P(axes(BATCH, x_BxTxHxWxC.shape[0]), SEQ, None, None, None))


def across(attend: Attend, q_BxNxHxhd: jax.Array, k_BxNxHxhd: jax.Array, v_BxNxHxhd: jax.Array) -> jax.Array:
    """`attend(q, k, v)` of whole sequences, of which each device has a part."""
    if parts() == 1:
        return attend(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)
    rows, length, heads, _ = q_BxNxHxhd.shape
    _check(length, "tokens")
    spec = P(axes(BATCH, rows), SEQ, axes((MODEL,), heads), None)
    run = jax.shard_map(lambda q, k, v: _local(attend, q, k, v), in_specs=(spec,) * 3, out_specs=spec, check_vma=False)
    return run(q_BxNxHxhd, k_BxNxHxhd, v_BxNxHxhd)


def _local(attend: Attend, q, k, v):
    """On one device: some tokens of the queries, keys and values of its heads."""
    if q.shape[2] % parts() == 0:
        q, k, v = (jax.lax.all_to_all(x, SEQ, split_axis=2, concat_axis=1, tiled=True) for x in (q, k, v))
        return jax.lax.all_to_all(attend(q, k, v), SEQ, split_axis=1, concat_axis=2, tiled=True)

    def gathered(q, k, v):
        return attend(q, *(jax.lax.all_gather(x, SEQ, axis=1, tiled=True) for x in (k, v)))

    # Gathered again for the backward pass: kept, they would be the whole sequence of every layer on every device.
    return jax.checkpoint(gathered)(q, k, v)
