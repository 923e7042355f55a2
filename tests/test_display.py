"""How far a run is: bars on a terminal, elsewhere lines."""

import re
import sys
import threading
import time
from pathlib import Path

import pytest

from neuropil.runs import Row, Run
from neuropil.runs.display import Display
from neuropil.sweeps.progress import Progress


@pytest.fixture
def run(tmp_path):
    run = Run.start(tmp_path / "run", recipe="toy", config={}, command="neuropil run toy --lr 0.1")
    yield run
    run.close()


class Terminal:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self): ...

    def isatty(self):
        return True


def test_a_terminal_sees_what_is_running(run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in run.loop("learners", 2):
        for epoch in run.loop("features [a]", 3):
            run.log(Row(kind="epoch", metrics={"epoch": epoch, "loss": 0.25, "seed": 1}))
            time.sleep(0.15 if epoch == 2 else 0)  # the screen is drawn ten times a second
    for word in ("learners", "  features [a]", "1/2", "2/3", "0:00:00", "left", "loss 0.25"):
        assert word in sys.stderr.text
    assert "seed" not in sys.stderr.text


def test_the_bar_of_a_loop_that_goes_on_begins_where_it_was(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    display = Display("toy")
    display.enter("epochs", 7, 5)
    assert [(task.completed, task.total) for task in display._bars.tasks] == [(5, 7)]
    display.leave()


def test_inner_bars_appear_though_a_live_display_hides_the_terminal(run, monkeypatch):
    """Versions of rich below 15 put something that is no terminal in the place of stderr."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for _ in run.loop("outer", 1):
        monkeypatch.setattr(terminal, "isatty", lambda: False)
        for _ in run.loop("inner", 2):
            time.sleep(0.15)
    assert "inner" in terminal.text
    assert "[toy]" not in terminal.text


def test_a_file_or_a_pipe_gets_a_line_for_each_stage_and_no_bars(run, capfd, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    display = Display("toy, seed 3")
    display.enter("seeds", 2, 0)
    display.enter("readout", 4, 0)
    for _ in range(4):
        display.advance()
    display.leave()
    display.advance()
    display.enter("readout", 4, 4)  # done before the run was resumed
    display.leave()
    display.advance()
    display.leave()
    display.enter("long", 100, 50)
    for _ in range(8):
        display.advance()
    assert capfd.readouterr() == (
        "",
        "[toy, seed 3] seeds 1/2 > readout 4/4: 60.0 s, about 60 s left\n"
        "[toy, seed 3] long 57/100: 80.0 s, about 8 min left\n",
    )
    quiet = Display(quiet=True)
    quiet.enter("seeds", 1, 0)
    quiet.advance()
    quiet.leave()
    assert capfd.readouterr() == ("", "")


def test_a_stage_within_a_loop_that_went_on_late_has_its_line_too(capfd):
    display = Display("toy")
    display.enter("seeds", 10, 9)
    display.enter("readout", 4, 0)
    for _ in range(4):
        display.advance()
    display.leave()
    assert capfd.readouterr().err.startswith("[toy] seeds 10/10 > readout 4/4: ")
    display.leave()


def test_an_iteration_that_takes_long_says_where_the_run_is(capfd):
    display = Display("toy", patience=0.04)
    display.enter("epochs", 3, 0)
    time.sleep(0.3)
    display.leave()
    said = capfd.readouterr().err.splitlines()
    assert 2 <= len(said) <= 8
    assert re.fullmatch(r"\[toy\] epochs 0/3: 0\.\d s", said[0])
    time.sleep(0.15)
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_may_end_while_the_reminder_looks_at_it(monkeypatch):
    display, here, clock, left = Display("toy", patience=0.01), threading.get_ident(), time.monotonic, []

    def now():
        if threading.get_ident() != here and not left:
            left.append(display.leave())
        return clock() + 1

    display.enter("epochs", 3, 0)
    monkeypatch.setattr("time.monotonic", now)
    time.sleep(0.2)
    assert left == [None]


def test_a_long_run_says_soon_how_long_it_will_take(capfd):
    display, began, said = Display("toy", patience=8.0), time.monotonic(), ""
    display.enter("epochs", 100_000, 0)
    display.advance()
    while not said and time.monotonic() - began < 7.5:
        time.sleep(0.1)
        said = capfd.readouterr().err.strip()
    display.leave()
    assert re.fullmatch(r"\[toy\] epochs 1/100000: \d\.\d s, about \d+ (min|h|days) left", said)


def test_what_is_left_is_at_least_what_an_inner_loop_needs(capfd, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    display = Display("toy", patience=40.0)
    display.enter("learners", 2, 0)
    display.advance()  # the first one took no time
    display.enter("epochs", 1000, 0)
    for _ in range(5):
        display.advance()
    (said,) = capfd.readouterr().err.splitlines()
    assert said == f"[toy] learners 2/2 > epochs 5/1000: 70.0 s, about {995 * 70 / 5 / 3600:.0f} h left"


def test_a_sweep_that_goes_on_estimates_by_the_runs_since_then(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    shown = Progress(30, 8, 1, str, Path, quiet=False)
    for _ in range(2):
        now[0] += 50
        shown.ended("lr 0.1, seed 0", "done")
    assert capsys.readouterr().err.splitlines()[-1] == "[sweep] 10/30 lr 0.1, seed 0: done (about 17 min left)"
