"""Bytes between one instruction and the device's main memory: what it reads and writes there if nothing of it is there already.

A slice of a stack is the slice, not the stack: the layers of a scan read and write one layer each. What the compiler placed in the chip's
own memory (a TPU's VMEM) costs nothing here; the copy that brings it there does.
"""

from collections.abc import Iterable

from vssl_jax.compiled.flops import NO_WORK, target
from vssl_jax.compiled.hlo import Computation, Instruction, Module, Shape

# These name memory, or run other computations, whose instructions are counted by themselves.
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all opt-barrier partition-id replica-id domain "
    "add-dependency optimization-barrier".split()
)
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "copy", "convert", "reshape", "transpose")  # of a slice, inside a fusion


def chained(instruction: Instruction) -> bool:
    """A collective that a TPU spreads over several fusions, to compute beside it: each of them, from its start to its end, names it again."""
    return "chain_id=" in instruction.attributes


def starts(instruction: Instruction, computation: Computation) -> bool:
    """The first of a chain."""
    return any(target(user) == "AsyncCollectiveStart" for user in computation.users[instruction.name])


def _bytes(shapes: Iterable[Shape]) -> int:
    return sum(shape.bytes for shape in shapes if shape.memory == 0)


def traffic(instruction: Instruction, computation: Computation, module: Module) -> int:
    """Bytes of one execution."""
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done") or (opcode == "custom-call" and target(instruction) in NO_WORK):
        return 0
    operands = [computation.shapes(operand) for operand in instruction.operands]
    if opcode in _SLICES:
        return _bytes(instruction.shapes) * 2
    if opcode == "dynamic-update-slice":
        return _bytes(operands[1]) * 2
    if opcode == "copy-start":  # (the copy, the original, a token)
        return sum(_bytes(shapes) for shapes in operands) + _bytes(instruction.shapes[:1])
    if opcode == "slice-start":  # (the whole, the slice, a token)
        part = instruction.shapes[len(operands[0])]
        return (part.bytes if _bytes(operands[0]) else 0) + _bytes([part])
    if opcode.endswith("-start"):  # (the operands again, the results, ...)
        count = sum(len(shapes) for shapes in operands)
        return sum(_bytes(shapes) for shapes in operands) + _bytes(instruction.shapes[count : 2 * count] or instruction.shapes)
    if opcode == "fusion":
        return _fusion(instruction, operands, module)
    return sum(_bytes(shapes) for shapes in operands) + _bytes(instruction.shapes)


def _body(fusion: Instruction, module: Module) -> Computation:
    return module.computations[fusion.called["calls"][0]]


def _fusion(instruction: Instruction, operands: list[tuple[Shape, ...]], module: Module) -> int:
    body = _body(instruction, module)
    total = 0
    for number, shapes in enumerate(operands):
        if _bytes(shapes):
            total += min(_bytes(shapes), _read(_parameter(body, number), body, module))
    if target(body.root) == "AsyncCollectiveStart":  # (the operand again, the result, marks)
        return total + _bytes(instruction.shapes[1:])
    roots = [body.instructions[o] for o in body.root.operands] if body.root.opcode == "tuple" else [body.root]
    if len(roots) != len(instruction.shapes):  # a root that is a tuple of its own (a reduction of several arrays)
        return total + _bytes(instruction.shapes)
    for root, shape in zip(roots, instruction.shapes, strict=True):
        if shape.memory == 0:
            total += _written(root, body, shape, module)
    return total


def _parameter(body: Computation, number: int) -> Instruction:
    return next(i for i in body.instructions.values() if i.parameter == number)


def _written(root: Instruction, body: Computation, shape: Shape, module: Module) -> int:
    """An update in place writes its part; what passes through, or is on its way from another device, was written when it started."""
    if root.opcode == "parameter" or chained(root) or target(root) == "AsyncCollectiveDone":
        return 0
    while root.opcode in _VIEWS:
        root = body.instructions[root.operands[0]]
    if root.opcode == "fusion" and len(root.shapes) == 1:
        inner = _body(root, module)
        return _written(inner.root, inner, shape, module)
    return sum(s.bytes for s in body.shapes(root.operands[1])) if root.opcode == "dynamic-update-slice" else shape.bytes


def _read(value: Instruction, body: Computation, module: Module) -> int:
    """Bytes of a parameter that the fusion looks at: of one that is only sliced, the slices; of one that is updated in place or only passed
    on, nothing.
    """
    total = 0
    for user in body.users[value.name]:
        if user.opcode in _SLICES and user.operands[0] == value.name:
            total += sum(shape.bytes for shape in user.shapes)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
            continue
        elif (user.root and user.opcode == "tuple") or target(user) == "AsyncCollectiveDone":
            continue
        elif chained(user) and not starts(user, body):
            continue
        elif user.opcode == "fusion":
            inner = _body(user, module)
            places = [i for i, operand in enumerate(user.operands) if operand == value.name]
            total += sum(_read(_parameter(inner, i), inner, module) for i in places)
        elif user.opcode in _VIEWS:
            total += _read(user, body, module)
        else:
            return sum(shape.bytes for shape in value.shapes)
    return total
