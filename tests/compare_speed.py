"""Ours against transformers + torch: one VideoMAE ViT-B pretraining step on a CPU, fp32, in one run.

  python -m tests.compare_speed [--rounds=7] [--batch_size=2]

Not a test: a figure, and it needs the extra `parity`. Each side has a process of its own, so that neither's threads are in the other's way; they work by
turns, and a ratio is taken within a round, so that what else the machine does meets both. Three things are timed:

  forward_backward   loss and all gradients from a clip that is normalized already, with the masks given: the same work on both sides
  step               torch: that and fused AdamW. Ours: the step of a run, which also crops, resizes and converts the clip from YUV, draws the masks, and has
                     schedule, weight decay groups and guard
  matmul             a product of two 2048 x 2048 matrices, many times: how far each side's library drives this processor at all. Where the two differ, the
                     ratios of the two lines above are of this machine, and this line says how much of them is the library's

Prints one JSON line; a ratio is torch's seconds over ours: above 1, ours is faster.
"""

import argparse
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
MATRIX, PRODUCTS = 2048, 16


def _pixels_and_mask(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalized clips float32 [B,T,H,W,3] and tube masks bool [B,N]."""
    rng = np.random.default_rng(0)
    tube_BxHW = np.stack([rng.permutation(TOKENS // 8) < MASKED // 8 for _ in range(batch_size)])
    return rng.standard_normal((batch_size, FRAMES, SIZE, SIZE, 3), np.float32), np.tile(tube_BxHW, (1, 8))


def torch_side(batch_size: int) -> dict[str, Callable[[], float]]:
    """{kind: run it once and return the loss}."""
    import torch

    torch_operators.declare()
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.manual_seed(0)
    model = VideoMAEForPreTraining(VideoMAEConfig()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    pixels, mask = _pixels_and_mask(batch_size)
    pixels, mask = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 1, 4, 2, 3))), torch.from_numpy(mask)

    def forward_backward() -> float:
        model.zero_grad(set_to_none=True)
        loss = model(pixels, bool_masked_pos=mask).loss
        loss.backward()
        return loss.item()

    def step() -> float:
        loss = forward_backward()
        optimizer.step()
        return loss

    return {"forward_backward": forward_backward, "step": step, "matmul": torch_matmul()}


def torch_matmul() -> Callable[[], float]:
    import torch

    left, right = torch.randn(2, MATRIX, MATRIX)

    def matmul() -> float:
        for _ in range(PRODUCTS):
            product = left @ right
        return product[0, 0].item()

    return matmul


def our_side(batch_size: int) -> dict[str, Callable[[], float]]:
    """As `torch_side`."""
    import jax
    import jax.numpy as jnp

    from configs import videomae_vitb
    from vssl_jax import bench_step
    from vssl_jax.models.vit import patchify, take_tokens
    from vssl_jax.objectives.videomae import pixel_target
    from vssl_jax.perturb.view import denormalize

    config = videomae_vitb.get_config()
    config.train.batch_size, config.model.dtype = batch_size, "float32"
    stepper = bench_step.build(config)
    batches = bench_step.by_turns(bench_step.noise(stepper, bench_step.spec_of(config)))
    objective = stepper.plan.objective
    clips, mask = _pixels_and_mask(batch_size)
    visible, masked = (np.stack([np.flatnonzero(row) for row in rows]) for rows in (~mask, mask))

    @jax.jit
    @jax.value_and_grad
    def gradients(params, clips):
        prediction = objective.predict(params, clips, visible, masked)
        unit = denormalize(clips, objective.view.mean, objective.view.std)
        return jnp.mean((prediction - pixel_target(take_tokens(patchify(unit, objective.encoder.tubelet), masked))) ** 2)

    def forward_backward() -> float:
        loss, _ = jax.block_until_ready(gradients(stepper.state.params, clips))
        return float(loss)

    def step() -> float:
        metrics = stepper.step(next(batches))
        stepper.wait()
        return float(metrics["loss"])

    return {"forward_backward": forward_backward, "step": step, "matmul": our_matmul()}


def our_matmul() -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    left, right = jax.random.normal(jax.random.key(0), (2, MATRIX, MATRIX))
    multiply = jax.jit(jnp.matmul)

    def matmul() -> float:
        for _ in range(PRODUCTS):
            product = jax.block_until_ready(multiply(left, right))
        return float(product[0, 0])

    return matmul


SIDES = {"torch": torch_side, "ours": our_side}


def serve(side: Callable[[int], dict[str, Callable[[], float]]], batch_size: int) -> None:
    """The process of one side: a line names what to run, the answer has its seconds and loss."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    runs = side(batch_size)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = runs[line.strip()]()
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": loss}), file=answers, flush=True)


class Side:
    """A side's process, seen from the one that compares: `python -m MODULE --serve=NAME ...`."""

    def __init__(self, module: str, name: str, batch_size: int):
        command = [sys.executable, "-m", module, f"--serve={name}", f"--batch_size={batch_size}"]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
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


def compare(module: str, kinds: Sequence[str], rounds: int, batch_size: int) -> dict:
    """Runs both sides of a module `rounds` times by turns, after two rounds that are not counted."""
    sides = {name: Side(module, name, batch_size) for name in SIDES}
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


def report(about: dict, module: str, kinds: Sequence[str], rounds: int, batch_size: int, packages: Sequence[str]) -> None:
    """Compares, and prints the JSON line."""
    load = os.getloadavg()
    figures = compare(module, kinds, rounds, batch_size)
    versions = {name: metadata.version(name) for name in packages} | {"python": platform.python_version()}
    about = about | {"batch_size": batch_size, "dtype": "float32", "rounds": rounds, "cpus": os.cpu_count()}
    print(json.dumps(about | figures | {"load_before": load, "load_after": os.getloadavg(), "versions": versions}))


def arguments(doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments(__doc__)
    if args.serve:
        serve(SIDES[args.serve], args.batch_size)
        return
    packages = ("jax", "jaxlib", "flax", "torch", "transformers")
    report({"model": "VideoMAE ViT-B"}, "tests.compare_speed", KINDS, args.rounds, args.batch_size, packages)


if __name__ == "__main__":
    main()
