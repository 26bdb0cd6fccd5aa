"""Each resource at its full rate, by hand."""

import pytest

from vssl_jax.chips import Chip
from vssl_jax.compiled.account import Account, Collective
from vssl_jax.compiled.roofline import roofline

CHIP = Chip(flops=100.0, memory=1.0, bandwidth=10.0, links=4, link_bandwidth=2.0)


def test_the_slowest_resource_decides():
    found = roofline(Account(flops=200, traffic_bytes=50), CHIP, devices=8)
    assert (found.compute, found.memory, found.links, found.seconds, found.bound) == (2.0, 5.0, 0.0, 5.0, "memory")


def test_links_by_the_ring():
    """All-reduce of 64 bytes over all 8 chips: 2 x 7/8 x 64 = 112 bytes on 4 links of 2; over 4 of the 8: 96 bytes on 2 links."""
    whole = roofline(Account(flops=200, collectives=(Collective("all-reduce", 8, 1, 64),)), CHIP, devices=8)
    assert whole.links == pytest.approx(112 / 8) and whole.bound == "links"
    assert whole.communication == pytest.approx(14 / 2)
    part = roofline(Account(flops=200, collectives=(Collective("all-reduce", 4, 1, 64),)), CHIP, devices=8)
    assert part.links == pytest.approx(96 / 4)
    sent = roofline(Account(flops=200, collectives=(Collective("collective-permute", 8, 1, 64),)), CHIP, devices=8)
    assert sent.links == pytest.approx(64 / 4)
