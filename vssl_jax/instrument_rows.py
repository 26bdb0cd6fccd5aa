"""What the instrument measured (vssl_jax/instrument.py), and what it shows: a line of JSON for each measurement, tables of them, verdicts. Nothing here
measures.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vssl_jax.evals.classification import seed_stderr

ORDERED = "ordered"
OWN = "task"
RANDOM_LABELS = "_random_labels"  # ends the name of a method's control


class Results:
    """results.jsonl: one line a measurement, appended when it is done."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self._whole().splitlines()]

    def _whole(self) -> str:
        """Without a last line that a full disk cut off."""
        text = self.path.read_text()
        return text[: text.rfind("\n") + 1]

    def has(self, task: Any) -> bool:
        """Whether it holds what a vssl_jax.instrument.Task measures."""
        return any((r["name"], r["seed"], r["digest"]) == (task.name, task.seed, task.digest) for r in self.rows())

    def add(self, row: Mapping[str, Any]) -> None:
        if self.path.exists() and (whole := self._whole()) != self.path.read_text():
            os.truncate(self.path, len(whole.encode()))
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def mean_and_error(values: list[float | None]) -> str:
    """The mean over seeds, ± one standard error where there are several; empty where a number is missing."""
    if None in values:
        return ""
    error = seed_stderr(values)
    return f"{np.mean(values):.3f}" + ("" if error is None else f" ± {error:.3f}")


def group(rows: list[dict[str, Any]], tasks: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    """{name: rows}, one a seed, in the order of `tasks` and only with their settings: what older settings gave stays in the file, unread, and of what two
    processes measured the later one is taken.
    """
    wanted = {(t.name, t.seed, t.digest): t for t in tasks}
    found: dict[str, dict[int, dict[str, Any]]] = {t.name: {} for t in tasks}
    for row in rows:
        if task := wanted.get((row["name"], row["seed"], row["digest"])):
            chosen = {"top1": row["task"].get(task.metric), "metric": task.metric} if task.metric else {}
            found[row["name"]][row["seed"]] = row | chosen
    return {name: list(own.values()) for name, own in found.items() if own}


def table(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """The rows: means over seeds, ± one standard error."""
    lines = [("row", "top-1", "direction", "n", "seeds", "steps")]
    for name, rows in found.items():
        seeds = ",".join(str(s) for s in sorted(r["seed"] for r in rows))
        lines.append(
            (name, *(mean_and_error([r[k] for r in rows]) for k in ("top1", "direction")), str(rows[0]["n"]), seeds, str(rows[0]["steps"]))
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def verdicts(found: Mapping[str, list[dict[str, Any]]], config: ConfigDict) -> list[str]:
    """What the rows show, each a sentence that begins with 'yes' or 'NO'."""
    out = []

    def say(holds: bool, text: str) -> None:
        out.append(f"{'yes' if holds else 'NO':<4}{text}")

    for name, rows in found.items():
        kind, *_, last = name.split("/")
        if kind == "control":
            top1, way, n = (np.mean([r[k] for r in rows]) for k in ("top1", "direction", "n"))
            sigma = math.sqrt(0.25 / n)  # whatever the seeds: their test videos are the same
            if last == ORDERED:
                say(top1 >= 0.9, f"{name}: top-1 {top1:.3f}, wanted 0.90 or more")
            else:
                say(abs(way - 0.5) <= 3 * sigma, f"{name}: direction {way:.3f}, wanted 0.5 ± {3 * sigma:.3f} (3 sigma)")
    nets = {name: net for net, name in config.random.items()} | dict(getattr(config, "net_of", {}))
    for name, rows in found.items():
        method, *_, protocol = name.split("/")
        bases = {"random initialization": f"random-{nets.get(method)}", "random labels": method + RANDOM_LABELS}
        for what, other in bases.items():
            base = found.get(f"{other}/{protocol}")
            if protocol != OWN and base and len(base) > 1 and len(rows) > 1:
                gain = np.mean([r["top1"] for r in rows]) - np.mean([r["top1"] for r in base])
                error = math.hypot(*(seed_stderr([r["top1"] for r in each]) for each in (rows, base)))
                text = f"{name}: {gain:+.3f} top-1 over {what}, {gain / error if error else math.inf:+.1f} standard errors"
                say(gain > 3 * error, f"{text}, {len(rows)} and {len(base)} seeds; wanted more than 3")
    return out


def method_table(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Markdown: a method a line, its protocols as columns; top-1, ± one standard error over seeds where there are several; of retrieval hit@k."""
    by_method: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, rows in found.items():
        method, _, protocol = name.rpartition("/")
        by_method.setdefault(method, {})[protocol] = rows
    shown = {method: own for method, own in by_method.items() if not method.startswith("control/")}
    protocols = list(dict.fromkeys(protocol for own in shown.values() for protocol in own))
    lines = [
        "| method | " + " | ".join(_heading(p, shown.values()) for p in protocols) + " | seeds |",
        "|" + "---|" * (len(protocols) + 2),
    ]
    for method, own in shown.items():
        cells = [_cell(own[p]) if p in own else "" for p in protocols]
        seeds = sorted({r["seed"] for rows in own.values() for r in rows})
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {', '.join(map(str, seeds))} |")
    for name in (f"control/{net}/coded/{ORDERED}" for net in ("cnn", "vit")):
        if name in found:
            lines += [
                "",
                f"The same network trained with all labels: {mean_and_error([r['top1'] for r in found[name]])} ({found[name][0]['steps']} steps).",
            ]
    return "\n".join(lines)


def _heading(protocol: str, methods: Iterable[Mapping[str, list[dict[str, Any]]]]) -> str:
    rows = next(own[protocol] for own in methods if protocol in own)
    ks = [name.removeprefix("hit@") for name in rows[0].get("retrieval", ())]
    return "own task" if protocol == OWN else f"{protocol} hit@{' / '.join(ks)}" if ks else protocol


def _cell(rows: list[dict[str, Any]]) -> str:
    """The mean; with it the means of hit@k for the other k, to two places, or which of a method's own numbers it is, where it is no plain accuracy."""
    more = [np.mean([row["retrieval"][name] for row in rows]) for name in list(rows[0].get("retrieval", ()))[1:]]
    mean, which = mean_and_error([r["top1"] for r in rows]), rows[0].get("metric", "").removesuffix("accuracy").strip("/").replace("_", " ")
    return " / ".join([mean] + [f"{value:.2f}" for value in more]) + (f" ({which})" if mean and which else "")
