"""Whole runs as processes of their own: started, watched through metrics.jsonl, killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests import fast_compilation

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "train" / "recipes" / "tiny_recipe.py"
SECONDS = 240  # a watchdog against hangs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Run:
    """`python -m vssl_jax.main` (or another `module`) in `count` processes that share `devices` simulated ones. A context manager: nothing outlives
    it.
    """

    def __init__(
        self,
        workdir: Path,
        cache: Path,
        *overrides: str,
        count: int = 1,
        recipe: Path | str = RECIPE,
        settings: dict[str, str] | None = None,
        module: str = "vssl_jax.main",
        devices: int = 8,
    ):
        self.workdir, self.logs, self.processes = workdir, [], []
        address = f"127.0.0.1:{free_port()}"
        for i in range(count):
            env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM_", "XLA_"))}
            env |= {
                "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // count} {fast_compilation.FLAGS}",
                "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            if count > 1:
                env |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(i)}
                env |= {"JAX_COORDINATOR_BIND_ADDRESS": address}  # JAX's own default listens on every interface
            env |= settings if settings else {}
            log = workdir.with_name(f"{workdir.name}.{time.monotonic_ns()}.{i}.log")
            command = [sys.executable, "-m", module, f"--config={recipe}", f"--workdir={workdir}", *overrides]
            with open(log, "w") as file:
                self.processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT))
            self.logs.append(log)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def output(self) -> str:
        return "\n".join(f"--- process {i}\n{log.read_text()}" for i, log in enumerate(self.logs))

    def wait(self) -> list[int]:
        """The exit codes."""
        end = time.monotonic() + SECONDS
        try:
            return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hangs\n{self.output()}") from None

    def wait_for_step(self, step: int) -> None:
        """Returns once metrics.jsonl holds a line of `step` or later."""
        end = time.monotonic() + SECONDS
        while last_step(self.workdir) < step:
            assert all(p.poll() is None for p in self.processes), f"ended before step {step}\n{self.output()}"
            assert time.monotonic() < end, f"step {step} does not come\n{self.output()}"
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL to every process."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()


def last_step(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0
