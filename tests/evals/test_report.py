"""The report from a made-up workdir: complete, self-contained, well-formed, and safe against what names may hold."""

import base64
import io
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from vssl_jax.errors import UserError
from vssl_jax.evals import report, report_svg, tables
from vssl_jax.evals.report_data import FeatureMap, NeighborPictures, save_feature_map, save_neighbor_pictures
from vssl_jax.evals.report_style import STYLE
from vssl_jax.train.metrics import MetricsWriter
from vssl_jax.train.pictures import save_pictures

Image = pytest.importorskip("PIL.Image")

NASTY = "<script>alert('\"&"
NOT_UTF8 = os.fsdecode(b"k\xe4se")
NAMES = ("slide left", "slide right", f"orbit {NOT_UTF8}", NASTY)
VOID = {"meta", "img", "br", "source", "path", "circle", "polygon"}


def moving_dot(seed, frames=6, size=24):
    rng = np.random.default_rng(seed)
    clip = np.tile(rng.random((1, size, size, 3)) * 0.3, (frames, 1, 1, 1)).astype(np.float32)
    row, color = rng.integers(4, size - 8), rng.random(3)
    for t in range(frames):
        column = int((size - 6) * t / (frames - 1)) if seed % 2 else int((size - 6) * (1 - t / (frames - 1)))
        clip[t, row : row + 6, column : column + 6] = 0.4 + 0.6 * color
    return clip


def write_training(workdir, rng, steps=2000):
    with MetricsWriter(workdir, enabled=True, tensorboard=False) as w:
        for step in range(10, steps + 1, 10):
            loss = 0.4 + np.exp(-step / 300) + 0.02 * rng.normal()
            w.write(
                step,
                {
                    "loss": float("nan") if step == 700 else loss,
                    "clips_per_second": 48 + rng.normal(),
                    "mfu": 0.31 + 0.01 * rng.normal(),
                    "data_wait": 0.02 + 0.005 * rng.random(),
                    "learning_rate": 1.5e-4 * min(step / 400, 1),
                    "gradient_norm": 10 ** (2 - step / 500),
                    "data/broken/truncated": 2.0,
                    f"odd {NASTY}": 0.0,
                },
            )
    for step in (500, 1000, 2000):
        clips = np.stack([moving_dot(i) for i in range(4)])
        pictures = {"original": clips, "masked": clips * (rng.random((4, 1, 24, 24, 1)) < 0.3), "reconstruction": clips * 0.8 + 0.1}
        save_pictures(workdir, step, pictures)
    (workdir / "config.json").write_text(json.dumps({"seed": 0, "data": {"source": "embedded", "path": f"{NASTY}{NOT_UTF8}"}}))
    causes = enumerate(["truncated", "text", "truncated"])
    broken = [{"name": f"{NASTY}{NOT_UTF8}{i}.mp4", "cause": cause, "detail": "ends early"} for i, cause in causes]
    (workdir / "broken_videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in broken))


def write_evaluation(workdir, rng):
    labels = np.arange(200) % 4
    xy = 8 * np.array([[0, 0], [3, 0], [0, 3], [3, 3]])[labels] + 3 * rng.normal(size=(200, 2))
    save_feature_map(workdir, FeatureMap(xy, labels, NAMES, "Test videos."))
    query, other = np.arange(3), rng.integers(0, 4, (3, 5))
    clips = np.stack([(moving_dot(i) * 255).astype(np.uint8) for i in range(20)])
    cosines = -np.sort(-rng.random((3, 5)), axis=1)
    near = clips[rng.integers(3, 20, (3, 5))]
    save_neighbor_pictures(workdir, NeighborPictures(clips[:3], near, query, other, cosines, NAMES, "Queries are test videos."))
    row = {"n": 200, "seeds": [0, 1, 2], "stderr": 0.02, "baseline_stderr": 0.03, "settings": {"k": 20, "temperature": 0.07}}
    protocols = [
        {"name": "knn", "metric": "top1", "value": 0.68, "baseline": 0.27, **row, "confusion": rng.integers(0, 40, (4, 4)).tolist()},
        {"name": "linear probe", "metric": "top1", "value": 0.81, "baseline": None, **row, "confusion": np.diag([50] * 4).tolist()},
        {"name": "knn", "metric": "top5", "value": 0.9, "baseline": 0.6, **row, "confusion": np.diag([50] * 4).tolist()},
        {"name": NASTY, "metric": "macro_recall", "value": 0.8, "baseline": 0.2, **row},
    ]
    about = {"dataset": f"slide-4 {NASTY}{NOT_UTF8}", "checkpoint": "runs/demo/export", "class_names": list(NAMES), "protocols": protocols}
    tables.write_eval(workdir, about)


def write_demo(workdir):
    rng = np.random.default_rng(0)
    write_training(workdir, rng)
    write_evaluation(workdir, rng)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("demo") / "run <b>1"
    workdir.mkdir()
    write_demo(workdir)
    path = report.write_report(workdir)
    assert path == workdir / "report" / "index.html" and not list(workdir.glob("**/*.partial"))
    return path.read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Collects tags and fails on any that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or (tag in ("circle", "polygon") and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_all_parts_are_there_and_well_formed(page):
    checked = Checker(page)
    ids = {attrs["id"] for tag, attrs in checked.tags if tag == "section"}
    assert ids == {"results", "curves", "pictures", "map", "neighbors", "confusion", "broken", "config"}
    assert [a.get("aria-label") for _, a in checked.tags if "Confusion" in str(a.get("aria-label"))] == [
        "Confusion matrix of knn",
        "Confusion matrix of linear probe",
    ]
    links = {attrs["href"] for tag, attrs in checked.tags if tag == "a"}
    assert links == {f"#{i}" for i in ids} and "Not recorded" not in checked.text
    for text in ("68.0 ± 2.0", "27.0 ± 3.0", "not measured", "truncated", "1 of 200 values are not finite", "slide left (50)"):
        assert text in checked.text, text


def test_names_cannot_break_out(page):
    assert "<script" not in page and "<b>1" not in page
    checked = Checker(page)
    assert checked.text.count(NASTY) >= 8, "the name is shown as it is"
    assert checked.text.count(r"k\udce4se") >= 8, "as far as it can be"
    assert not [attrs for _, attrs in checked.tags if any(name.startswith("on") for name in attrs)]


def test_the_file_needs_nothing_but_itself(page):
    checked = Checker(page)
    for tag, attrs in checked.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "srcset", "href"):
            assert attrs.get(name, "#").startswith(("data:image/webp;base64,", "#"))
    assert "url(" not in page and "@import" not in page and "http://" not in page and "https://" not in page


def test_pictures_move_in_step_and_have_a_still_and_words(page):
    checked = Checker(page)
    images = [attrs for tag, attrs in checked.tags if tag == "img"]
    assert len(images) == 4 + 2 + 3 * 6 and all(len(attrs["alt"]) > 10 for attrs in images)
    first = Image.open(io.BytesIO(base64.b64decode(images[0]["src"].split(",")[1])))
    assert (first.n_frames, first.size) == (6, (3 * 24 + 2 * 2, 24)), "original, masked and reconstruction are one animation"
    assert images[0]["alt"] == "Clip 1 at step 2000, left to right: original, masked, reconstruction"
    stills = [attrs for tag, attrs in checked.tags if tag == "source"]
    assert len(stills) == len(images) and all("reduced-motion" in attrs["media"] for attrs in stills)
    assert all(attrs.get("aria-label") for tag, attrs in checked.tags if tag == "svg" and attrs.get("class") == "chart")


def test_what_was_not_recorded_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing of a run"):
        report.write_report(tmp_path)
    with MetricsWriter(tmp_path, enabled=True, tensorboard=False) as w:
        w.write(1, {"loss": 2.0})
    checked = Checker(report.write_report(tmp_path).read_text())
    assert "Not recorded in this run: downstream results (eval.json)" in checked.text
    assert [attrs["id"] for tag, attrs in checked.tags if tag == "section"] == ["curves"]


def test_many_classes_are_summed_up(tmp_path):
    rng = np.random.default_rng(0)
    row = {"name": "knn", "metric": "top1", "value": 0.5, "baseline": 0.1, "n": 1, "seeds": [0], "stderr": None, "baseline_stderr": None}
    matrix = np.zeros((60, 60), int)
    matrix[7, 9], matrix[3, 1] = 5, 2
    protocols = [{**row, "settings": {}, "confusion": matrix.tolist()}]
    tables.write_eval(tmp_path, {"dataset": "many", "checkpoint": "c", "protocols": protocols})
    save_feature_map(tmp_path, FeatureMap(rng.normal(size=(120, 2)), np.arange(120) % 60))
    checked = Checker(report.write_report(tmp_path).read_text())
    assert "class 7 taken for class 9: 5 of 5class 3 taken for class 1: 2 of 2" in checked.text
    assert "other or unlabeled (56)" in checked.text and len([1 for tag, a in checked.tags if a.get("class") == "rest"]) == 57


def test_ticks_are_round_and_inside():
    assert report_svg.nice_ticks(0.0, 1.0) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert report_svg.nice_ticks(3.0, 3.0) == [3.0]
    rng = np.random.default_rng(0)
    for low, span in zip(rng.normal(size=300) * 10.0 ** rng.integers(-6, 6, 300), 10.0 ** rng.uniform(-6, 6, 300), strict=True):
        ticks = report_svg.nice_ticks(low, low + span)
        slack = 1e-6 * span
        assert 1 <= len(ticks) <= 5 and low - slack <= ticks[0] and ticks[-1] <= low + span + slack
    assert [report_svg.short(v) for v in (0.0, 1.2e6, 20000, 999, 1.2e-4, 0.25)] == ["0", "1.2M", "20k", "999", "1.2e-4", "0.25"]


def test_a_long_curve_keeps_its_spikes_and_gaps():
    steps = np.arange(50000)
    values = np.zeros(50000)
    values[12345], values[20000:30000] = 7.0, np.nan
    chart = report_svg.line_chart("x", steps, values)
    assert len(chart) < 60_000 and "highest 7" in chart and "10000 of 50000 values are not finite" in chart
    raw = re.search(r'class="line" d="([^"]+)"', chart).group(1)
    heights = [float(y) for y in re.findall(r" ([\d.]+)", raw)]
    assert min(heights) < max(heights) - 100, "the spike is drawn at its full height"
    assert raw.count("M") == 2, "and the gap is left open"


def test_a_noisy_curve_gets_its_mean_and_a_smooth_one_does_not():
    steps = np.arange(400)
    assert 'class="line raw"' not in report_svg.line_chart("schedule", steps, np.minimum(steps, 100.0))
    noisy = report_svg.line_chart("loss", steps, np.where(steps % 2, 1.0, 3.0))
    mean = re.search(r'class="line" d="([^"]+)"', noisy).group(1)
    middle = [float(y) for y in re.findall(r" ([\d.]+)", mean)][50:-50]
    assert 'class="line raw"' in noisy and max(middle) - min(middle) < 15, "the mean runs through the middle"


def contrast(one, other):
    def light(color):
        part = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in part]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colors_can_be_read_in_both_modes():
    found = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in STYLE.split("@media", 2)[:2]]
    for colors in found:
        background, card = colors["bg"].replace("#fff", "#ffffff"), colors["card"]
        for name in ("fg", "dim", "accent"):
            assert contrast(colors[name], background) >= 4.5 and contrast(colors[name], card) >= 4.5, name
        for name in ["rest", "good", "bad", *(f"s{i}" for i in range(8))]:
            assert contrast(colors[name], card) >= 3, name


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [np.nan], [np.nan, np.inf], [0.0, 0.0], [1e-9, 1e9], [-5.0, 3.0]])
def test_odd_curves_are_drawn(values):
    Checker(report_svg.line_chart("x", range(len(values)), values))
    assert "nan" not in re.sub('aria-label="[^"]*"', "", report_svg.line_chart("x", range(len(values)), values))
