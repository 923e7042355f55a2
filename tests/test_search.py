"""Proposals do not depend on when a search was stopped, and runs end alike on every engine."""

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from neuropil.cli.sweep_plan import _threads
from neuropil.cli.sweeper import _value
from neuropil.errors import Refusal
from neuropil.report.figures.sweep_figures import panels_of
from neuropil.report.sweep_results import SweepResults, Tried
from neuropil.sweeps.axes import axes_of, axis_of
from neuropil.sweeps.engines import ray, slurm
from neuropil.sweeps.folder import FAILED, Sweep
from neuropil.sweeps.pool import run_all
from neuropil.sweeps.search import JOURNAL, Search
from report_runs import LOCAL, make, result

SPACE = axes_of(["lr=1e-4..1:log", "k=2..9", "pool=max,mean"], search=True)


def score(setting):
    """A closed form with its top at lr = 0.01, k = 5, mean."""
    lr, k = math.log10(float(setting["lr"])) + 2, int(setting["k"]) - 5
    return 1 - 0.1 * lr**2 - 0.02 * k**2 - 0.1 * (setting["pool"] == "max")


def search(folder, rounds, known, trials, *, stopped=False):
    """Rounds of two proposals; `stopped` at every step, with a line half written and a proposal that no one kept."""
    room = Search(folder, SPACE, 3, trials)
    for _ in range(rounds):
        if stopped:
            room.ask(len(known), known)
            with open(folder / JOURNAL, "a") as journal:
                journal.write('{"op_code": 4, "worker')
            room = Search(folder, SPACE, 3, trials)
        for index in (len(known), len(known) + 1):
            number, setting = room.ask(index, known)
            known.append(setting)
            trials.append(number)
        for number, setting in zip(trials, known):
            if stopped:
                room = Search(folder, SPACE, 3, trials)
            if number not in room.told:
                room.tell(number, score(setting))
    return known


def test_a_search_that_was_stopped_proposes_what_it_would_have(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = search(tmp_path / "a", 30, [], [])
    assert search(tmp_path / "b", 8, [], [], stopped=True) == whole[:16]
    assert all(1e-4 <= float(one["lr"]) <= 1 and 2 <= int(one["k"]) <= 9 for one in whole)
    assert len({tuple(one.values()) for one in whole}) == 60
    mean = lambda some: sum(map(score, some)) / len(some)
    assert mean(whole[40:]) > mean(whole[:20]) + 0.1  # it has learned where the top is
    (tmp_path / "a" / JOURNAL).write_text("{}\n")
    with pytest.raises(Refusal, match=r"journal\.log is damaged"):
        Search(tmp_path / "a", SPACE, 3, [0])


def test_a_line_that_was_cut_off_is_dropped_where_the_disk_is_full(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    search(tmp_path, 1, [], [])
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"op_code": 4, "worker')

    def full(path, data):
        path.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    Search(tmp_path, SPACE, 3, [0, 1])
    assert (tmp_path / JOURNAL).read_bytes().startswith(whole)


def test_a_range_with_log_is_searched_by_ratios_and_another_evenly(tmp_path):
    pytest.importorskip("optuna")
    space = axes_of(["n=1..10000:log", "x=1e-4..1:log", "m=1..10000", "y=0..1.0"], search=True)
    room, known = Search(tmp_path, space, 0, []), []
    for index in range(10):  # at random, before anything is learned
        known.append(room.ask(index, known)[1])
    low = {axis.name: sum(float(one[axis.name]) < 0.01 * float(axis.values[1]) for one in known) for axis in space}
    assert min(low["n"], low["x"]) >= 3
    assert max(low["m"], low["y"]) <= 1


def test_a_search_ends_where_nothing_is_new(tmp_path):
    pytest.importorskip("optuna")
    axes, known = axes_of(["k=1..2", "fast=true,false"], search=True), []
    room = Search(tmp_path, axes, 0, [])
    while (found := room.ask(len(known), known)) is not None:
        known.append(found[1])
        room.tell(found[0], 0.5)
    assert sorted(tuple(one.values()) for one in known) == [
        ("1", "false"),
        ("1", "true"),
        ("2", "false"),
        ("2", "true"),
    ]


@pytest.mark.parametrize(("engine", "package"), [(slurm, "submitit"), (ray, "ray")])
def test_jobs_answer_or_are_lost(engine, package, tmp_path):
    pytest.importorskip(package)
    pool = engine.Engine(tmp_path, 1, {}, "")
    work = {"k=1,2": axis_of, "3": lambda code: os._exit(int(code))}
    ended = {word: outcome for word, outcome in run_all(work, lambda word: pool.start(work[word], word), 2) if outcome}
    assert ended["k=1,2"] == axis_of("k=1,2")
    outcome = ended["3"]
    assert outcome.kind == "lost"
    assert "ended without an answer" in outcome.reason


@pytest.mark.parametrize(("engine", "package"), [(slurm, "submitit"), (ray, "ray")])
def test_resources_that_an_engine_does_not_know_are_refused_in_one_line(engine, package, tmp_path):
    pytest.importorskip(package)
    with pytest.raises(Refusal, match=r"the engine takes no --resources slurm_partitoin=cpu \(\w+: .* --resume FOLDER"):
        engine.Engine(tmp_path, 1, {"slurm_partitoin": "cpu"}, "").start(axis_of, "k=1")


def test_slurm_is_told_the_resources_that_were_asked_for(tmp_path, monkeypatch):
    told = {}
    make = lambda folder: SimpleNamespace(update_parameters=told.update)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=make))
    slurm.Engine(tmp_path, 3, {"timeout_min": 30, "slurm_partition": "gpu"}, "")
    assert told == {"name": "neuropil", "cpus_per_task": 3, "timeout_min": 30, "slurm_partition": "gpu"}


def test_the_command_on_the_test_set_has_the_seeds_of_the_sweep(tmp_path):
    facts = {"settings": [{"lr": "0.3"}], "seeds": [5, 6], "plain": ["neuropil", "run", "mnist_krotov"], "switches": []}
    command = Sweep(tmp_path, facts).command({"lr": "0.3"})
    assert command == "neuropil run mnist_krotov --lr 0.3 --seed 5 --seeds 2"


def test_a_search_is_told_the_mean_over_seeds_and_nothing_of_a_setting_that_failed_with_one(tmp_path):
    sweep = Sweep(tmp_path, {"settings": [{"lr": "1"}, {"lr": "9"}], "seeds": [0, 1]})
    for place in sweep.places():
        folder = sweep.at(place)
        if place == (1, 1):
            folder.mkdir(parents=True)
            (folder / FAILED).write_text("it diverged.")
        else:
            make(folder, [result(seed=place.seed, accuracy=0.7 + 0.2 * place.seed + 0.1 * place.setting)])
    assert _value(sweep, 0, LOCAL) == pytest.approx(0.8)
    assert _value(sweep, 1, LOCAL) == 0.0


def test_a_setting_whose_runs_are_not_all_done_is_not_chosen():
    whole, failed, running = (
        Tried(number, {}, {0: accuracy}, reasons, left, 1.0)
        for number, accuracy, reasons, left in ((1, 0.7, {}, []), (2, 0.8, {1: "diverged"}, []), (3, 0.9, {}, [1]))
    )
    assert SweepResults(None, "a", "d", {"a": [running, failed, whole]}).chosen is whole
    assert SweepResults(None, "a", "d", {"a": [running, failed]}).chosen is None


def test_the_line_in_the_figure_of_a_sweep_joins_the_best_settings_of_each_value():
    reached = {("0.3", "2"): 0.71, ("0.1", "2"): 0.83, ("0.1", "7"): 0.9, ("0.3", "7"): 0.62}
    some = [
        Tried(number, dict(zip(("lr", "k"), names)), {0: mean - 0.01, 1: mean + 0.01}, {}, [], 1.0)
        for number, (names, mean) in enumerate(reached.items(), 1)
    ]
    sweep = SimpleNamespace(settings=[one.setting for one in some])
    panels = panels_of(SweepResults(sweep, "a", "d", {"a": some}))
    for panel, best in zip(panels, ({0.1: 90, 0.3: 71}, {2.0: 83, 7.0: 90}), strict=True):
        axes = Figure().add_subplot()
        panel.plot(axes)
        joined = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
        assert [dict(zip(*line.get_data())) for line in joined] == [pytest.approx(best)]


def test_the_runs_of_a_sweep_share_the_threads_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    job = lambda threads: SimpleNamespace(config=SimpleNamespace(threads=threads))
    found = [_threads(job(0), workers, engine) for workers, engine in ((1, "local"), (3, "local"), (9, "local"))]
    assert found == [7, 2, 1]
    assert (_threads(job(5), 3, "local"), _threads(job(0), 3, "slurm")) == (5, 1)
