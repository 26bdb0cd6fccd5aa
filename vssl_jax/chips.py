"""What accelerators can do: the figures that MFU, rooflines and memory checks stand on.

Vendors' data sheets, dense bf16 (1979 TFLOP/s for an H100 is the sparse figure). TPUs: https://docs.cloud.google.com/tpu/docs/ (v4, v5e, v5p,
v6e); a link's bandwidth is what the sheet gives for the whole chip, in one direction, over its ports.
"""

from dataclasses import dataclass

import jax

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device as JAX counts them: matrix FLOP/s in bf16, memory (bytes, bytes/s), links to neighbors (how many, bytes/s each in one direction).

    `memory` is what programs may use: of a TPU, what its compiler (libtpu 0.0.42) says is available. Zeros: not needed here.
    """

    flops: float
    memory: float = 0.0
    bandwidth: float = 0.0
    links: int = 0
    link_bandwidth: float = 0.0


_V4 = Chip(275e12, 30.75 * GIB, 1228e9, 6, 50e9)
_V5E = Chip(197e12, 15.75 * GIB, 819e9, 4, 50e9)
_V5P = Chip(459e12, 95.74 * GIB, 2765e9, 6, 100e9)
_V6E = Chip(918e12, 31.25 * GIB, 1638e9, 4, 100e9)

# By the start of jax's device_kind.
CHIPS = {
    "TPU v4": _V4,
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5p": _V5P,
    "TPU v5": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
    "NVIDIA A100": Chip(312e12),
    "NVIDIA H100": Chip(989e12),
    "NVIDIA H100 PCIe": Chip(756e12),
    "NVIDIA H100 NVL": Chip(835e12),
    "NVIDIA H200": Chip(989e12),
    "NVIDIA H200 NVL": Chip(835e12),
}


def chip(device: jax.Device) -> Chip | None:
    """The longest listed name that the device's kind starts with decides; None where there is none."""
    names = [name for name in CHIPS if device.device_kind.startswith(name)]
    return CHIPS[max(names, key=len)] if names else None


def peak_flops(device: jax.Device) -> float | None:
    """The denominator of MFU, FLOP/s of one device; None where nobody says."""
    found = chip(device)
    return None if found is None else found.flops
