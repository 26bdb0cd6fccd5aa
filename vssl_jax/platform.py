"""Which kind of device a program is traced for, and what follows from it.

The one idea: ask the mesh, not the process. A program can be compiled on a CPU for a TPU, and must then take the TPU's paths.
"""

import jax


def platform() -> str:
    """'cpu', 'gpu' or 'tpu': of the mesh in use (jax.set_mesh), or of the default backend where there is none."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "gpu" if name in ("cuda", "rocm") else name


def compute_dtype(dtype: str) -> str:
    """The dtype of activations: 'auto' is bfloat16 on accelerators, float32 on a CPU, where bfloat16 is slower."""
    if dtype != "auto":
        return dtype
    return "float32" if platform() == "cpu" else "bfloat16"
