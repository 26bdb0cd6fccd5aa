"""The table of speeds, with a bench that is a fake: what is timed, what is not timed again, and what is written."""

import pytest

from tests.commands import error_line, run
from vssl_jax import bench_table, compilations
from vssl_jax.compilations import Compilations
from vssl_jax.errors import UserError

KIND = "NVIDIA H200"
FIGURES = {
    "step_seconds": {"median": 0.0864, "min": 0.0863, "max": 0.0865}, "clips_per_second": 1481.5, "tflops": 300.3, "mfu": 0.3036,
    "peak_bytes": 19 * 2**30, "peak_bytes_from": "device", "compile_seconds": 31.9, "versions": {"jax": "1", "jaxlib": "2"},
}  # fmt: skip
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


@pytest.fixture
def asked(monkeypatch) -> list:
    """What is timed, in order; ViT-H does not fit."""
    asked = []

    def timed(wanted, *arguments):
        asked.append((wanted.recipe, dict(wanted.settings)))
        return {"error": "it needs 200 GiB"} if "vith" in wanted.recipe else FIGURES

    monkeypatch.setattr(bench_table, "last_line", lambda module, wanted, *arguments: timed(wanted))
    monkeypatch.setattr(bench_table, "device_kind", lambda: KIND)
    return asked


def test_rows_are_timed_once_and_written(asked, tmp_path):
    readme, results = tmp_path / "README.md", tmp_path / "bench.jsonl"
    readme.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    command = [f"--results={results}", f"--readme={readme}"]
    bench_table.main(command)
    assert len(asked) == len(bench_table.ROWS) and asked[0] == ("configs/videomae_vitb.py", {"train.batch_size": 128})
    bench_table.main(command)  # what failed is tried again: it may have been out of luck
    assert [recipe for recipe, _ in asked[len(bench_table.ROWS) :]] == ["configs/videomae_vith.py"]
    text = readme.read_text()
    assert f"**{KIND}** (jax 1, jaxlib 2)" in text and text.startswith("before\n") and text.endswith("after\n")
    assert "| ViT-B | 128 | 86.4 [86.3, 86.5] | 1482 | 300.3 | 30.4 % | 19.0 | 32 |" in text
    assert "| ViT-H | 64 | it needs 200 GiB |" in text


def test_only_some_rows(asked, tmp_path):
    bench_table.main([f"--results={tmp_path / 'b.jsonl'}", "--only=scanned|RGB"])
    assert [settings for _, settings in asked] == [
        {"train.batch_size": 128, "model.unroll": 1},
        {"train.batch_size": 128, "data.layout": "rgb"},
    ]
    with pytest.raises(UserError, match="matches no cell; cells are ViT-B, "):
        bench_table.main([f"--results={tmp_path / 'b.jsonl'}", "--only=ViT-Q"])


def test_rows_are_of_recipes_that_take_their_settings():
    """Each row's config is read as bench would read it; rows differ."""
    keys = {row.on(KIND).key for row in bench_table.ROWS}
    assert len(keys) == len(bench_table.ROWS)


def test_a_kind_without_a_known_peak_has_no_mfu():
    line = bench_table.line(bench_table.ROWS[0], FIGURES | {"mfu": None, "peak_bytes_from": "compiler"})
    assert line == "| ViT-B | 128 | 86.4 [86.3, 86.5] | 1482 | 300.3 |  | 19.0 (compiler) | 32 |"
    assert line.count("|") == bench_table.HEAD.count("|")


def test_a_process_that_says_nothing_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setattr(compilations.sys, "executable", "/bin/false")
    assert bench_table.timed(bench_table.ROWS[0].on(KIND)) == {"error": "ended with 1 and said nothing"}


def test_a_readme_without_marks_is_refused_before_anything_is_timed(asked, tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    done = run(bench_table.main, f"--results={tmp_path / 'b.jsonl'}", f"--readme={tmp_path / 'README.md'}")
    assert "needs the lines" in error_line(done)
    assert not asked and not Compilations(tmp_path / "b.jsonl").topologies


def test_a_kind_on_which_nothing_ran_has_no_versions(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_table, "last_line", lambda *arguments: {"error": "it needs 200 GiB"})
    results = Compilations(tmp_path / "b.jsonl", bench_table.timed, keep_errors=False)
    results.measure(bench_table.ROWS[0].on(KIND))
    assert bench_table.table(results).startswith(f"**{KIND}**\n") and not results.path.exists()
