"""Peak dense bf16 matrix rates by device kind, FLOP/s per device: the denominator of MFU.

Vendors' datasheets, without sparsity (1979 TFLOP/s for an H100 is the sparse figure). A kind that is not listed has no MFU.
"""

import jax

PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """The longest listed name that the device's kind starts with decides."""
    names = [name for name in PEAKS if device.device_kind.startswith(name)]
    return PEAKS[max(names, key=len)] if names else None
