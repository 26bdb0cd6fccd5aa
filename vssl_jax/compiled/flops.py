"""FLOPs of one instruction: matrix products, convolutions and kernels that state their own; a multiplication and an addition are two.

The compiler turns matrix products into convolutions with padded or dilated windows, most of whose positions fall on nothing: as in XLA's own
analysis, only pairs of a real input and a real weight count.
"""

import math
import re

from vssl_jax.compiled.hlo import Computation, Instruction

_LISTS = re.compile(r"(\w+)=\{([\d,]*)\}")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_COUNT = re.compile(r"(feature_group_count|batch_group_count)=(\d+)")
_STATED = re.compile(r'"flops":"?(\d+)"?')

# Kernels that do not state their FLOPs: how many products of [N, hd] with [hd, N] (or [N, N] with [N, hd]) each makes per head.
ATTENTION_KERNELS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
# Names for memory and hints to the compiler.
NO_WORK = (
    "AllocateBuffer",
    "ConcatBitcast",
    "AssumeGatherIndicesInBound",
    "GatherScatterIndicesBitpacked",
    "Sharding",
    "AsyncCollectiveStart",
    "AsyncCollectiveDone",
)


def flops(instruction: Instruction, computation: Computation) -> int:
    """Of the instruction itself, without what it calls."""
    if instruction.opcode == "dot":
        return _dot(instruction, computation)
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    if instruction.opcode == "custom-call":
        return _kernel(instruction, computation) or 0
    return 0


def target(instruction: Instruction) -> str:
    """Which program a custom call runs."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found.group(1) if found else ""


def is_unknown(instruction: Instruction, computation: Computation) -> bool:
    """A kernel whose FLOPs nobody states."""
    known = instruction.opcode != "custom-call" or target(instruction) in NO_WORK
    return not known and _kernel(instruction, computation) is None


def _kernel(instruction: Instruction, computation: Computation) -> int | None:
    if stated := _STATED.search(instruction.attributes):
        return int(stated.group(1))
    for name, products in ATTENTION_KERNELS.items():
        if instruction.name.startswith(name):
            shapes = [shape for operand in instruction.operands for shape in computation.shapes(operand)]
            queries, keys = [shape for shape in shapes if len(shape.dims) >= 3 and shape.dtype in ("bf16", "f16", "f32")][:2]
            return 2 * products * queries.size * keys.dims[-2]  # [..., N, hd] each, behind the kernel's tables of integers
    return None


def _dot(instruction: Instruction, computation: Computation) -> int:
    lists = dict(_LISTS.findall(instruction.attributes))
    (left,) = computation.shapes(instruction.operands[0])
    contracted = math.prod(left.dims[int(d)] for d in lists.get("lhs_contracting_dims", "").split(",") if d)
    return 2 * instruction.shapes[0].size * contracted


def _convolution(instruction: Instruction, computation: Computation) -> int:
    (image,), (kernel,) = (computation.shapes(operand) for operand in instruction.operands[:2])
    image_labels, kernel_labels, out_labels = _LABELS.search(instruction.attributes).groups()
    groups = {name: int(count) for name, count in _COUNT.findall(instruction.attributes)}
    (out,) = instruction.shapes
    positions = 1
    for axis, window in enumerate(_windows(instruction.attributes, len(kernel_labels) - 2)):
        label = str(axis)
        sizes = (image.dims[image_labels.index(label)], kernel.dims[kernel_labels.index(label)], out.dims[out_labels.index(label)])
        positions *= _pairs(*sizes, **window)
    batch = image.dims[image_labels.index("b")] // groups.get("batch_group_count", 1)
    features = kernel.dims[kernel_labels.index("i")] * kernel.dims[kernel_labels.index("o")]  # a group's inputs, all groups' outputs
    return 2 * batch * features * positions


def _windows(attributes: str, axes: int) -> list[dict[str, int]]:
    """stride, low padding and dilations of each spatial axis."""
    found = _WINDOW.search(attributes)
    fields = dict(field.split("=") for field in found.group(1).split()) if found else {}

    def values(name: str, default: str) -> list[int]:
        text = fields.get(name)
        return [int(v.split("_")[0]) for v in (text.split("x") if text else [default] * axes)]

    names = {"stride": "1", "pad": "0", "lhs_dilate": "1", "rhs_dilate": "1"}
    return [dict(zip(names, row, strict=True)) for row in zip(*(values(n, d) for n, d in names.items()), strict=True)]


def _pairs(image: int, kernel: int, out: int, stride: int, pad: int, lhs_dilate: int, rhs_dilate: int) -> int:
    """(output, weight) pairs along one axis that meet a real input."""
    count = 0
    for weight in range(kernel):
        offset = weight * rhs_dilate - pad
        # output o meets position o * stride + offset of the dilated input
        if lhs_dilate == 1:
            first = max(0, -(offset // stride))
            last = min(out - 1, (image - 1 - offset) // stride)
            count += max(0, last - first + 1)
        else:
            places = (o * stride + offset for o in range(out))
            count += sum(0 <= p <= (image - 1) * lhs_dilate and p % lhs_dilate == 0 for p in places)
    return count
