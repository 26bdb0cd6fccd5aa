"""The table says what was measured, and says so where it was not."""

import json
import math
import os

import pytest

from vssl_jax.errors import UserError
from vssl_jax.evals import tables


def protocol(**changes):
    return {
        "name": "knn", "metric": "top1", "value": 0.62, "baseline": 0.15, "n": 800, "seeds": [0, 1, 2], "stderr": 0.03,
        "baseline_stderr": 0.04, "settings": {"k": 20, "temperature": 0.07},
    } | changes  # fmt: skip


def result(*protocols):
    return {"dataset": "slide-8", "checkpoint": "runs/a/export", "protocols": list(protocols)}


def test_a_row_has_the_number_its_baseline_and_the_gain_in_standard_errors():
    [row] = tables.rows(result(protocol()))
    assert row == ("knn", "top1 %", "62.0 ± 3.0", "15.0 ± 4.0", "+47.0 (+9.4 SE)", "-", "800", "0-2")
    assert tables.rows(result(protocol(chance=0.125)))[0][5:7] == ("12.5", "800")


def test_what_was_not_measured_reads_so():
    [row] = tables.rows(result(protocol(baseline=None, baseline_stderr=None, stderr=None, seeds=[], n=None)))
    assert row[2:8] == ("62.0", "not measured", "-", "-", "-", "-")
    [row] = tables.rows(result(protocol(value=0.0, baseline=0.0, stderr=0.0, baseline_stderr=0.0, seeds=[7])))
    assert row[2:8] == ("0.0 ± 0.0", "0.0 ± 0.0", "+0.0", "-", "800", "7"), "zero is a value"


def test_other_units_are_shown_as_they_are():
    [row] = tables.rows(result(protocol(metric="MedR", unit="", value=3, baseline=40.5, stderr=None, baseline_stderr=None)))
    assert row[1:5] == ("MedR", "3", "40.5", "-37.5")


def test_the_terminal_table_lines_up():
    text = tables.result_table(result(protocol(), protocol(name="attentive probe", value=1.0, seeds=[0, 5])))
    lines = text.splitlines()
    assert (
        "features" not in lines[0] and ", features flow" in tables.result_table(result(protocol()) | {"features": "flow"}).splitlines()[0]
    )
    assert "slide-8" in lines[0] and "runs/a/export" in lines[0] and lines[7] == tables.NOTE
    starts = [line.index(word) for line, word in [(lines[2], "seeds"), (lines[4], "0-2"), (lines[5], "0,5")]]
    assert len(set(starts)) == 1


def test_a_dataset_whose_name_is_not_utf8_can_be_printed():
    text = tables.result_table(result(protocol()) | {"dataset": os.fsdecode(b"folder k\xe4se")})
    assert text.encode().decode().startswith(r"folder k\udce4se, ")


def test_settings_stand_once_for_each_protocol():
    nested = protocol(name="finetune", settings={"view": {"crops": 3, "clips": 5}, "decay": 0.75})
    text = tables.result_table(result(protocol(), protocol(metric="top5"), nested))
    assert text.splitlines()[-2:] == ["knn: k=20, temperature=0.07", "finetune: view.crops=3, view.clips=5, decay=0.75"]


def test_html_is_escaped():
    text = tables.result_html(result(protocol(name="<script>alert(1)</script>", metric="a&b")))
    assert "<script" not in text and "&lt;script&gt;" in text and "a&amp;b" in text


def test_eval_json_round_trip_and_mistakes(tmp_path):
    assert tables.read_eval(tmp_path) is None
    tables.write_eval(tmp_path, result(protocol()))
    assert tables.read_eval(tmp_path) == result(protocol()) == json.loads((tmp_path / "eval.json").read_text())
    with pytest.raises(UserError, match="dataset"):
        tables.write_eval(tmp_path, {"protocols": []})
    lacking = protocol()
    del lacking["baseline"], lacking["n"]
    with pytest.raises(UserError, match="'knn' lacks baseline, n"):
        tables.write_eval(tmp_path, result(lacking))
    with pytest.raises(UserError, match="not a number"):
        tables.write_eval(tmp_path, result(protocol(value=math.nan)))
    assert tables.read_eval(tmp_path) == result(protocol()), "a refused result leaves the old file"


def test_numbers_of_other_data_or_protocols_are_kept(tmp_path, caplog):
    # A run that went on exports to the same place.
    first, again, other = result(protocol()), result(protocol(value=0.5)), result(protocol()) | {"step": 24_000}
    for each in (first, again):
        tables.write_eval(tmp_path, each)
    assert not caplog.records and [p.name for p in tmp_path.iterdir()] == ["eval.json"], "the same evaluation again takes its own place"
    for each in (other, first):
        tables.write_eval(tmp_path, each)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["eval.1.json", "eval.2.json", "eval.json"] and len(caplog.records) == 2
    assert tables.read_eval(tmp_path) == first
    assert [json.loads((tmp_path / f"eval.{n}.json").read_text()) for n in (1, 2)] == [again, other]


@pytest.mark.parametrize("less", [{"seeds": [0]}, {"baseline": None, "baseline_stderr": None}])
def test_numbers_of_more_seeds_or_with_a_baseline_are_kept(tmp_path, less):
    more = result(protocol(seeds=[0, 1, 2]))
    for each in (more, result(protocol(seeds=[0, 1, 2]) | less)):
        tables.write_eval(tmp_path, each)
    assert json.loads((tmp_path / "eval.1.json").read_text()) == more
