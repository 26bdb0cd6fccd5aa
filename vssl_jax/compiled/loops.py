"""How often a loop runs: as the compiler notes it, or by its counter: from where, to where, in which steps.

The loops that pass the parts of a matrix around a ring of devices have no note, and count two parts a turn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vssl_jax.compiled.hlo import Computation, Instruction, Module

_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_VIEWS = ("copy", "bitcast", "convert", "reshape")
_INTEGERS = ("s32", "u32", "s64", "u64")


@dataclass(frozen=True)
class _Scope:
    """A computation, and who calls it with what: a fusion's parameters are its caller's values."""

    computation: Computation
    module: Module
    operands: Sequence[str] = ()
    caller: "_Scope | None" = None


def trip_count(loop: Instruction, computation: Computation, module: Module) -> int | None:
    """Turns of a while of `computation`; None where the text does not tell, as of one that goes on until a draw is accepted."""
    known = _KNOWN.search(loop.attributes)
    return int(known.group(1)) if known else _counted(loop, _Scope(computation, module))


def _counted(loop: Instruction, around: _Scope) -> int | None:
    """By `counter < end`, and the body's `counter + step`."""
    condition, body = (_Scope(around.module.computations[loop.called[role][0]], around.module) for role in ("condition", "body"))
    compared, scope = _source(condition.computation.root.name, condition)
    if compared.opcode != "compare" or "direction=LT" not in compared.attributes:
        return None
    (counter, _), (last, _) = (_source(operand, scope) for operand in compared.operands)
    index, end = _index(counter), _constant(last)
    step = None if index is None else _step(index, body)
    start = None if index is None else _element(loop.operands[0], index, around)
    if None in (end, step, start) or step <= 0:
        return None
    return max(0, -((start - end) // step))


def _step(index: int, body: _Scope) -> int | None:
    """What a turn adds to element `index` of the loop's values."""
    root, scope = _source(body.computation.root.name, body)
    if root.opcode != "tuple":
        return None
    added, scope = _source(root.operands[index], scope)
    if added.opcode != "add":
        return None
    parts = [_source(operand, scope)[0] for operand in added.operands]
    constants = [value for part in parts if (value := _constant(part)) is not None]
    return constants[0] if len(constants) == 1 and index in map(_index, parts) else None


def _element(name: str, index: int, scope: _Scope) -> int | None:
    """Element `index` of a tuple, where it is a constant."""
    made, scope = _source(name, scope)
    return _constant(_source(made.operands[index], scope)[0]) if made.opcode == "tuple" else None


def _source(name: str, scope: _Scope) -> tuple[Instruction, _Scope]:
    """Where a value comes from, behind copies, tuples and the walls of fusions."""
    found = scope.computation.instructions[name]
    if found.opcode in _VIEWS:
        return _source(found.operands[0], scope)
    if found.opcode == "parameter" and scope.caller:
        return _source(scope.operands[found.parameter], scope.caller)
    if found.opcode == "fusion":
        inner = _Scope(scope.module.computations[found.called["calls"][0]], scope.module, found.operands, scope)
        return _source(inner.computation.root.name, inner)
    if found.opcode == "get-tuple-element":
        made, place = _source(found.operands[0], scope)
        if made.opcode == "tuple":
            return _source(made.operands[_index(found)], place)
    return found, scope


def _index(instruction: Instruction) -> int | None:
    """Which element a get-tuple-element takes."""
    found = re.search(r"\bindex=(\d+)", instruction.attributes) if instruction.opcode == "get-tuple-element" else None
    return int(found.group(1)) if found else None


def _constant(instruction: Instruction) -> int | None:
    if instruction.opcode != "constant" or instruction.shapes[0].dtype not in _INTEGERS:
        return None
    found = re.match(r"\((-?\d+)\)", instruction.attributes)
    return int(found.group(1)) if found else None
