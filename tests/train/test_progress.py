"""The display against a clock that the test turns and streams that remember what they were sent."""

import io

import pytest

from vssl_jax.train import progress
from vssl_jax.train.progress import Progress, format_seconds, parameter_table


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def screen(self) -> list[str]:
        """What a terminal shows: \\r goes to the line's start, ESC[K clears to its end."""
        lines = [""]
        for part in self.getvalue().replace("\r\x1b[K", "\0").split("\n"):
            lines[-1] += part
            lines.append("")
        return [line.split("\0")[-1] for line in lines[:-1]]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


ALL = {"loss": 0.51234, "clips_per_second": 48.25, "mfu": 0.3125, "data_wait": 0.03, "other": 9.0}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_shows_one_line_with_everything():
    out, clock = Terminal(), Clock()
    with Progress(1000, 0, out, clock=clock) as p:
        p.update(100, ALL)
        clock.now = 10.0
        p.update(200, ALL)
        assert len(out.screen()) == 1
        line = out.screen()[0]
    for text in ("step 200/1000", "loss 0.5123", "ETA 1:20", "48.25 clips/s", "MFU 31.2%", "data wait 3%"):
        assert text in line
    assert "9" not in line.replace("0.5123", "") and out.getvalue().endswith("\n")


@pytest.mark.parametrize("columns", [12, 30, 45, 60, 200])
def test_the_line_never_wraps_and_keeps_the_step(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    Progress(1000, 0, out, clock=Clock()).update(500, ALL)
    assert len(out.screen()[0]) < columns and "step 500" in out.screen()[0]


def test_the_bar_fills_in_proportion(monkeypatch):
    monkeypatch.setattr(progress, "_DRAW_SECONDS", 0.0)
    out = Terminal()
    with Progress(240, 0, out, clock=Clock()) as p:
        filled = []
        for step in (0, 60, 120, 240):
            p.update(step, {})
            bar = out.screen()[0].split("|")[1]
            filled.append(bar.count("█") / len(bar))
    assert filled[0] == 0 and filled[-1] == 1 and filled == sorted(filled) and abs(filled[2] - 0.5) < 0.05


def test_an_ascii_terminal_gets_an_ascii_bar():
    out = Terminal()
    out.encoding = "ascii"
    Progress(10, 0, out, clock=Clock()).update(5, ALL)
    assert out.getvalue().isascii() and "#" in out.getvalue()


def test_without_a_terminal_plain_lines_come_at_their_interval():
    out, clock = io.StringIO(), Clock()
    with Progress(100, 0, out, plain_seconds=30, clock=clock) as p:
        for step in range(1, 101):
            clock.now = step - 1.0
            p.update(step, {"loss": 1.0 / step})
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "31/100", "61/100", "91/100", "100/100"]
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()
    assert "ETA --:--" in lines[0] and "ETA 1:09" in lines[1] and "ETA" not in lines[-1]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    Progress(10, 0, out, clock=Clock()).update(5, ALL)
    assert "\x1b" not in out.getvalue()


def test_time_left_of_a_resumed_run_knows_only_its_own_speed():
    clock = Clock()
    p = Progress(1000, 900, Terminal(), clock=clock)
    clock.now = 300.0  # compiling
    p.update(901, {})
    assert p.eta_seconds() is None
    clock.now = 302.0
    p.update(902, {})
    assert p.eta_seconds() == pytest.approx(196.0)


def test_an_interrupted_run_ends_with_its_newest_step():
    out, clock = io.StringIO(), Clock()
    with Progress(100, 0, out, clock=clock) as p:
        p.update(1, {})
        p.update(2, {"loss": 3.0})
    assert out.getvalue().splitlines()[-1].startswith("step 2/100  loss 3")


def test_other_processes_show_nothing():
    out = Terminal()
    with Progress(10, 0, out, enabled=False) as p:
        p.update(10, ALL)
    assert out.getvalue() == ""


def test_seconds_read_well():
    assert [format_seconds(s) for s in (0.4, 59.6, 3700, 200000)] == ["0:00", "1:00", "1:01:40", "2d 7h"]


def test_the_parameter_table_adds_up():
    text = parameter_table(
        [
            ("encoder/kernel", (12, 768, 3072), "P(None, 'fsdp')", 0.05, 28311552),
            ("encoder/bias", (3072,), "P()", 0.0, 3072),
            ("encoder/position", (8, 4), "P()", None, 32),
            ("scale", (), "P()", 0.0, 1),
        ]
    )
    lines = text.splitlines()
    assert len({len(line) for line in lines[:-1]}) == 1, "columns line up"
    assert "12x768x3072" in lines[2] and lines[2].endswith("0.05  28,311,552") and "frozen" in lines[4] and "scalar" in lines[5]
    assert lines[-1] == "28,314,657 parameters in 4 arrays; 28,311,552 with weight decay; 32 frozen"
