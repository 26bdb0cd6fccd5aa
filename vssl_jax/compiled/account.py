"""The whole program: FLOPs, memory traffic and collectives of one execution on one device, each times the turns of the loops around it."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vssl_jax.compiled import hlo
from vssl_jax.compiled.flops import flops, is_unknown, target
from vssl_jax.compiled.loops import trip_count
from vssl_jax.compiled.traffic import chained, starts, traffic

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_GROUPS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_NEAR = re.compile(r"S\(1\)")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")  # an order of devices may stand between


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind over groups of `group` devices: `count` of them a step, and together the `bytes` of what each device ends up
    with (of an all-gather the gathered array, of a reduce-scatter the array that is scattered).
    """

    kind: str
    group: int
    count: int
    bytes: int

    @property
    def sent_bytes(self) -> float:
        """What one device sends, by the algorithms that send the least (rings): an all-reduce is a reduce-scatter and an all-gather."""
        if self.kind == "collective-permute":
            return float(self.bytes)
        return self.bytes * (self.group - 1) / self.group * (2 if self.kind == "all-reduce" else 1)


@dataclass(frozen=True)
class Account:
    """Of one device and one execution. `collectives` are one for each (kind, size of group); `uncounted` names the kernels whose FLOPs nobody
    states, which `flops` lacks, and `open_ended` the loops whose length depends on the data, of which one turn is counted. `kernel_flops` are
    those of `flops` that kernels make: attention of long sequences.
    """

    flops: int = 0
    traffic_bytes: int = 0
    collectives: tuple[Collective, ...] = ()
    uncounted: frozenset[str] = frozenset()
    open_ended: frozenset[str] = frozenset()
    kernel_flops: int = 0

    def __add__(self, other: "Account") -> "Account":
        merged: dict[tuple[str, int], Collective] = {}
        for c in self.collectives + other.collectives:
            old = merged.get((c.kind, c.group), Collective(c.kind, c.group, 0, 0))
            merged[c.kind, c.group] = Collective(c.kind, c.group, old.count + c.count, old.bytes + c.bytes)
        ordered = tuple(merged[key] for key in sorted(merged))
        named = self.uncounted | other.uncounted, self.open_ended | other.open_ended
        kernels = self.kernel_flops + other.kernel_flops
        return Account(self.flops + other.flops, self.traffic_bytes + other.traffic_bytes, ordered, *named, kernels)

    def __mul__(self, times: int) -> "Account":
        each = tuple(Collective(c.kind, c.group, c.count * times, c.bytes * times) for c in self.collectives)
        named = self.uncounted, self.open_ended
        return Account(self.flops * times, self.traffic_bytes * times, each, *named, self.kernel_flops * times)

    def counts(self) -> Mapping[str, int]:
        """Collectives a step, by kind."""
        return {kind: sum(c.count for c in self.collectives if c.kind == kind) for kind in KINDS}


def read(text: str, devices: int = 1) -> Account:
    """The account of a program's text (`compiled.as_text()`) for `devices` devices."""
    module = hlo.parse(text)

    @functools.cache
    def cost(name: str) -> Account:
        computation = module.computations[name]
        return sum((_one(i, computation) for i in computation.instructions.values()), Account())

    def _one(instruction: hlo.Instruction, computation: hlo.Computation) -> Account:
        uncounted = frozenset({target(instruction)} if is_unknown(instruction, computation) else ())
        work = flops(instruction, computation)
        in_kernel = work if instruction.opcode == "custom-call" else 0
        own = Account(work, traffic(instruction, computation, module), (), uncounted, kernel_flops=in_kernel)
        if instruction.opcode == "while":
            turns = trip_count(instruction, computation, module)
            turn = cost(instruction.called["body"][0]) + cost(instruction.called["condition"][0])
            return turn * turns if turns is not None else turn + Account(open_ended=frozenset({_origin(instruction)}))
        if instruction.opcode == "conditional":  # the branch that costs the most
            branches = [cost(name) for names in instruction.called.values() for name in names]
            return max(branches, key=lambda account: (account.flops, account.traffic_bytes))
        if instruction.opcode.removesuffix("-start") in KINDS:
            counts = not chained(instruction) or starts(instruction, computation)
            return own + Account(collectives=(_collective(instruction, computation, devices),) if counts else ())
        if instruction.opcode == "fusion":
            return own + _inside(instruction, cost)
        if instruction.opcode in ("call", "async-start"):
            return own + sum((cost(name) for name in instruction.called.get("calls", instruction.called.get("to_apply", ()))), Account())
        return own

    def _inside(instruction: hlo.Instruction, cost) -> Account:
        """What a fusion computes; its memory traffic is that of its ends."""
        (name,) = instruction.called["calls"]
        inner = cost(name)
        return dataclasses.replace(inner, traffic_bytes=0, collectives=_scattered(name, inner.collectives))

    return cost(module.entry)


def touched_bytes(text: str, devices: int = 1) -> int:
    """Bytes that instructions read and write wherever they live: memory traffic as if a chip had no memory of its own beside the main one."""
    return read(_NEAR.sub("", text), devices).traffic_bytes


def _origin(instruction: hlo.Instruction) -> str:
    """Which function of the program it comes from."""
    found = re.search(r'op_name="([^"]*)"', instruction.attributes)
    return found.group(1) if found else instruction.name


def _scattered(name: str, collectives: tuple[Collective, ...]) -> tuple[Collective, ...]:
    """A TPU's reduce-scatter is a fusion of an all-reduce and the slice that each device keeps."""
    if "all-reduce-scatter" not in name:
        return collectives
    return tuple(Collective("reduce-scatter", c.group, c.count, c.bytes) if c.kind == "all-reduce" else c for c in collectives)


def _collective(instruction: hlo.Instruction, computation: hlo.Computation, devices: int) -> Collective:
    kind = instruction.opcode.removesuffix("-start")
    operands = [shape for operand in instruction.operands for shape in computation.shapes(operand)]
    moved = sum(shape.bytes for shape in operands)
    group = _group(instruction.attributes, devices)
    return Collective(kind, group, 1, moved * group if kind == "all-gather" else moved)


def _group(attributes: str, devices: int) -> int:
    """Devices of one group, from any of the three ways in which the text names them; no groups are one of all."""
    if "source_target_pairs=" in attributes:
        return devices
    if found := _GROUPS.search(attributes):
        return found.group(1).count(",") + 1
    if found := _IOTA.search(attributes):
        return int(found.group(2))
    if found := _MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found.group(1))}
        size = 1
        for name in re.findall(r"'([^']+)'", found.group(2)):
            size *= sizes[name]
        return size
    if "replica_groups={}" in attributes or "replica_groups=" not in attributes:
        return devices
    raise ValueError(f"groups of a collective in a notation that is not known: {attributes[:200]}")
