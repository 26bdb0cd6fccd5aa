"""Steps compiled for slices that are not here (vssl_jax.aot) or timed on the device that is (vssl_jax.bench), each in a process of its own, and
what they gave: one JSON line each, kept.

The one idea: a line is found again by the recipe as it stands, the slice and the settings. A command that needs many of them is started
again and does only what is missing; a recipe that changes is compiled anew, and its old lines stay in the file, unread.
"""

import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vssl_jax import cli
from vssl_jax import config as config_lib
from vssl_jax.errors import UserError

RESULTS = ".results/aot.jsonl"
SECONDS = 3600  # after which a compilation is given up
# What a step's program depends on; the rest of a recipe is about its data, its files and its evaluation.
_KEYS = ("model", "objective", "optimizer", "mesh", "guard")
_OTHERS = {"data": ("sampler", "canvas", "layout"), "train": ("batch_size", "grad_accumulation")}


@dataclass(frozen=True)
class Compilation:
    """`recipe` is FILE[:variant]; `topology` the slice, or for a step that is timed the kind of device; `settings` are {'model.remat': 'dots', ...}."""

    recipe: str
    topology: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def overrides(self) -> list[str]:
        return [f"--config.{key}={value}" for key, value in self.settings.items()]

    def config(self) -> ConfigDict:
        """The recipe with the settings. Raises UserError where it is no recipe, or has no such setting."""
        return _config(self.recipe, *self.overrides)

    @functools.cached_property
    def key(self) -> tuple[str, str, str]:
        """What a line is found by."""
        # What is said otherwise than by default: a setting that comes later leaves what was compiled.
        config, defaults = config_lib.to_dict(self.config()), config_lib.to_dict(config_lib.base())
        shape = [config_lib.told(config[key], defaults[key]) for key in _KEYS] + [
            config[room][key] for room, keys in _OTHERS.items() for key in keys
        ]
        digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.recipe).name, self.topology, digest


@functools.cache
def _config(recipe: str, *overrides: str) -> ConfigDict:
    return cli.parse([f"--config={recipe}", *overrides], "")[0]


def in_a_process(wanted: Compilation) -> dict[str, Any]:
    """aot's figures, or {'error': one line} where there is no program to read."""
    return last_line("vssl_jax.aot", wanted, f"--topology={wanted.topology}", "--json", environment={"JAX_PLATFORMS": "cpu"})


def last_line(module: str, wanted: Compilation, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON that a command prints last about the recipe and its settings, or {'error': its one line}."""
    command = [sys.executable, "-m", module, f"--config={wanted.recipe}", *arguments, *wanted.overrides]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=os.environ | dict(environment or {}))
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {SECONDS // 60} minutes"}
    lines = done.stdout.splitlines()
    if lines and lines[-1].startswith("{"):
        return json.loads(lines[-1])
    said = [line for line in done.stderr.splitlines() if line.strip()] or [f"ended with {done.returncode} and said nothing"]
    return {"error": said[-1].removeprefix("error: ")[:300]}


def check_compiler() -> None:
    """Raises UserError where the TPU's compiler is not installed: no compilation could say anything else."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("no TPU compiler here: pip install '.[tpu]'")


class Compilations:
    """The file of results. `compile_` makes what is missing in it; without `keep_errors` one that fails is not written there."""

    def __init__(self, path: str | Path, compile_: Callable[[Compilation], dict[str, Any]] = in_a_process, keep_errors: bool = True):
        self.path, self._compile, self._keep_errors, self._found = Path(path), compile_, keep_errors, {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                self._found[row["recipe"], row["topology"], row["digest"]] = row["found"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path}, line {number}, is no result: mend or delete it") from error

    @property
    def topologies(self) -> list[str]:
        """What there are results for."""
        return sorted({topology for _, topology, _ in self._found})

    def get(self, wanted: Compilation) -> dict[str, Any] | None:
        """What it gave, if it is done."""
        return self._found.get(wanted.key)

    def measure(self, wanted: Compilation) -> dict[str, Any]:
        """What it gives, compiled now if it is not done."""
        if (found := self.get(wanted)) is not None:
            return found
        start = time.monotonic()
        found = self._compile(wanted)
        self._found[wanted.key] = found
        if "error" in found and not self._keep_errors:
            return found
        recipe, topology, digest = wanted.key
        row = {"recipe": recipe, "topology": topology, "settings": dict(wanted.settings), "digest": digest, "found": found}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps(row | {"seconds": round(time.monotonic() - start, 1)}) + "\n")
        return found


def needed(found: Mapping[str, Any]) -> int:
    """Bytes of one chip: the turn that needs the most, and the batches that wait."""
    return max(turn["peak_bytes"] for turn in found["turns"].values()) + found["waiting_bytes"]
