"""XLA's text of a program (HLO): computations, their instructions, and shapes with the memory that each lives in."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # of the types that do not end in their width
_SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation)=(\{[^}]*\}|%[\w.\-]+)")
_MEMORY = re.compile(r"S\((\d+)\)")


@dataclass(frozen=True)
class Shape:
    """An array: its element type, dimensions, and memory (0: the device's main one; on a TPU 1 is on the chip)."""

    dtype: str
    dims: tuple[int, ...]
    memory: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return -(-self.size * bits(self.dtype) // 8)


def bits(dtype: str) -> int:
    """Bits of an element: 'bf16' 16, 's4' 4, 'f8e4m3fn' 8."""
    if dtype in _BITS:
        return _BITS[dtype]
    return int(re.match(r"[a-z]+(\d+)", dtype).group(1))


@dataclass(frozen=True)
class Instruction:
    """One line. `shapes` are the leaves of its result; `called` are the computations that it names, by role ('body', 'calls', ...)."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    called: Mapping[str, tuple[str, ...]]
    root: bool

    @functools.cached_property
    def parameter(self) -> int | None:
        """The number of a parameter."""
        return int(self.attributes[1:].split(")", 1)[0]) if self.opcode == "parameter" else None


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order of the text."""

    name: str
    instructions: Mapping[str, Instruction]

    def shapes(self, operand: str) -> tuple[Shape, ...]:
        return self.instructions[operand].shapes

    @functools.cached_property
    def root(self) -> Instruction:
        return next(i for i in self.instructions.values() if i.root)

    @functools.cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """Who reads each instruction."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return {name: tuple(users) for name, users in found.items()}


@dataclass(frozen=True)
class Module:
    """A whole program."""

    computations: Mapping[str, Computation]
    entry: str


def _closing(text: str, start: int) -> int:
    """The index after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced parentheses in {text[:200]!r}")


def _shapes(text: str) -> tuple[Shape, ...]:
    found = []
    for dtype, dims, layout in _SHAPE.findall(text):
        memory = _MEMORY.search(layout)
        found.append(Shape(dtype, tuple(int(d.removeprefix("<=")) for d in dims.split(",") if d), int(memory.group(1)) if memory else 0))
    return tuple(found)


def _instruction(line: str) -> Instruction:
    left, _, right = line.strip().partition(" = ")
    end = _closing(right, 0) if right.startswith("(") else right.index(" ")
    opening = right.index("(", end)
    closing = _closing(right, opening)
    opcode, operands, attributes = right[end:opening].strip(), right[opening:closing], right[closing:]
    called = {role: tuple(_NAME.findall(names)) for role, names in _CALLED.findall(attributes)}
    return Instruction(
        name=left.removeprefix("ROOT ").removeprefix("%"),
        opcode=opcode,
        shapes=_shapes(right[:end]),
        operands=tuple(_NAME.findall(operands)),
        attributes=operands + attributes if opcode in ("parameter", "constant") else attributes,
        called=called,
        root=left.startswith("ROOT "),
    )


def _lines(text: str) -> list[str]:
    """Lines of the text, each instruction one: an attribute may hold line breaks (a kernel's metadata)."""
    lines: list[str] = []
    for line in text.splitlines():
        starts = line.startswith(("  %", "  ROOT ", "%", "ENTRY ", "HloModule")) or line in ("", "}")
        if starts or not lines:
            lines.append(line)
        else:
            lines[-1] += " " + line
    return lines


def parse(text: str) -> Module:
    """The program of `compiled.as_text()`."""
    computations, entry, name, instructions = {}, None, None, {}
    for line in _lines(text):
        header = _HEADER.match(line)
        if header:
            name, instructions = header.group(2), {}
            entry = name if header.group(1) else entry
        elif line == "}":
            computations[name] = Computation(name, instructions)
        elif line.startswith("  "):
            instruction = _instruction(line)
            instructions[instruction.name] = instruction
    if entry is None:
        raise ValueError("no program: the text has no ENTRY computation")
    return Module(computations, entry)
