"""The table of recipes, chips and pods, with a compiler that is a sum: what is compiled, what is taken, and what is written."""

import dataclasses
import json

import pytest

from tests.commands import CONFIGS, error_line, run
from vssl_jax import aot_table, compilations
from vssl_jax.aot_table import Cell, Rung, climb
from vssl_jax.chips import GIB
from vssl_jax.compilations import Compilation, Compilations
from vssl_jax.errors import UserError

CELL = Cell("videomae_vitb", "v5e", "4x4")
RUNGS = [Rung(fsdp, remat, n) for fsdp in (1, 16) for remat in ("dots", "full") for n in (1, 2, 4)]
BEGIN, END = "<!-- aot: begin -->", "<!-- aot: end -->"


def figures(state: float, blocks: float, capacity: float = 16, waiting: float = 1) -> dict:
    """aot's figures of a step, in GiB."""
    fits = state + blocks + waiting <= capacity
    step = {"fits": fits, "peak_bytes": round((state + blocks) * GIB)}
    if fits:
        seconds = {"compute": 0.1, "memory": 0.2, "links": 0.01, "step": 0.2}
        step |= {"seconds": seconds, "bound": "memory", "communication_to_compute": 0.1, "clips_per_second": 10240.0}
    sizes = {"capacity_bytes": capacity * GIB, "state_bytes": state * GIB, "waiting_bytes": waiting * GIB, "batch_bytes": 0}
    return {"fits": fits, "turns": {"train": step}, "versions": {"jax": "1", "libtpu": "2"}} | {k: round(v) for k, v in sizes.items()}


def made(rung: Rung, state: float = 2, blocks: float = 40) -> dict:
    """A step whose blocks shrink with the micro-batch, and by half with remat=full."""
    return figures(state / rung.fsdp, blocks / rung.accumulation / (2 if rung.remat == "full" else 1))


class Compiler:
    """Counts what it is asked for."""

    def __init__(self, state: float = 2, blocks: float = 40):
        self.asked, self.sizes = [], (state, blocks)

    def __call__(self, wanted: Compilation) -> dict:
        s = wanted.settings
        self.asked.append(
            (wanted.recipe, wanted.topology, str(Rung(s["mesh.fsdp"], s["model.remat"], s["train.grad_accumulation"], s["mesh.model"])))
        )
        return made(Rung(s["mesh.fsdp"], s["model.remat"], s["train.grad_accumulation"]), *self.sizes)


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    monkeypatch.setattr(aot_table, "check_compiler", lambda: None)


@pytest.fixture
def compiler(monkeypatch, at_root):
    fake = Compiler()
    monkeypatch.setattr(aot_table, "Compilations", lambda path: Compilations(path, fake))
    return fake


def compiled(state: float, blocks: float) -> list[str]:
    tried = climb(RUNGS, lambda rung: made(rung, state, blocks))
    return [str(rung) for rung, _ in tried]


def test_the_first_that_fits_is_taken_and_nothing_after_it_is_compiled():
    assert compiled(2, 10) == ["dots"]


def test_what_cannot_fit_is_not_compiled():
    assert compiled(2, 50) == ["dots", "dots, x4"]  # half of 50, even squeezed, and a state of 2
    assert compiled(2, 26) == ["dots", "dots, x2"]  # that may fit by a little, or not: it is compiled
    assert compiled(2, 30) == ["dots", "dots, x2", "dots, x4"]


def test_more_memory_is_saved_before_the_state_is_spread():
    assert compiled(2, 80) == ["dots", "full", "full, x4"]


def test_a_state_that_is_too_large_is_spread_at_once():
    """20 GiB of state, of 16: no other setting without fsdp is compiled."""
    assert compiled(20, 8) == ["dots", "fsdp 16, dots"]


def test_where_nothing_fits_all_that_could_was_compiled():
    tried = climb(RUNGS, lambda rung: made(rung, 238, 4))
    assert not any(found["fits"] for _, found in tried)
    assert [str(rung) for rung, _ in tried] == ["dots", "fsdp 16, dots", "fsdp 16, full"]


def test_what_does_not_compile_is_passed_over():
    def measure(rung):
        return {"error": "broken"} if rung.remat == "dots" else made(rung, 2, 10)

    assert str(climb(RUNGS, measure)[-1][0]) == "full"


def test_the_ladder_of_a_recipe(at_root):
    rungs = aot_table._rungs("videomae_vitb", 256)
    assert [str(r) for r in rungs[:4]] == ["dots", "dots, x2", "full", "full, x2"]  # 8 clips a chip: not less than 4 at once
    assert {r.fsdp for r in rungs} == {1, 16, 64} and {r.model for r in rungs} == {1}
    assert {r.fsdp for r in aot_table._rungs("videomae_vitb", 16)} == {1, 16}
    tuned = aot_table._rungs("finetune_vitb", 256)  # 384 videos: 3 for each of 128, which are two chips
    assert {r.model for r in tuned} == {2} and {r.accumulation for r in tuned} == {1}


def test_every_cell_is_a_recipe_on_a_slice_of_a_known_chip(at_root):
    cells = aot_table.cells()
    assert len(cells) == len(aot_table.RECIPES) * len(aot_table.SLICES) * 2 == len({cell.name for cell in cells})
    assert {cell.chips for cell in cells} == {16, 256}
    for cell in (cell for cell in cells if cell.kind == "v4"):
        rungs = aot_table._rungs(cell.recipe, cell.chips)
        for rung in (rungs[0], rungs[-1]):
            config = aot_table.wanted(cell, rung).config()
            assert config.model.remat == rung.remat and config.train.grad_accumulation == rung.accumulation
            assert (config.train.batch_size // rung.accumulation) % (cell.chips // rung.model) == 0


def test_what_is_done_is_not_compiled_again(compiler, tmp_path):
    command = [f"--results={tmp_path / 'a.jsonl'}", "--only=videomae_vitb/v5e"]
    first = run(aot_table.main, *command)
    assert first.code == 0, first.err
    assert [(topology, rung) for _, topology, rung in compiler.asked] == [
        ("v5e:4x4", "dots"), ("v5e:4x4", "dots, x4"), ("v5e:16x16", "dots"), ("v5e:16x16", "full"),
        ("v5e:16x16", "full, x2"),
    ]  # fmt: skip
    kept = (tmp_path / "a.jsonl").read_text()
    again = run(aot_table.main, *command)
    assert again.code == 0 and len(compiler.asked) == 5 and (tmp_path / "a.jsonl").read_text() == kept
    assert again.out == first.out and not again.err


def test_it_goes_on_where_it_was_stopped(compiler, tmp_path):
    results = tmp_path / "a.jsonl"
    run(aot_table.main, f"--results={results}", "--only=videomae_vitb/v5e/16")
    lines = results.read_text().splitlines(keepends=True)
    results.write_text(lines[0])
    run(aot_table.main, f"--results={results}", "--only=videomae_vitb/v5e/16")
    assert [rung for _, _, rung in compiler.asked] == ["dots", "dots, x4", "dots, x4"]
    strip = lambda line: {k: v for k, v in json.loads(line).items() if k != "seconds"}  # noqa: E731
    assert [strip(line) for line in results.read_text().splitlines()] == [strip(line) for line in lines]


def test_a_recipe_that_changed_is_compiled_again(at_root, tmp_path):
    fake = Compiler()
    results = Compilations(tmp_path / "a.jsonl", fake)
    rung = Rung(1, "dots", 1)
    one = aot_table.wanted(CELL, rung)
    other = dataclasses.replace(one, settings=one.settings | {"train.batch_size": 1024})
    of_no_matter = dataclasses.replace(one, settings=one.settings | {"checkpoint.every": 7})
    for wanted in (one, other, of_no_matter):
        results.measure(wanted)
    assert len(fake.asked) == 2


def test_the_readme_has_the_table_between_its_marks(compiler, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    done = run(aot_table.main, f"--results={tmp_path / 'a.jsonl'}", "--only=videomae_vitb/v5e", f"--readme={readme}")
    text = readme.read_text()
    assert done.code == 0 and text == f"before\n{BEGIN}\n{done.out.rstrip()}\n{END}\nafter\n"
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(aot_table.RECIPES) * len(aot_table.SLICES) and len({len(row) for row in rows}) == 1
    (row,) = (row for row in rows if row[0] == "| `videomae_vitb`" and row[1] == "v5e")
    assert row[2:7] == ["dots, x4", "13.0 of 16.0", "200 memory", "0.10", "10,200"]
    assert "not compiled yet" in text and "By jax 1 and libtpu 2." in text
    run(aot_table.main, f"--results={tmp_path / 'a.jsonl'}", "--only=videomae_vitb/v5e", f"--readme={readme}")
    assert readme.read_text() == text


def test_what_does_not_fit_or_compile_is_written_down(monkeypatch, at_root, tmp_path):
    def broken(wanted):
        return {"error": "INTERNAL: no"} if wanted.topology.startswith("v4") else made(Rung(1, "dots", 1), 100, 1)

    results = Compilations(tmp_path / "a.jsonl", broken)
    for kind, shape in (("v4", "2x2x4"), ("v5e", "4x4")):
        aot_table.fill(Cell("finetune_vitl", kind, shape), results, lambda line: None)
    text = aot_table.table(results)
    assert "| does not compile |" in text and "`finetune_vitl/v4/16` with dots does not compile: INTERNAL: no." in text
    assert "none fits: dots | 102.0 of 16.0" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only=videomea"], "matches no cell; cells are videomae_vits/v4/16"),
        (["--only=("], "no regular expression"),
        (["--onyl=x"], "onyl"),
        (["v5e"], "unexpected argument 'v5e'"),
        (["--readme=nowhere.md"], "no such file"),
    ],
)
def test_mistakes_are_one_line(compiler, tmp_path, arguments, says):
    assert says in error_line(run(aot_table.main, f"--results={tmp_path / 'a.jsonl'}", *arguments))
    assert not compiler.asked


@pytest.mark.parametrize("text", ["no marks", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_a_readme_without_the_marks_is_refused_before_anything_is_compiled(compiler, tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    done = run(aot_table.main, f"--results={tmp_path / 'a.jsonl'}", f"--readme={tmp_path / 'README.md'}")
    assert BEGIN in error_line(done) and not compiler.asked and (tmp_path / "README.md").read_text() == text


def test_results_that_are_none_are_refused(compiler, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert "a.jsonl, line 1" in error_line(run(aot_table.main, f"--results={tmp_path / 'a.jsonl'}"))


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(compilations.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '.\[tpu\]'"):
        compilations.check_compiler()


class Process:
    """What a compilation's own process printed."""

    def __init__(self, stdout="", stderr="", returncode=0):
        self.stdout, self.stderr, self.returncode = stdout, stderr, returncode


@pytest.mark.parametrize(
    ("ended", "found"),
    [
        (Process('a warning\n{"fits": false}\n', "error: 47 GiB a chip", 1), {"fits": False}),  # an answer too
        (Process("", "one\nerror: a micro-batch does not split\n", 1), {"error": "a micro-batch does not split"}),
        (Process("", "", -9), {"error": "ended with -9 and said nothing"}),
    ],
)
def test_a_process_ends_with_figures_or_with_a_line(monkeypatch, ended, found):
    asked = []
    monkeypatch.setattr(compilations.subprocess, "run", lambda command, **options: asked.append(command) or ended)
    assert compilations.in_a_process(Compilation("configs/r.py", "v5e:4x4", {"model.remat": "dots"})) == found
    assert asked[0][1:] == ["-m", "vssl_jax.aot", "--config=configs/r.py", "--topology=v5e:4x4", "--json", "--config.model.remat=dots"]


def test_a_process_that_does_not_end_is_given_up(monkeypatch):
    def never(command, timeout, **options):
        raise compilations.subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(compilations.subprocess, "run", never)
    assert compilations.in_a_process(Compilation("configs/r.py", "v5e:4x4")) == {"error": "not done within 60 minutes"}
