"""Ours against transformers + torch: one VideoMAE ViT-B pretraining step, in one run. On a CPU in fp32, on a GPU in bf16.

  python -m tests.compare_speed [--device=cpu|gpu] [--rounds=7] [--batch_size=2]

Not a test: a figure, and it needs the extra `parity`. Each side has a process of its own, so that neither's threads are in the other's way; they work by
turns, and a ratio is taken within a round, so that what else the machine does meets both. Each does a thing twice at its turn, and the second time counts:
a step of a training follows another, while after seconds of rest a virtual machine may have given away the memory that is free. Three things are timed:

  forward_backward   loss and all gradients from a clip that is normalized already, with the masks given: the same work on both sides
  step               torch: that and fused AdamW. Ours: the step of a run, which also crops, resizes and converts the clip from YUV, draws the masks, and has
                     schedule, weight decay groups and guard
  matmul             a product of two 2048 x 2048 matrices, many times: how far each side's library drives this processor at all. Where the two differ, the
                     ratios of the two lines above are of this machine, and this line says how much of them is the library's

On a GPU torch has torch.compile, scaled_dot_product_attention and autocast to bfloat16, the products' matrices are 8192 x 8192 in bfloat16, each thing
is done 10 times a round before the device is waited for, and --batch_size=128 is a size that fills it.

Prints one JSON line; a ratio is torch's seconds over ours: above 1, ours is faster.
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from tests.interop import torch_operators

ROOT = Path(__file__).parents[1]
KINDS = ("forward_backward", "step", "matmul")
FRAMES, SIZE, TOKENS, MASKED = 16, 224, 1568, 1408


@dataclasses.dataclass(frozen=True)
class Setting:
    """What differs by device: the compute dtype, the side of the matrices of `matmul`, how many products and how often anything is done a round."""

    dtype: str
    matrix: int
    products: int
    times: int


SETTINGS = {"cpu": Setting("float32", 2048, 16, 1), "gpu": Setting("bfloat16", 8192, 10, 10)}


def _pixels_and_mask(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalized clips float32 [B,T,H,W,3] and tube masks bool [B,N]."""
    rng = np.random.default_rng(0)
    tube_BxHW = np.stack([rng.permutation(TOKENS // 8) < MASKED // 8 for _ in range(batch_size)])
    return rng.standard_normal((batch_size, FRAMES, SIZE, SIZE, 3), np.float32), np.tile(tube_BxHW, (1, 8))


def torch_side(batch_size: int, device: str) -> dict[str, Callable[[], float]]:
    """{kind: do it as often as a round asks for, and return the loss}."""
    import torch

    torch_operators.declare()
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    setting, place = SETTINGS[device], "cuda" if device == "gpu" else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = VideoMAEForPreTraining(VideoMAEConfig(attn_implementation="sdpa")).train().to(place)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    forward = torch.compile(model) if device == "gpu" else model
    pixels, mask = _pixels_and_mask(batch_size)
    pixels, mask = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 1, 4, 2, 3))).to(place), torch.from_numpy(mask).to(place)

    def gradients() -> "torch.Tensor":
        model.zero_grad(set_to_none=True)
        with torch.autocast(place, torch.bfloat16, enabled=setting.dtype == "bfloat16"):
            loss = forward(pixels, bool_masked_pos=mask).loss
        loss.backward()
        return loss

    def forward_backward() -> float:
        for _ in range(setting.times):
            loss = gradients()
        return loss.item()

    def step() -> float:
        for _ in range(setting.times):
            loss = gradients()
            optimizer.step()
        return loss.item()

    return {"forward_backward": forward_backward, "step": step, "matmul": torch_matmul(device)}


def torch_matmul(device: str = "cpu") -> Callable[[], float]:
    import torch

    setting, place = SETTINGS[device], "cuda" if device == "gpu" else "cpu"
    left, right = torch.randn(2, setting.matrix, setting.matrix, device=place, dtype=getattr(torch, setting.dtype))

    def matmul() -> float:
        for _ in range(setting.products):
            product = left @ right
        return product[0, 0].item()

    return matmul


def our_side(batch_size: int, device: str) -> dict[str, Callable[[], float]]:
    """As `torch_side`."""
    import jax
    import jax.numpy as jnp

    from configs import videomae_vitb
    from vssl_jax import bench_step
    from vssl_jax.models.vit import patchify, take_tokens
    from vssl_jax.objectives.videomae import pixel_target
    from vssl_jax.perturb.view import denormalize
    from vssl_jax.train.loop import COMPILER_OPTIONS

    setting = SETTINGS[device]
    config = videomae_vitb.get_config()
    config.train.batch_size, config.model.dtype = batch_size, setting.dtype
    stepper = bench_step.build(config)
    batches = bench_step.by_turns(bench_step.noise(stepper, bench_step.spec_of(config)))
    objective = stepper.plan.objective
    clips, mask = _pixels_and_mask(batch_size)
    visible, masked = (np.stack([np.flatnonzero(row) for row in rows]) for rows in (~mask, mask))
    clips, visible, masked = (jnp.asarray(x) for x in (clips, visible, masked))

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS.get(device))
    @jax.value_and_grad
    def gradients(params, clips, visible, masked):
        prediction = objective.predict(params, clips, visible, masked)
        unit = denormalize(clips, objective.view.mean, objective.view.std)
        target = pixel_target(take_tokens(patchify(unit, objective.encoder.tubelet), masked))
        return jnp.mean((prediction.astype(jnp.float32) - target) ** 2)

    def forward_backward() -> float:
        for _ in range(setting.times):
            out = gradients(stepper.state.params, clips, visible, masked)
        return float(jax.block_until_ready(out)[0])

    def step() -> float:
        for _ in range(setting.times):
            metrics = stepper.step(next(batches))
        stepper.wait()
        return float(metrics["loss"])

    return {"forward_backward": forward_backward, "step": step, "matmul": our_matmul(device)}


def our_matmul(device: str = "cpu") -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    setting = SETTINGS[device]
    left, right = jax.random.normal(jax.random.key(0), (2, setting.matrix, setting.matrix), setting.dtype)
    multiply = jax.jit(jnp.matmul)

    def matmul() -> float:
        for _ in range(setting.products):
            product = multiply(left, right)
            if device == "cpu":
                product.block_until_ready()
        return float(product[0, 0])

    return matmul


SIDES = {"torch": torch_side, "ours": our_side}


def serve(side: Callable[[], dict[str, Callable[[], float]]]) -> None:
    """The process of one side: a line names what to run, the answer has the seconds and loss of the second of two runs."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    runs = side()
    for line in sys.stdin:
        run = runs[line.strip()]
        run()
        wall, cpu = time.perf_counter(), time.process_time()
        loss = run()
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": loss}), file=answers, flush=True)


class Side:
    """A side's process, seen from the one that compares: `python -m MODULE --serve=NAME ...`."""

    def __init__(self, module: str, name: str, batch_size: int, device: str):
        command = [sys.executable, "-m", module, f"--serve={name}", f"--batch_size={batch_size}", f"--device={device}"]
        # Both sides are on the one GPU: neither may take all of its memory.
        environment = os.environ | (
            {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        )
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, kind: str) -> dict[str, float]:
        print(kind, file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise SystemExit(f"the process {self.process.args} ended with {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def spread(values: list[float]) -> dict[str, float]:
    return {name: round(f(values), 3) for name, f in {"median": statistics.median, "min": min, "max": max}.items()}


def compare(module: str, kinds: Sequence[str], rounds: int, batch_size: int, device: str) -> dict:
    """Runs both sides of a module `rounds` times by turns, after two rounds that are not counted."""
    sides = {name: Side(module, name, batch_size, device) for name in SIDES}
    runs = {kind: {name: [] for name in sides} for kind in kinds}
    try:
        for number in range(-2, rounds):
            for kind in kinds:
                for name in list(sides)[:: 1 if number % 2 else -1]:
                    answer = sides[name].run(kind)
                    if not np.isfinite(answer["loss"]):
                        raise SystemExit(f"the loss of {name} is {answer['loss']}")
                    if number >= 0:
                        runs[kind][name].append(answer)
    finally:
        for side in sides.values():
            side.close()
    out = {}
    for kind, found in runs.items():
        seconds = {clock: {name: [run[clock] for run in found[name]] for name in found} for clock in ("wall", "cpu")}
        out[kind] = {f"{name}_{clock}_seconds": spread(values) for clock, both in seconds.items() for name, values in both.items()}
        for clock, both in seconds.items():
            out[kind][f"{clock}_ratio"] = spread([t / o for t, o in zip(both["torch"], both["ours"], strict=True)])
    return out


def report(about: dict, module: str, kinds: Sequence[str], args: argparse.Namespace, packages: Sequence[str]) -> None:
    """Compares, and prints the JSON line."""
    load = os.getloadavg()
    figures = compare(module, kinds, args.rounds, args.batch_size, args.device)
    versions = {name: metadata.version(name) for name in packages} | {"python": platform.python_version()}
    about = about | {
        "device": args.device,
        "batch_size": args.batch_size,
        "dtype": SETTINGS[args.device].dtype,
        "rounds": args.rounds,
        "cpus": os.cpu_count(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
    }
    print(json.dumps(about | figures | {"load_before": load, "load_after": os.getloadavg(), "versions": versions}))


def arguments(doc: str, devices: Sequence[str] = ("cpu",)) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments(__doc__, tuple(SETTINGS))
    if args.serve:
        serve(lambda: SIDES[args.serve](args.batch_size, args.device))
        return
    packages = ("jax", "jaxlib", "flax", "torch", "transformers")
    report({"model": "VideoMAE ViT-B"}, "tests.compare_speed", KINDS, args, packages)


if __name__ == "__main__":
    main()
