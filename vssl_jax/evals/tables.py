"""eval.json and the result table: every downstream number with its protocol, its uncertainty, and the same protocol on a random encoder.

The idea: a number without its baseline says nothing, so a row has a place for both, and one that was not measured reads "not measured"
instead of being left out.

eval.json:

    {"dataset": "...", "checkpoint": "...",           what was evaluated, required
     "features": "video",                              optional, the method's features that the numbers are of, commas between
     "class_names": ["...", ...],                      optional, by label
     "inputs": {"train": {...}, "test": {...}},        optional, the settings of the data: sampler, clips, layout, canvas
     "protocols": [{
        "name": "knn",                                 the protocol
        "metric": "top1",                              what `value` is
        "value": 0.62,                                 a fraction, shown as percent; with "unit": "" any number, shown as it is
        "baseline": 0.15,                              the same on a randomly initialized encoder, or null: not measured
        "chance": 0.125,                               optional, what guessing gives
        "n": 800,                                      test videos
        "seeds": [0, 1, 2],                            of what is trained or drawn; value and baseline are means over them
        "stderr": 0.01, "baseline_stderr": 0.01,       standard errors, or null
        "settings": {"k": 20, "temperature": 0.07},    all that one needs to repeat it
        "confusion": [[50, 0], [3, 47]]                optional, rows are true classes
     }, ...],
     ...}                                              further top-level keys are shown as they are
"""

import html
import itertools
import json
import logging
import math
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl_jax.errors import UserError

log = logging.getLogger(__name__)

FILE = "eval.json"
COLUMNS = ("protocol", "metric", "pretrained", "random init", "gain", "chance", "n", "seeds")
NOTE = "± is one standard error; random init: the same protocol on a randomly initialized encoder; chance: guessing."
_RIGHT = {2, 3, 4, 5, 6}  # columns of numbers
_REQUIRED = ("name", "metric", "value", "baseline", "n", "seeds", "stderr", "baseline_stderr", "settings")


def check(result: Mapping[str, Any]) -> None:
    """Raises UserError, in one line, where `result` is not laid out as eval.json."""
    for key in ("dataset", "checkpoint", "protocols"):
        if key not in result:
            raise UserError(f"{FILE} lacks {key!r}: write it again with python -m vssl_jax.evaluate")
    for protocol in result["protocols"]:
        missing = [key for key in _REQUIRED if key not in protocol]
        if missing:
            raise UserError(f"{FILE}: protocol {protocol.get('name', '?')!r} lacks {', '.join(missing)} (null where not measured)")
        if protocol["value"] is None or not math.isfinite(protocol["value"]):
            raise UserError(f"{FILE}: {protocol['name']} {protocol['metric']} is {protocol['value']}, not a number")


def write_eval(workdir: str | os.PathLike, result: Mapping[str, Any]) -> Path:
    """Writes WORKDIR/eval.json: whole or not at all. Numbers that stand there, and are of another checkpoint, other data or other settings, are kept as
    eval.N.json, and said.
    """
    check(result)
    path = Path(workdir) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and _of(json.loads(path.read_text(encoding="utf-8"))) != _of(result):
        number = next(n for n in itertools.count(1) if not path.with_suffix(f".{n}.json").exists())
        os.replace(path, path.with_suffix(f".{number}.json"))
        log.warning("%s held other numbers: they are kept as %s", path, path.with_suffix(f".{number}.json").name)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def _of(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the numbers are of: the weights, the data, the features, and the protocols with their settings, seeds, and whether they have a baseline."""
    protocols = {p.get("name"): (p.get("settings"), p.get("seeds"), p.get("baseline") is None) for p in result.get("protocols", ())}
    return *(result.get(name) for name in ("checkpoint", "step", "dataset", "features", "inputs")), protocols


def read_eval(workdir: str | os.PathLike) -> dict[str, Any] | None:
    """WORKDIR/eval.json, or None where there is none."""
    path = Path(workdir) / FILE
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    check(result)
    return result


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table's cells as text, in the order of COLUMNS."""
    check(result)
    return [_row(protocol) for protocol in result["protocols"]]


def result_table(result: Mapping[str, Any]) -> str:
    """The table for a terminal; what cannot be written as UTF-8, as names of files may be, is escaped."""
    lines = [COLUMNS, *rows(result)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    text = []
    for line in lines:
        cells = [cell.rjust(w) if i in _RIGHT else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        text.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, text))
    below = [textwrap.fill(f"{name}: {line}", 110, subsequent_indent="  ") for name, line in settings(result).items()]
    features = f", features {result['features']}" if "features" in result else ""
    lines = [f"{result['dataset']}, {result['checkpoint']}{features}", rule, text[0], rule, *text[1:], rule, NOTE, *below]
    return "\n".join(lines).encode(errors="backslashreplace").decode()


def result_html(result: Mapping[str, Any]) -> str:
    """The same table as an HTML <table>, without dataset, NOTE and settings; all text escaped."""
    kinds = ["n" if i in _RIGHT else "t" for i in range(len(COLUMNS))]
    head = "".join(f'<th scope="col" class="{kind}">{html.escape(name)}</th>' for kind, name in zip(kinds, COLUMNS, strict=True))
    body = []
    for first, *rest in rows(result):
        cells = "".join(f'<td class="{kind}">{html.escape(cell)}</td>' for kind, cell in zip(kinds[1:], rest, strict=True))
        body.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _row(p: Mapping[str, Any]) -> tuple[str, ...]:
    percent = p.get("unit", "%") == "%"
    return (
        str(p["name"]),
        str(p["metric"]) + (" %" if percent else ""),
        _number(p["value"], p["stderr"], percent),
        "not measured" if p["baseline"] is None else _number(p["baseline"], p["baseline_stderr"], percent),
        _gain(p, percent),
        "-" if p.get("chance") is None else _number(p["chance"], None, percent),
        "-" if p["n"] is None else str(p["n"]),
        _seeds(p["seeds"]),
    )


def settings(result: Mapping[str, Any]) -> dict[str, str]:
    """{protocol: its settings in one line}: each protocol once, although it has a row per metric. Nested settings read as a.b=value."""
    return {str(p["name"]): ", ".join(_flat(p["settings"])) for p in result["protocols"] if p["settings"]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    out = []
    for key, value in values.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}={value}"]
    return out


def _number(value: float, stderr: float | None, percent: bool) -> str:
    show = (lambda x: f"{100 * x:.1f}") if percent else (lambda x: f"{x:.4g}")
    return show(value) + ("" if stderr is None else f" ± {show(stderr)}")


def _gain(p: Mapping[str, Any], percent: bool) -> str:
    """Value minus baseline, and how many standard errors of the difference it is, where both are known."""
    if p["baseline"] is None:
        return "-"
    difference = p["value"] - p["baseline"]
    text = f"{100 * difference:+.1f}" if percent else f"{difference:+.4g}"
    if p["stderr"] is None or p["baseline_stderr"] is None:
        return text
    stderr = math.hypot(p["stderr"], p["baseline_stderr"])
    return text + (f" ({difference / stderr:+.1f} SE)" if stderr > 0 else "")


def _seeds(seeds: list[int] | None) -> str:
    if not seeds:
        return "-"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
