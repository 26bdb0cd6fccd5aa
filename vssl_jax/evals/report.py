"""The report of a run: one self-contained file, WORKDIR/report/index.html, from what the run recorded.

The idea: the report computes nothing. It shows what is in the workdir, says what is not, and can be written again at any time and anywhere.
"""

import os
from pathlib import Path

from vssl_jax.errors import UserError
from vssl_jax.evals import report_data, report_sections, tables
from vssl_jax.evals.report_page import facts, page
from vssl_jax.train.metrics import CLIPS_PER_SECOND, LOSS, MFU, read_metrics
from vssl_jax.train.pictures import load_pictures

FILE = "report/index.html"


def write_report(workdir: str | os.PathLike) -> Path:
    """Writes WORKDIR/report/index.html, whole or not at all, and returns its path.

    Reads metrics.jsonl, eval.json, config.json, broken_videos*.jsonl, report/pictures/ (train/pictures.py), report/feature_map.npz and
    report/neighbors.npz (report_data.py); each may be missing. Needs Pillow where there are pictures. Raises UserError where the folder
    holds nothing of a run."""
    workdir = Path(workdir)
    lines, result = read_metrics(workdir), tables.read_eval(workdir)
    broken, config = report_data.load_broken(workdir), report_data.load_config(workdir)
    parts = {
        "downstream results (eval.json)": report_sections.results(result),
        "training curves (metrics.jsonl)": report_sections.curves(lines),
        "pictures (report/pictures)": report_sections.reconstructions(load_pictures(workdir)),
        "a map of the features (report/feature_map.npz)": report_sections.feature_map(report_data.load_feature_map(workdir)),
        "nearest neighbors (report/neighbors.npz)": report_sections.neighbors(report_data.load_neighbor_pictures(workdir)),
        "confusion matrices (eval.json)": report_sections.confusion(result),
        "broken videos": report_sections.broken(broken),
        "the configuration (config.json)": report_sections.config(config),
    }
    sections = [section for section in parts.values() if section is not None]
    if not sections:
        raise UserError(f"{workdir} holds nothing of a run (no metrics.jsonl, eval.json or pictures): give the --workdir of a training run")
    missing = [name for name, section in parts.items() if section is None]
    path = workdir / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    text = page(f"{workdir.resolve().name}: report", facts(_facts(lines, result, broken)), sections, missing)
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be UTF-8
    os.replace(partial, path)
    return path


def _facts(lines: list[dict[str, float]], result: dict | None, broken: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The few numbers one looks for first."""
    pairs = []
    if lines:
        pairs.append(("step", str(lines[-1]["step"])))
        for key, text in ((LOSS, "{:.4g}"), (CLIPS_PER_SECOND, "{:.4g}"), (MFU, "{:.1%}")):
            values = [line[key] for line in lines if key in line]
            if values:
                pairs.append((f"last {key.replace('_', ' ')}" if key != MFU else "last MFU", text.format(values[-1])))
    if result is not None:
        pairs.append(("evaluated on", str(result["dataset"])))
    if broken:
        pairs.append(("videos skipped as broken", str(len(broken))))
    return pairs
