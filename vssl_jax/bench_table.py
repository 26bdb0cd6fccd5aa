"""The step on the device at hand, by recipe and by setting: python -m vssl_jax.bench_table

  --results=.results/bench.jsonl  where each figure is kept; what stands there for this kind of device is not timed again
  --only=REGEX                    time only the rows whose names match
  --readme=README.md              writes the table there too, between <!-- bench: begin --> and <!-- bench: end -->
  --debug                         show tracebacks

Each row is `python -m vssl_jax.bench --stage=step` in a process of its own: 5 steps to warm up, then 3 times 20 steps on batches of noise that are on the
device already. The first row of a recipe is what a run does by default; the others change one setting each.
"""

import functools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vssl_jax import cli, table_cli
from vssl_jax.chips import GIB
from vssl_jax.compilations import Compilation, Compilations, last_line
from vssl_jax.errors import UserError

RESULTS = ".results/bench.jsonl"
HEAD = "| step of | clips | ms, median [least, most] | clips/s | TFLOP/s | MFU | peak GiB | compiled in s |"
COUNTS = ("--steps=20", "--warmup=5", "--repeats=3")


@dataclass(frozen=True)
class Row:
    """A recipe with settings; `batch_size` is one of them."""

    name: str
    recipe: str
    batch_size: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def on(self, kind: str) -> Compilation:
        return Compilation(f"configs/{self.recipe}.py", kind, {"train.batch_size": self.batch_size, **self.settings})


ROWS = (
    Row("ViT-B", "videomae_vitb", 128),
    Row("ViT-B: larger batch", "videomae_vitb", 256),
    Row("ViT-B: layers scanned", "videomae_vitb", 128, {"model.unroll": 1}),
    Row("ViT-B: plain attention", "videomae_vitb", 128, {"model.impl": "xla"}),
    Row("ViT-B: remat dots", "videomae_vitb", 128, {"model.remat": "dots"}),
    Row("ViT-B: frames as RGB", "videomae_vitb", 128, {"data.layout": "rgb"}),
    Row("ViT-B: float32", "videomae_vitb", 128, {"model.dtype": "float32"}),
    Row("ViT-L", "videomae_vitl", 64),
    Row("ViT-H", "videomae_vith", 64),
)


def device_kind() -> str:
    """'NVIDIA H200', or '8 x NVIDIA H200'. Asked for in a process that ends: one that holds the device's memory would leave none for the rows."""
    program = "import jax; many = len(jax.devices()); print((f'{many} x ' if many > 1 else '') + jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"jax finds no device here: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1]


def timed(wanted: Compilation) -> dict[str, Any]:
    """bench's figures, or {'error': one line}."""
    return last_line("vssl_jax.bench", wanted, "--stage=step", *COUNTS)


def line(row: Row, found: Mapping[str, Any]) -> str:
    """The row of the table."""
    about = f"| {row.name} | {row.batch_size} | "
    if "error" in found:
        return f"{about}{found['error']} | | | | | |"
    step = {name: f"{1e3 * seconds:.1f}" for name, seconds in found["step_seconds"].items()}
    tflops, mfu = found["tflops"], found["mfu"]
    cells = (
        f"{step['median']} [{step['min']}, {step['max']}]",
        f"{found['clips_per_second']:.0f}",
        "" if tflops is None else f"{tflops:.1f}",
        "" if mfu is None else f"{100 * mfu:.1f} %",
        f"{found['peak_bytes'] / GIB:.1f}" + (" (compiler)" if found["peak_bytes_from"] == "compiler" else ""),
        f"{found['compile_seconds']:.0f}",
    )
    return about + " | ".join(cells) + " |"


def table(results: Compilations) -> str:
    """All that is measured, by kind of device."""
    parts = []
    for kind in results.topologies:
        found = [(row, figures) for row in ROWS if (figures := results.get(row.on(kind))) is not None]
        if not found:
            continue
        versions = {
            ", ".join(f"{name} {version}" for name, version in figures["versions"].items()) for _, figures in found if "versions" in figures
        }
        head = f"**{kind}** ({'; '.join(sorted(versions))})" if versions else f"**{kind}**"
        rows = [line(row, figures) for row, figures in found]
        parts.append("\n".join([head, "", HEAD, "|---|---|---|---|---|---|---|---|", *rows]))
    return "\n\n".join(parts) if parts else "Nothing is measured yet."


KEPT = "the rows that are done are kept: the same command goes on"


def main(argv: Sequence[str]) -> None:
    values = table_cli.parse(argv, __doc__, RESULTS)
    picked, results = table_cli.chosen(values.only, ROWS), Compilations(values.results, timed, keep_errors=False)
    kind = functools.cache(device_kind)
    table_cli.fill(values, "bench", picked, lambda: table(results), lambda row, say: say(line(row, results.measure(row.on(kind())))), KEPT)


if __name__ == "__main__":
    cli.run(main, interrupted=KEPT)
