"""How fast the compiled step is where nothing holds it up: batches of noise that are on the device already, and no metric read.

The one idea: the program that is timed is the one that a run compiles (train.loop.compile_plan), memory check included; only what feeds it
is other.
"""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from vssl_jax import batch as batch_lib
from vssl_jax import chips, objectives
from vssl_jax.platform import compute_dtype
from vssl_jax.train import sharding
from vssl_jax.train import state as state_lib
from vssl_jax.train.guard import GuardRule
from vssl_jax.train.loop import Plan, Program, compile_plan
from vssl_jax.train.state import TrainState

BATCHES = 2  # of noise, by turns: as in a run, a step's input is not the one before


@dataclasses.dataclass
class Stepper:
    """A compiled run and its state, which every step replaces."""

    plan: Plan
    program: Program
    state: TrainState
    done: int = 0

    def step(self, batch: batch_lib.Batch) -> dict[str, jax.Array]:
        """Starts one step, to be waited for with `wait`, and returns its metrics."""
        turn = state_lib.turn_at(self.plan.objective, self.done)
        self.state, metrics = self.program.steps[turn.name](self.state, batch)
        self.done += 1
        return metrics

    def wait(self) -> None:
        jax.block_until_ready(self.state)


def spread(values: Sequence[float]) -> dict[str, float]:
    """{"median", "min", "max"} of repeats."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spec_of(config: ConfigDict) -> batch_lib.Spec:
    """The batch that the recipe's input makes, without opening its data."""
    data = config.data
    return batch_lib.Spec(
        config.train.batch_size,
        data.sampler.clips,
        data.sampler.frames,
        *data.canvas,
        data.layout,
        groups=bool(data.group),
        flow=bool(data.flow),
    )


def plan_of(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Plan:
    """The recipe's run on `devices` (None: those that are here), without its input."""
    mesh = sharding.make_mesh(config.mesh, devices)
    with jax.set_mesh(mesh):  # which decides what 'auto' is
        objective = objectives.build(config)
    steps = max(1, config.train.steps)
    return Plan(
        objective=objective,
        optimizers=state_lib.build_optimizers(objective, config.optimizer, steps, config.train.batch_size),
        steps=steps,
        batches=lambda start: iter(()),
        batch_shapes=spec_of(config).shapes(),
        mesh=mesh,
        seed=config.seed,
        accumulation=config.train.grad_accumulation,
        guard=GuardRule(**config.guard),
    )


def build(config: ConfigDict) -> Stepper:
    """Compiles the recipe's step and makes a fresh state. Raises UserError where it does not fit the device or the mesh."""
    plan = plan_of(config)
    program = compile_plan(plan)
    with jax.set_mesh(plan.mesh):
        return Stepper(plan, program, program.fresh())


def noise(stepper: Stepper, spec: batch_lib.Spec, classes: int = 2) -> list[batch_lib.Batch]:
    """Batches made where they are used."""
    placed = sharding.batch_sharding(stepper.plan.mesh)
    with jax.set_mesh(stepper.plan.mesh):
        make = jax.jit(lambda rng: batch_lib.fake(spec, rng, classes), out_shardings=placed)
        return [jax.block_until_ready(make(jax.random.key(i))) for i in range(BATCHES)]


def time_steps(stepper: Stepper, batches: Iterator[batch_lib.Batch], steps: int, warmup: int, repeats: int) -> list[float]:
    """Seconds a step, of each repeat of `steps` steps; the device is waited for at the end of a repeat only."""
    seconds = []
    with jax.set_mesh(stepper.plan.mesh):
        for _ in range(warmup):
            stepper.step(next(batches))
        for _ in range(repeats):
            stepper.wait()
            start = time.perf_counter()
            for _ in range(steps):
                stepper.step(next(batches))
            stepper.wait()
            seconds.append((time.perf_counter() - start) / steps)
    return seconds


def peak_bytes(program: Program, device: jax.Device) -> dict[str, Any]:
    """The most memory in use on one device: as measured where the device counts, else as compiled."""
    stats = device.memory_stats()
    measured = stats.get("peak_bytes_in_use") if stats else None
    return {
        "peak_bytes": program.needed_bytes if measured is None else measured,
        "peak_bytes_from": "compiler" if measured is None else "device",
        "compiled_bytes": program.needed_bytes,
    }


def rates(stepper: Stepper, seconds: float) -> dict[str, Any]:
    """Clips per second, model TFLOP/s per device, and the share of the device's peak; None where that or the model's work is unknown."""
    plan, device, devices = stepper.plan, stepper.plan.mesh.devices.flat[0], stepper.plan.mesh.size
    flops, top = stepper.program.flops, chips.peak_flops(device)
    per_device = None if flops is None else flops / seconds / devices
    return {
        "clips_per_second": plan.clips / seconds,
        "tflops": None if per_device is None else per_device / 1e12,
        "mfu": None if per_device is None or top is None else per_device / top,
    }


def measure(config: ConfigDict, steps: int, warmup: int, repeats: int) -> tuple[dict[str, Any], Stepper]:
    """The step's figures, JSON-ready, and the stepper for what follows."""
    stepper = build(config)
    spec = spec_of(config)
    batches = noise(stepper, spec, max(2, config.data.num_classes))
    seconds = time_steps(stepper, by_turns(batches), steps, warmup, repeats)
    device, median = stepper.plan.mesh.local_devices[0], statistics.median(seconds)
    out = {
        "device": device.device_kind, "devices": stepper.plan.mesh.size, "batch_size": spec.batch_size,
        "dtype": _dtype(config, stepper), "steps": steps, "repeats": repeats, "compile_seconds": stepper.program.compile_seconds,
        "step_seconds": spread(seconds),
    }  # fmt: skip
    return out | rates(stepper, median) | peak_bytes(stepper.program, device), stepper


def _dtype(config: ConfigDict, stepper: Stepper) -> str | None:
    """What activations are in: 'auto' as the mesh decides."""
    with jax.set_mesh(stepper.plan.mesh):
        return compute_dtype(config.model.dtype) if "dtype" in config.model else None


def by_turns(batches: list[batch_lib.Batch]) -> Iterator[batch_lib.Batch]:
    """The batches over and over."""
    while True:
        yield from batches
