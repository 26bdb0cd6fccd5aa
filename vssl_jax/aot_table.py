"""The main recipes x TPU kinds x pod sizes, compiled and read: python -m vssl_jax.aot_table

  --results=.results/aot.jsonl    where each compilation is kept; what stands there is not compiled again
  --only=REGEX                    compile only the cells whose name matches, e.g. 'videomae_vitb/v5e' (names are RECIPE/CHIP/CHIPS)
  --readme=README.md              writes the table there too, between <!-- aot: begin --> and <!-- aot: end -->
  --debug                         show tracebacks

The table says what a user has to set for a recipe on a pod. The batch is the recipe's, whatever the pod. Settings are tried in this order, and
the first that fit the chip are taken:

  1) mesh.fsdp: 1, 16, 64              the state on every chip, or in parts: each micro-batch then gathers the weights twice and scatters the
                                       gradients, where it would reduce them once
  2) model.remat: dots, full           blocks keep the results of their matrix products, or nothing
  3) train.grad_accumulation: 1, 2, 4 ...   while a micro-batch has 4 clips a chip or more; every micro-batch reduces the gradients

remat=none is not among them: what a block keeps is written to memory and read again, which takes about as long as making it anew (least times of a
step with none and with dots, in ms, on 256 chips: ViT-S v4 1.93 and 1.68; ViT-B v5e 14.7 and 13.7, v5p 6.48 and 6.63; ViT-L v6e 13.1 and 11.9; ViT-H
v5p 23.8 and 23.1), and it needs more memory: 1.1 to 1.3 times as much on these, up to twice where the batch fills a chip. Where a batch has fewer
rows than the pod has chips, chips share rows by mesh.model. Settings that cannot fit are
not compiled: by what the same settings with fewer micro-batches were found to need, or by the state alone.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from vssl_jax import cli, table_cli
from vssl_jax.chips import GIB
from vssl_jax.compilations import RESULTS, Compilation, Compilations, check_compiler, needed

RECIPES = ("videomae_vits", "videomae_vitb", "videomae_vitl", "videomae_vith", "videomae_vitg", "finetune_vitb", "finetune_vitl")
SLICES = {  # the shapes of 16 and of 256 chips
    "v4": ("2x2x4", "4x8x8"),
    "v5e": ("4x4", "16x16"),
    "v5p": ("2x2x4", "4x8x8"),
    "v6e": ("4x4", "16x16"),
}
FSDP = (1, 16, 64)
REMAT = ("dots", "full")
LEAST_CLIPS = 4  # of a chip's micro-batch: with fewer, moving weights and gradients is most of the work
# A program is compiled that could fit by this share of what another one's figures foretell: the compiler squeezes what is tight.
SQUEEZE = 0.85

Found = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A recipe on a slice."""

    recipe: str
    kind: str
    shape: str

    @property
    def chips(self) -> int:
        return math.prod(int(side) for side in self.shape.split("x"))

    @property
    def name(self) -> str:
        return f"{self.recipe}/{self.kind}/{self.chips}"


@dataclass(frozen=True)
class Rung:
    """Settings of the ladder; `model` chips share rows."""

    fsdp: int
    remat: str
    accumulation: int
    model: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "mesh.fsdp": self.fsdp,
            "mesh.model": self.model,
            "model.remat": self.remat,
            "train.grad_accumulation": self.accumulation,
        }

    def __str__(self) -> str:
        parts = [f"fsdp {self.fsdp}"] * (self.fsdp > 1) + [f"model {self.model}"] * (self.model > 1)
        return ", ".join([*parts, self.remat]) + (f", x{self.accumulation}" if self.accumulation > 1 else "")


def cells() -> list[Cell]:
    return [Cell(recipe, kind, shape) for recipe in RECIPES for kind, shapes in SLICES.items() for shape in shapes]


def path(recipe: str) -> str:
    return f"configs/{recipe}.py"


def ladder(config: ConfigDict, chips: int) -> list[Rung]:
    """What is tried on `chips` chips, in this order."""
    rows = config.train.batch_size
    shards = math.gcd(rows, chips)
    share, clips = rows // shards, config.data.sampler.clips
    counts = [n for n in (2**i for i in range(share.bit_length())) if share % n == 0 and (n == 1 or clips * share // n >= LEAST_CLIPS)]
    return [Rung(f, remat, n, chips // shards) for f in FSDP if shards % f == 0 for remat in REMAT for n in counts]


def least_bytes(rung: Rung, tried: Sequence[tuple[Rung, Found]]) -> float:
    """What a rung needs at the least, by those that were compiled."""
    bounds = [0.0]
    for other, found in tried:
        if "error" in found:
            continue
        fixed = found["state_bytes"] * other.fsdp / rung.fsdp if rung.fsdp > other.fsdp else found["state_bytes"]
        fixed += found["batch_bytes"] + found["waiting_bytes"]
        bounds.append(fixed if rung.fsdp >= other.fsdp else 0.0)
        if (rung.fsdp, rung.remat) == (other.fsdp, other.remat) and rung.accumulation > other.accumulation:
            bounds.append(fixed + SQUEEZE * (needed(found) - fixed) * other.accumulation / rung.accumulation)
    return max(bounds)


def climb(rungs: Sequence[Rung], measure: Callable[[Rung], Found | None]) -> list[tuple[Rung, Found]] | None:
    """What was compiled, the first that fits last (where one does). None where `measure` lacks one that is needed."""
    tried: list[tuple[Rung, Found]] = []
    for rung in rungs:
        capacity = next((found["capacity_bytes"] for _, found in tried if "error" not in found), math.inf)
        if least_bytes(rung, tried) > capacity:
            continue
        found = measure(rung)
        if found is None:
            return None
        tried.append((rung, found))
        if found.get("fits"):
            break
    return tried


@functools.cache
def _rungs(recipe: str, chips: int) -> list[Rung]:
    return ladder(Compilation(path(recipe), "").config(), chips)


def wanted(cell: Cell, rung: Rung) -> Compilation:
    return Compilation(path(cell.recipe), f"{cell.kind}:{cell.shape}", rung.settings)


def fill(cell: Cell, results: Compilations, say: Callable[[str], None]) -> None:
    """Compiles what the cell lacks."""

    def measure(rung: Rung) -> Found:
        compilation = wanted(cell, rung)
        if (found := results.get(compilation)) is None:
            found = results.measure(compilation)
            say(f"{cell.name}, {rung}: " + ("; ".join(_cells(rung, found)[1:4]) if "error" not in found else found["error"]))
        return found

    climb(_rungs(cell.recipe, cell.chips), measure)


def of_cell(cell: Cell, results: Compilations) -> list[tuple[Rung, Found]] | None:
    """What stands in the results of a cell; None where it is not done."""
    return climb(_rungs(cell.recipe, cell.chips), lambda rung: results.get(wanted(cell, rung)))


def _cells(rung: Rung, found: Found) -> list[str]:
    """settings | GiB | least time of a step, and its bound | communication to compute | clips/s."""
    (step,) = found["turns"].values()
    memory = f"{needed(found) / GIB:.1f} of {found['capacity_bytes'] / GIB:.1f}"
    if not found["fits"]:
        return [f"none fits: {rung}", memory, "", "", ""]
    seconds = step["seconds"]["step"]
    rate = step["clips_per_second"]
    return [
        str(rung),
        memory,
        f"{1e3 * seconds:.3g} {step['bound']}",
        f"{step['communication_to_compute']:.2f}",
        f"{float(f'{rate:.3g}'):,.0f}",
    ]


def _of_size(cell: Cell, results: Compilations) -> list[str]:
    tried = of_cell(cell, results)
    if tried is None:
        return ["not compiled yet", "", "", "", ""]
    compiled = [(rung, found) for rung, found in tried if "error" not in found]
    if compiled:  # the one that fits, or else the one that comes nearest
        return _cells(*min(compiled, key=lambda pair: (not pair[1]["fits"], needed(pair[1]))))
    return ["does not compile", "", "", "", ""]


def table(results: Compilations) -> str:
    """Markdown: one row a recipe and kind, its two pod sizes side by side."""
    columns = ("settings", "GiB", "step, ms", "comm.", "clips/s")
    sizes = [Cell("", "v5e", shape).chips for shape in SLICES["v5e"]]
    lines = ["| recipe | chip | " + " | ".join(f"{size}: {columns[0]} | " + " | ".join(columns[1:]) for size in sizes) + " |"]
    lines.append("|" + "---|" * (2 + 5 * len(sizes)))
    for recipe in RECIPES:
        for kind, shapes in SLICES.items():
            row = [text for shape in shapes for text in _of_size(Cell(recipe, kind, shape), results)]
            lines.append("| " + " | ".join([f"`{recipe}`", kind, *row]) + " |")
    return "\n".join([*lines, *notes(results)])


def notes(results: Compilations) -> list[str]:
    """Below the table: what did not compile, and who compiled."""
    versions, failures = set(), []
    for cell in cells():
        for rung, found in of_cell(cell, results) or ():
            if "error" in found:
                failures.append(f"`{cell.name}` with {rung} does not compile: {found['error']}.")
            else:
                versions.add(f"jax {found['versions']['jax']} and libtpu {found['versions']['libtpu']}")
    return ["", *failures, *([f"By {', '.join(sorted(versions))}."] if versions else [])]


KEPT = "the compilations that are done are kept: the same command goes on"


def main(argv: list[str]) -> None:
    values = table_cli.parse(argv, __doc__, RESULTS)
    picked, results = table_cli.chosen(values.only, cells()), Compilations(values.results)

    def one(cell: Cell, say: Callable[[str], None]) -> None:
        if of_cell(cell, results) is None:
            check_compiler()
        fill(cell, results, say)

    table_cli.fill(values, "aot", picked, lambda: table(results), one, KEPT)


if __name__ == "__main__":
    cli.run(main, interrupted=KEPT)
