"""Where every array lives: one mesh, one rule for the whole state.

The one idea: placement is a function of a leaf's path and shape, applied alike to parameters, optimizer moments, teachers and queues.
Tensor-parallel axes come from a list of (path regex, spec of the trailing dimensions), first match wins; FSDP takes the largest dimension
that is left and divides. Specs align to the right, so layers stacked by a scan need no rules of their own. Models carry no annotations.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vssl_jax.errors import UserError

AXES = ("data", "fsdp", "seq", "model")
BATCH_SPEC = P(("data", "fsdp"))
Rules = Sequence[tuple[str, tuple[str | None, ...]]]

# Megatron's split of a transformer block: the first matrix of each pair by its outputs (heads, hidden units), the second by its inputs.
MODEL_RULES: Rules = (
    (r"attn/qkv/kernel$", (None, None, "model", None)),  # [D, 3, heads, hd]
    (r"attn/(q|k|v)_?bias$", ("model", None)),  # [heads, hd]
    (r"attn/proj/kernel$", ("model", None, None)),  # [heads, hd, D]
    (r"mlp/fc1/kernel$", (None, "model")),
    (r"mlp/fc1/bias$", ("model",)),
    (r"mlp/fc2/kernel$", ("model", None)),
)
FSDP_MIN_SIZE = 2**16  # elements; below this an all-gather costs more than the copy it saves


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh ('data', 'fsdp', 'seq', 'model'); one size may be -1, "the rest". Raises UserError where the sizes do not multiply to the number
    of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = [int(sizes.get(axis, 1)) for axis in AXES]
    given = int(np.prod([n for n in shape if n != -1]))
    if shape.count(-1) > 1 or any(n == 0 or n < -1 for n in shape):
        raise UserError(f"mesh sizes {dict(zip(AXES, shape, strict=True))}: give positive sizes, and -1 for at most one axis")
    if shape.count(-1) == 1 and len(devices) % given == 0:
        shape[shape.index(-1)] = len(devices) // given
    if int(np.prod(shape)) != len(devices):
        raise UserError(
            f"mesh {' x '.join(f'{a}={n}' for a, n in zip(AXES, shape, strict=True))} does not fill {len(devices)} devices: "
            "set config.mesh so that the sizes multiply to the number of devices"
        )
    if (placed := _by_hosts(shape, devices)) is not None:
        return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    # An axis that fills no row of a slice's chips, such as 2 of 8, shares the row with another axis; jax.make_mesh refuses that.
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    if slices == 1:
        placed = mesh_utils.create_device_mesh(tuple(shape), devices, allow_split_physical_axes=True)
    elif shape[0] % slices:
        raise UserError(
            f"mesh.data={shape[0]} does not split over {slices} slices, between which only gradients are to go: make it a multiple of {slices}"
        )
    else:
        inside = (shape[0] // slices, *shape[1:])
        placed = mesh_utils.create_hybrid_device_mesh(inside, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
    # Explicit axes (make_mesh's default) refuse linen models with FSDP kernels: Auto lets the compiler propagate.
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _by_hosts(shape: Sequence[int], devices: Sequence[jax.Device]) -> np.ndarray | None:
    """The devices where 'seq' and 'model' stay on a host, whose chips read the same rows: along a slice's torus they would go from host to host. None where
    no device shares its rows, where there is one host, or where these axes do not fill one; of several slices 'data' goes from slice to slice.
    """
    data, fsdp, *inner = shape
    hosts = len({device.process_index for device in devices})
    each = len(devices) // hosts
    if hosts == 1 or math.prod(inner) == 1 or each % math.prod(inner):
        return None
    outer = each // math.prod(inner)  # groups of a host
    fsdp_in = math.gcd(fsdp, outer)
    data_in, slices = outer // fsdp_in, len({getattr(device, "slice_index", 0) for device in devices})
    if data % data_in or (data // data_in) % slices:
        return None
    sizes = (data_in, fsdp_in, *inner), (data // data_in, fsdp // fsdp_in, 1, 1)
    return mesh_utils.create_hybrid_device_mesh(*sizes, devices, process_is_granule=True, allow_split_physical_axes=True)


def local_mesh(rows: int) -> Mesh:
    """This host's devices along 'data', or as many of them as divide `rows`: for what one host computes alone."""
    devices = jax.local_devices()
    while rows % len(devices):
        devices = devices[: len(devices) // 2]
    return make_mesh({"data": len(devices)}, devices)


def path_name(path: tuple[Any, ...]) -> str:
    """'params/encoder/blocks/attn/qkv/kernel' for a key path of jax.tree_util."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def spec_for(name: str, shape: tuple[int, ...], mesh: Mesh, rules: Rules = MODEL_RULES) -> P:
    """The PartitionSpec of one leaf (a dimension that an axis does not divide stays whole)."""
    spec: list[str | None] = [None] * len(shape)
    for pattern, trailing in rules:
        if re.search(pattern, name) and len(trailing) <= len(shape):
            offset = len(shape) - len(trailing)
            for i, axis in enumerate(trailing):
                if axis is not None and mesh.shape[axis] > 1 and shape[offset + i] % mesh.shape[axis] == 0:
                    spec[offset + i] = axis
            break
    fsdp = mesh.shape["fsdp"]
    if fsdp > 1 and int(np.prod(shape)) >= FSDP_MIN_SIZE:
        free = [i for i in range(len(shape)) if spec[i] is None and shape[i] % fsdp == 0]
        if free:
            spec[max(free, key=lambda i: shape[i])] = "fsdp"
    return P(*spec)


def shardings(shapes: Any, mesh: Mesh, rules: Rules = MODEL_RULES) -> Any:
    """A NamedSharding for every leaf of a tree of ShapeDtypeStructs (PRNG keys are replicated)."""

    def one(path, leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return NamedSharding(mesh, P())
        return NamedSharding(mesh, spec_for(path_name(path), tuple(leaf.shape), mesh, rules))

    return jax.tree_util.tree_map_with_path(one, shapes)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over all data-parallel devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def check_batch_size(batch_size: int, accumulation: int, mesh: Mesh) -> None:
    """Raises UserError where a micro-batch does not split evenly over the data-parallel devices and hosts."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    processes = {device.process_index for device in mesh.devices.flat}
    inner = mesh.shape["seq"] * mesh.shape["model"]  # devices that work on the same rows
    if len(processes) > 1 and any(len({device.process_index for device in group}) > 1 for group in mesh.devices.reshape(-1, inner)):
        raise UserError(
            f"mesh.seq={mesh.shape['seq']} x mesh.model={mesh.shape['model']} reaches over hosts of {mesh.size // len(processes)} devices, which "
            "read different rows: choose divisors of a host's devices, and mesh.fsdp for the rest"
        )
    if batch_size % accumulation:
        raise UserError(f"train.batch_size={batch_size} is not a multiple of train.grad_accumulation={accumulation}")
    if (batch_size // accumulation) % shards:
        raise UserError(
            f"a micro-batch of {batch_size // accumulation} clips (train.batch_size={batch_size} / train.grad_accumulation={accumulation}) "
            f"does not split over {shards} data-parallel devices: change train.batch_size, or mesh"
        )


def global_batch(local: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's rows of a batch -> global arrays on the mesh."""
    sharding = batch_sharding(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, np.asarray(v)) for k, v in local.items()}
