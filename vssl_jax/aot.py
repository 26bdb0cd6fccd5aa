"""Compile a recipe's step for a TPU slice that is not here: python -m vssl_jax.aot --config=configs/videomae_vitb.py --topology=v5e:16x16

  --topology=CHIP:SHAPE     v4:2x2x4, v5e:16x16, v5p:4x4x4, v6e:8x8 ... (chips along each axis of the slice); or local:8, by this machine's
                            own compiler for 8 simulated devices, whose figures are without capacity and times
  --config.KEY=VALUE        any setting, e.g. --config.mesh.data=1 --config.mesh.fsdp=-1 or --config.model.remat=full
  --json                    one JSON line instead of the table

Of one chip: bytes of memory against what it has, FLOPs a step, collectives and their bytes, the least time of a step (its roofline). It runs on any
CPU, with the TPU's own compiler (pip install ".[tpu]"). Exit code 0: it fits; 1: it does not, or something is wrong, and one line says what.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags as absl_flags
from ml_collections import ConfigDict

from vssl_jax import bench_step, chips, cli
from vssl_jax.bench import recipe_name
from vssl_jax.compiled import account as account_lib
from vssl_jax.compiled import roofline as roofline_lib
from vssl_jax.errors import UserError
from vssl_jax.models import transformer
from vssl_jax.train import feed, fit
from vssl_jax.train.loop import Plan, lower_plan

# libtpu asks these at its start; without them it looks for the machine that it is not on, and says so at length. It only compiles here, which
# several processes may do at once.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# What the compiler says of a program that it cannot place, in either of two stages: of its temporaries, or of the whole.
_TEMPORARIES = re.compile(r"HLO temporaries \(([\d.]+)([KMGT])\) exceeds available HBM")
_WHOLE = re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def topology(name: str) -> Sequence[jax.Device]:
    """The devices of 'v5e:4x4', or of 'local:8'. Raises UserError where there is no such slice, or no TPU compiler."""
    if found := re.fullmatch(r"local:([1-9]\d*)", name):
        return _simulated(int(found.group(1)))
    if not re.fullmatch(r"v\d+[a-z]*:\d+(x\d+){1,2}", name):
        raise UserError(f"--topology={name}: give a chip and the shape of a slice, e.g. v5e:4x4 or v5p:2x2x4")
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    try:
        options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}  # its two cores are one device, as in a run
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except Exception as error:  # of many kinds: libtpu's own errors, or its absence
        text = " ".join(str(error).split())
        if "not installed" in text:
            raise UserError("no TPU compiler here: pip install '.[tpu]'") from error
        raise UserError(f"--topology={name} is no slice of that chip ({text[:200]})") from error


def _simulated(count: int) -> Sequence[jax.Device]:
    jax.config.update("jax_platforms", "cpu")
    with contextlib.suppress(RuntimeError):  # jax has started already, with as many as it has
        jax.config.update("jax_num_cpu_devices", count)
    if len(jax.devices()) < count:
        raise UserError(f"--topology=local:{count}: there are {len(jax.devices())} devices here")
    return jax.devices()[:count]


def _compile(lowered: jax.stages.Lowered, arguments: int) -> jax.stages.Compiled | int:
    """The program, or the bytes that it would need where the compiler finds that it cannot fit the chip; `arguments` are the step's."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        for pattern, besides in ((_TEMPORARIES, arguments), (_WHOLE, 0)):
            if found := pattern.search(str(error)):
                return int(float(found.group(1)) * _UNITS[found.group(2)]) + besides
        raise


def _of_turn(compiled: jax.stages.Compiled, plan: Plan, chip: chips.Chip | None, waiting: int) -> dict[str, Any]:
    """The figures of one turn's program, JSON-ready; without a chip, those that need none."""
    devices = plan.mesh.size
    memory = compiled.memory_analysis()
    text = compiled.as_text()
    counted = account_lib.read(text, devices)
    needed = fit.needed_bytes(compiled)
    return {
        "fits": chip is None or needed + waiting <= chip.memory,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": needed,
        "flops": counted.flops,
        "kernel_flops": counted.kernel_flops,
        "traffic_bytes": counted.traffic_bytes,
        "touched_bytes": account_lib.touched_bytes(text, devices),
        "collectives": [
            {"kind": c.kind, "group": c.group, "count": c.count, "bytes": c.bytes, "sent_bytes": c.sent_bytes} for c in counted.collectives
        ],
        "uncounted": sorted(counted.uncounted),
        "open_ended": sorted(counted.open_ended),
        **({} if chip is None else _times(roofline_lib.roofline(counted, chip, devices), plan.clips)),
    }


def _times(least: roofline_lib.Roofline, clips: int) -> dict[str, Any]:
    return {
        "seconds": {"compute": least.compute, "memory": least.memory, "links": least.links, "step": least.seconds},
        "bound": least.bound,
        "communication_to_compute": least.communication,
        "clips_per_second": clips / least.seconds,
    }


def measure(config: ConfigDict, name: str) -> dict[str, Any]:
    """The figures of a recipe on the slice `name`, JSON-ready; "turns" has one entry per turn of the objective."""
    devices = topology(name)
    local = name.startswith("local:")
    chip = None if local else chips.chip(devices[0])
    if not local and (chip is None or not chip.memory):
        raise UserError(f"--topology={name}: nothing is known of {devices[0].device_kind} (see vssl_jax/chips.py)")
    plan = bench_step.plan_of(config, devices)
    start = time.monotonic()
    lowered = lower_plan(plan)
    waiting = lowered.batch_bytes * feed.MOST_PLACED
    turns: dict[str, dict[str, Any]] = {}
    with jax.set_mesh(plan.mesh):
        for turn, step in lowered.steps.items():
            compiled = _compile(step, lowered.batch_bytes + lowered.state_bytes)
            refused = isinstance(compiled, int)
            turns[turn] = {"fits": False, "peak_bytes": compiled} if refused else _of_turn(compiled, plan, chip, waiting)
        asked = getattr(getattr(plan.objective, "encoder", None), "remat", None)  # None: no blocks
        remat = asked and transformer.chosen_remat(asked)
        model = plan.objective.flops(plan.clips)
    return {
        "topology": name,
        "chip": devices[0].device_kind,
        "chips": plan.mesh.size,
        "mesh": dict(plan.mesh.shape),
        "batch_size": config.train.batch_size,
        "grad_accumulation": config.train.grad_accumulation,
        "remat": remat,
        "capacity_bytes": None if chip is None else chip.memory,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(lowered.state_shapes.params)),
        "state_bytes": lowered.state_bytes,
        "batch_bytes": lowered.batch_bytes,
        "waiting_bytes": waiting,
        "model_flops": None if model is None else model / plan.mesh.size,
        "turns": turns,
        "fits": all(turn["fits"] for turn in turns.values()),
        "compile_seconds": time.monotonic() - start,
        "versions": {"jax": jax.__version__} | ({} if local else {"libtpu": _libtpu()}),
    }


def _libtpu() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None


def _size(count: float) -> str:
    return f"{count / fit.GIB:.2f} GiB" if count >= 0.01 * fit.GIB else f"{count / 2**20:.2f} MiB"


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """The figures for a person, of one chip."""
    mesh = " x ".join(f"{axis}={size}" for axis, size in found["mesh"].items())
    out = [
        f"{name} on {found['chips']} x {found['chip']} ({found['topology']}), mesh {mesh}",
        f"batch {found['batch_size']} in {found['grad_accumulation']} micro-batches, remat {found['remat']}; figures of one chip and one step",
    ]
    for turn, figures in found["turns"].items():
        if len(found["turns"]) > 1:
            out.append(f"turn {turn}")
        rows = [("memory", _memory(figures, found))]
        if "flops" in figures:
            work = f"{figures['flops'] / 1e12:.3g} TFLOP"
            if found["model_flops"]:
                work += f", {figures['flops'] / found['model_flops']:.2f} x the model's own"
            if figures["uncounted"]:
                work += f", without {', '.join(figures['uncounted'])}"
            rows += [
                ("  arguments", _size(figures["argument_bytes"])),
                ("  temporaries", _size(figures["temporary_bytes"])),
                ("matrix products", work),
                *(("  once only, a loop", name) for name in figures["open_ended"]),
                ("memory traffic", _size(figures["traffic_bytes"])),
                *(
                    (f"{c['count']} {c['kind']} of {c['group']}", f"{_size(c['bytes'])}, {_size(c['sent_bytes'])} sent")
                    for c in figures["collectives"]
                ),
            ]
        if "seconds" in figures:
            seconds = figures["seconds"]
            rows += [
                ("communication", f"{figures['communication_to_compute']:.3f} of the compute time"),
                ("least step time", f"{1e3 * seconds['step']:.3g} ms, bound by {figures['bound']} (" + _parts(seconds) + ")"),
                ("at most", f"{figures['clips_per_second']:.0f} clips/s on the slice"),
            ]
        width = max(len(label) for label, _ in rows)
        out += [f"  {label:<{width}}  {text}" for label, text in rows]
    return out


def _memory(figures: dict[str, Any], found: dict[str, Any]) -> str:
    needed = f"{_size(figures['peak_bytes'])} + {_size(found['waiting_bytes'])} of batches that wait"
    if found["capacity_bytes"] is None:
        return needed
    return f"{needed} of {_size(found['capacity_bytes'])}: " + ("fits" if figures["fits"] else "DOES NOT FIT")


def _parts(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {1e3 * seconds[name]:.3g}" for name in ("compute", "memory", "links"))


def _define(values: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string("topology", None, "See the usage.", flag_values=values)
    absl_flags.DEFINE_bool("json", False, "See the usage.", flag_values=values)


def main(argv: list[str]) -> None:
    config, flags = cli.parse(argv, __doc__, _define)
    if not flags.topology:
        raise UserError("no slice: give --topology=CHIP:SHAPE, e.g. --topology=v5e:4x4")
    jax.config.update("jax_enable_compilation_cache", False)  # such programs can be written to it, not read back
    name = recipe_name(argv)
    found = measure(config, flags.topology)
    print(json.dumps({"config": name, **found}) if flags.json else "\n".join(lines(name, found)), flush=True)
    if not found["fits"]:
        need = max(turn["peak_bytes"] for turn in found["turns"].values()) + found["waiting_bytes"]
        raise UserError(
            f"{_size(need)} a chip, and it has {_size(found['capacity_bytes'])}: take more chips, a smaller train.batch_size, a larger "
            "train.grad_accumulation, model.remat='full' (of a transformer), or spread the state with mesh.fsdp"
        )


if __name__ == "__main__":
    cli.run(main)
