"""The least time that a program can take on a chip: each of its three resources at full rate.

Compute, memory and links work beside each other, so a step takes no less than the slowest of them (all overlapped); the sum of compute (or
memory) and links is what it takes with no overlap. Neither is a forecast: kernels do not reach the rates of data sheets, and latency is left
out.
"""

from dataclasses import dataclass

from vssl_jax.chips import Chip
from vssl_jax.compiled.account import Account, Collective


@dataclass(frozen=True)
class Roofline:
    """Seconds a step on one chip, by resource."""

    compute: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory, self.links)

    @property
    def bound(self) -> str:
        """The resource that decides."""
        return max(("compute", "memory", "links"), key=lambda name: getattr(self, name))

    @property
    def communication(self) -> float:
        """Time on the links over time on the matrix units."""
        return self.links / self.compute if self.compute else float("inf")


def _link_seconds(collective: Collective, chip: Chip, devices: int) -> float:
    """A collective over the whole slice can use all links of a chip; one over a part is taken to run around one axis of the torus: two links,
    as is what chips pass to their neighbors, which goes around both ways at once.
    """
    whole = collective.group == devices and collective.kind != "collective-permute"
    links = chip.links if whole else min(2, chip.links)
    return collective.sent_bytes / (links * chip.link_bandwidth)


def roofline(account: Account, chip: Chip, devices: int) -> Roofline:
    """`account` is one device's of a program for `devices` chips of one slice."""
    return Roofline(
        compute=account.flops / chip.flops,
        memory=account.traffic_bytes / chip.bandwidth,
        links=sum(_link_seconds(c, chip, devices) for c in account.collectives),
    )
