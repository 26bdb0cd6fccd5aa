"""Does the step fit the device? Asked before the first step, from the compiled program's own account of its memory.

Nothing is changed to make it fit: the error gives the numbers and names the settings, and the person decides.
"""

import os
from typing import Any

import jax

from vssl_jax.errors import UserError
from vssl_jax.train import feed

GIB = 2**30
HOST_BATCHES = 4  # two that tf.data keeps ready, one in rows and one that they are being put together to


def device_bytes(device: jax.Device) -> int | None:
    """What one device holds: an accelerator's own limit, or on a CPU the machine's memory shared by its simulated devices. None where
    nobody says.
    """
    if device.platform == "cpu":
        return host_bytes() // jax.local_device_count()
    stats = device.memory_stats()
    return None if not stats else stats.get("bytes_limit")


def host_bytes() -> int:
    """The memory of this machine, or of the container that it is."""
    return int(min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _cgroup_limit()))


def _cgroup_limit() -> float:
    """A container's own limit, which can be far below the machine's memory."""
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            text = file.read().strip()
    except OSError:
        return float("inf")
    return float("inf") if text == "max" else int(text)


def needed_bytes(compiled: Any) -> int | None:
    """Peak bytes per device of a compiled step: arguments, outputs that reuse none of them, and temporaries. None where the backend does
    not say.
    """
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def waiting_bytes(batch_bytes: int, device: jax.Device) -> int:
    """What is held per device of batches besides the one that the step works on: those of the feed, and on a CPU, where it is the same memory,
    those that the host's input has made or is making too.
    """
    return batch_bytes * (feed.MOST_PLACED + (HOST_BATCHES if device.platform == "cpu" else 0))


def check(compiled: Any, device: jax.Device, batch_size: int, batch_bytes: int = 0) -> int | None:
    """The bytes per device that the step needs (None: the backend does not say); `batch_bytes` are one batch's. Raises UserError where it cannot fit."""
    needed, available = needed_bytes(compiled), device_bytes(device)
    waiting = waiting_bytes(batch_bytes, device)
    if needed is not None and available is not None and needed + waiting > available:
        and_batches = f" and the batches that wait for it {waiting / GIB:.1f} GiB" if waiting / GIB >= 0.05 else ""
        raise UserError(
            f"the compiled step needs {needed / GIB:.1f} GiB per device{and_batches}, and {device.device_kind or device.platform} has "
            f"{available / GIB:.1f} GiB: lower train.batch_size (now {batch_size}), raise train.grad_accumulation "
            "(objective.chunk, where there is one: it takes no negatives away), set model.remat='full' (of a transformer), or spread the state with mesh.fsdp"
        )
    return needed
