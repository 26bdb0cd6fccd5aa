"""The report's sections: each a pure function from recorded data to HTML, or to None where the run did not record it.

All text from outside (class names, file names, metric names, settings) is escaped here, where it enters the page.
"""

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vssl_jax.evals import report_svg, tables
from vssl_jax.evals.report_data import FeatureMap, NeighborPictures, label_name
from vssl_jax.evals.report_page import Section, moving_picture, scrolling
from vssl_jax.train import metrics as metrics_lib
from vssl_jax.train import pictures as pictures_lib

_FIRST = (metrics_lib.LOSS, metrics_lib.CLIPS_PER_SECOND, metrics_lib.MFU, metrics_lib.DATA_WAIT)
_CONFUSION_TABLE = 24  # classes up to which the matrix is shown in full
_THUMBNAIL = 112  # pixels
_SMALL = 128  # clips narrower than this are shown with their pixels sharp


def results(result: Mapping[str, Any] | None) -> Section | None:
    if result is None:
        return None
    extra = {k: v for k, v in result.items() if k not in ("dataset", "protocols", "class_names")}
    about = ", ".join(f"{k}: {v}" for k, v in extra.items() if isinstance(v, str | int | float))
    before, after = html.escape(f"{result['dataset']}. {tables.NOTE}"), html.escape(about)
    table = scrolling(tables.result_html(result), "Results")
    lines = "".join(f"<li><b>{html.escape(name)}</b> {html.escape(line)}</li>" for name, line in tables.settings(result).items())
    settings = f"<details><summary>Settings of the protocols</summary><ul>{lines}</ul></details>" if lines else ""
    return Section("results", "Results", f'<p class="dim">{before}</p>{table}<p class="dim">{after}</p>{settings}')


def curves(lines: Sequence[Mapping[str, float]]) -> Section | None:
    """A chart per metric: the ones people look for first, then by name. Counters of broken videos have a section of their own."""
    names = {name for line in lines for name in line if name != "step" and not name.startswith("data/broken/")}
    if not names:
        return None
    charts = []
    for name in sorted(names, key=lambda n: (_FIRST.index(n) if n in _FIRST else len(_FIRST), n)):
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps, values = np.array([p[0] for p in points], np.float64), np.array([p[1] for p in points], np.float64)
        about = report_svg.describe(name, steps, values).removeprefix(f"{name}: ")
        charts.append(
            f"<figure><h3>{html.escape(_words(name))}</h3>{report_svg.line_chart(name, steps, values)}"
            f"<figcaption>{html.escape(about)}</figcaption></figure>"
        )
    note = '<p class="dim">Over training steps. In long curves the thin line is what was logged and the thick one its running mean.</p>'
    return Section("curves", "Training", note + f'<div class="charts">{"".join(charts)}</div>')


def reconstructions(saved: Mapping[int, Mapping[str, np.ndarray]]) -> Section | None:
    """The newest pictures of every clip, then the first clip at up to four earlier steps."""
    saved = {step: pictures for step, pictures in saved.items() if pictures}
    if not saved:
        return None
    steps = sorted(saved)
    newest, earlier = steps[-1], steps[:-1]
    body = f"<h3>Step {newest}</h3>" + _clips(saved[newest], f"step {newest}", most=None)
    chosen = sorted({earlier[i] for i in np.linspace(0, len(earlier) - 1, min(len(earlier), 4)).astype(int)}) if earlier else []
    if chosen:
        parts = "".join(f"<h3>Step {step}</h3>{_clips(saved[step], f'step {step}', most=1)}" for step in reversed(chosen))
        body += f"<details><summary>The first clip at earlier steps</summary>{parts}</details>"
    return Section("pictures", "Pictures", body)


def feature_map(data: FeatureMap | None) -> Section | None:
    if data is None:
        return None
    n = len(data.xy_Nx2)
    marks = report_svg.class_marks(data.labels_N)
    counts = Counter(int(label) for label in data.labels_N)
    rest = sum(count for label, count in counts.items() if label not in marks)
    about = f"t-SNE map of {n} videos in {len([label for label in counts if label >= 0])} classes. {data.about}".strip()
    chart = report_svg.scatter(data.xy_Nx2, data.labels_N, data.class_names, about)
    items = [(report_svg.legend_mark(mark), f"{label_name(label, data.class_names)} ({counts[label]})") for label, mark in marks.items()]
    if rest:
        items.append((report_svg.legend_mark(None), f"{'other or unlabeled' if marks else 'unlabeled'} ({rest})"))
    legend = "".join(f"<li>{mark}{html.escape(name)}</li>" for mark, name in items)
    figure = f"<figure>{chart}<figcaption>{html.escape(about)} Distances between far groups mean nothing.</figcaption></figure>"
    return Section("map", "Map of the features", f'<div class="map">{figure}<ul class="legend">{legend}</ul></div>')


def neighbors(data: NeighborPictures | None) -> Section | None:
    if data is None:
        return None
    rows = []
    for q, label in enumerate(data.query_label_Q):
        name = label_name(int(label), data.class_names)
        cells = [_thumbnail(data.query_QxTxHxWx3[q], "", f"Query {q + 1}: {name}", f"<b>query</b><br>{html.escape(name)}")]
        for k, other in enumerate(data.neighbor_label_QxK[q]):
            cosine, other_name = data.cosine_QxK[q, k], label_name(int(other), data.class_names)
            known = label >= 0 and other >= 0
            sign, kind = ("", "") if not known else ("✓ ", "same") if label == other else ("✗ ", "other")
            alt = f"Neighbor {k + 1} of query {q + 1}: {other_name}, cosine {cosine:.2f}"
            cells.append(_thumbnail(data.neighbor_QxKxTxHxWx3[q, k], kind, alt, f"{sign}{html.escape(other_name)}<br>{cosine:.2f}"))
        rows.append(f'<div class="neighbors" style="--n:{len(cells)}">{"".join(cells)}</div>')
    note = f"{data.about} Each row: a query, then its nearest videos with the cosine; ✓ is the query's class, ✗ another.".strip()
    return Section("neighbors", "Nearest neighbors", f'<p class="dim">{html.escape(note)}</p>{"".join(rows)}')


def confusion(result: Mapping[str, Any] | None) -> Section | None:
    """The confusion matrices in eval.json, one per protocol although each of its metrics may carry it; the first one open."""
    first: dict[str, Mapping[str, Any]] = {}
    for protocol in [] if result is None else result["protocols"]:
        if protocol.get("confusion") is not None:
            first.setdefault(str(protocol["name"]), protocol)
    if not first:
        return None
    names = tuple(result.get("class_names", ()))
    parts = []
    for i, protocol in enumerate(first.values()):
        matrix_CxC = np.asarray(protocol["confusion"])
        few = len(matrix_CxC) <= _CONFUSION_TABLE
        body = (_confusion_table(matrix_CxC, names, str(protocol["name"])) if few else "") + _confused_pairs(matrix_CxC, names)
        parts.append(f"<details{' open' if i == 0 else ''}><summary>{html.escape(str(protocol['name']))}</summary>{body}</details>")
    return Section("confusion", "Confusions", "".join(parts))


def broken(videos: Sequence[Mapping[str, str]]) -> Section | None:
    if not videos:
        return None
    counts = Counter(video["cause"] for video in videos)
    table = "".join(f'<tr><th scope="row">{html.escape(c)}</th><td class="n">{n}</td></tr>' for c, n in counts.most_common())
    head = '<thead><tr><th scope="col">cause</th><th scope="col">videos</th></tr></thead>'
    listed = "\n".join(f"{video['name']}: {video['cause']}: {video['detail']}" for video in videos[:200])
    more = f"\n... and {len(videos) - 200} more in broken_videos.jsonl" if len(videos) > 200 else ""
    names = f'<details><summary>Which</summary><pre tabindex="0">{html.escape(listed + more)}</pre></details>'
    return Section("broken", "Skipped videos", scrolling(f"<table>{head}<tbody>{table}</tbody></table>", "Skipped videos") + names)


def config(values: Mapping[str, Any] | None) -> Section | None:
    if values is None:
        return None
    text = html.escape(json.dumps(values, indent=2, ensure_ascii=False))
    return Section("config", "Configuration", f'<details><summary>config.json</summary><pre tabindex="0">{text}</pre></details>')


def _words(name: str) -> str:
    return "MFU" if name == metrics_lib.MFU else name.replace("_", " ")


def _clips(pictures: Mapping[str, np.ndarray], when: str, most: int | None) -> str:
    """A figure per clip with all its pictures side by side in one animation, so that they play in step; pictures of another size get a figure
    of their own, beside it. The caption of a clip stands under its last figure."""
    captions = pictures.get(pictures_lib.CAPTIONS, ())
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, clip_BxTxHxWx3 in pictures.items():
        if name != pictures_lib.CAPTIONS:
            groups.setdefault(clip_BxTxHxWx3.shape, []).append(name)
    count = min(shape[0] for shape in groups)
    figures = []
    for b in range(count if most is None else min(most, count)):
        for number, (shape, names) in enumerate(groups.items()):
            labels = "".join(f"<span>{html.escape(_words(name))}</span>" for name in names)
            frames = pictures_lib.side_by_side([pictures[name][b] for name in names])
            said = f"{captions[b]}. " if len(captions) else ""
            image = moving_picture(frames, f"{said}Clip {b + 1} at {when}, left to right: {', '.join(names)}")
            small = ' class="small"' if shape[3] < _SMALL else ""
            line = f"<figcaption>{html.escape(str(captions[b]))}</figcaption>" if len(captions) and number == len(groups) - 1 else ""
            figures.append(f'<figure{small}>{image}<figcaption class="names" style="--n:{len(names)}">{labels}</figcaption>{line}</figure>')
    return f'<div class="clips">{"".join(figures)}</div>'


def _thumbnail(clip_TxHxWx3: np.ndarray, kind: str, alt: str, caption: str) -> str:
    from PIL import Image

    height, width = clip_TxHxWx3.shape[1:3]
    scale = _THUMBNAIL / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        clip_TxHxWx3 = np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in clip_TxHxWx3])
    return f'<figure class="{kind}">{moving_picture(clip_TxHxWx3, alt)}<figcaption>{caption}</figcaption></figure>'


def _confusion_table(matrix_CxC: np.ndarray, names: tuple[str, ...], protocol: str) -> str:
    labels = [html.escape(label_name(i, names)) for i in range(len(matrix_CxC))]
    head = "".join(f'<th scope="col"><span>{label}</span></th>' for label in labels)
    rows = []
    for label, row in zip(labels, matrix_CxC, strict=True):
        total = max(int(row.sum()), 1)
        cells = "".join(f'<td style="--p:{100 * int(n) // total}">{int(n) if n else ""}</td>' for n in row)
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    note = '<p class="dim">Rows: true class. Columns: predicted class. Counts of test videos, shaded by their share of the row.</p>'
    table = f'<table class="confusion"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return note + scrolling(table, f"Confusion matrix of {protocol}")


def _confused_pairs(matrix_CxC: np.ndarray, names: tuple[str, ...], most: int = 10) -> str:
    wrong_CxC = matrix_CxC - np.diag(np.diag(matrix_CxC))
    order = np.argsort(-wrong_CxC, axis=None, kind="stable")[:most]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong_CxC.shape), strict=True) if wrong_CxC[i, j] > 0]
    if not pairs:
        return "<p>No test video was misclassified.</p>"
    items = "".join(
        f"<li>{html.escape(label_name(i, names))} taken for {html.escape(label_name(j, names))}: "
        f"{int(wrong_CxC[i, j])} of {int(matrix_CxC[i].sum())}</li>"
        for i, j in pairs
    )
    return f"<h3>Most confused</h3><ol>{items}</ol>"
