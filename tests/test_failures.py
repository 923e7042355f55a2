"""A comparison always finishes: who cannot take the data is left out, who diverges has failed, the others go on."""

import gc
import json
import math
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from neuropil import BackpropClassifier, Hebb, LocalLearning, Split, SupervisedTraining, compare, dense_body
from neuropil.cli import main
from neuropil.data import digits, list_sets, set_names
from neuropil.errors import Diverged, Refusal, enough_memory
from neuropil.evaluate import label_counts
from neuropil.experiments.baselines import linear
from neuropil.experiments.comparison import Comparison, Method, data_splits, run_methods
from neuropil.experiments.methods import builders
from neuropil.experiments.pairs import pair_comparisons, run_pair_comparisons
from neuropil.report.tables import markdown
from neuropil.runs import EpochRow, NullTracker, Run, read

SOME = ("association", "hard_wta", "mstdp", "plain_linear")
FAST = SupervisedTraining(epochs=2, min_steps=1)


def picky(train, rng):
    raise Refusal("it needs cats, got digits.")


def runaway(train, rng):
    return BackpropClassifier(dense_body(train, 20, n=2.0), training=SupervisedTraining(epochs=2, lr=1e30))


def buggy(train, rng):
    return 1 / 0


class Unsure:
    """Has no opinion: its scores are NaN, whose largest is always the first class."""

    def fit(self, train, *, rng, tracker=None):
        return self

    def decision_function(self, x):
        return torch.full((len(x), 10), math.nan)

    def predict(self, x):
        return torch.zeros(len(x), dtype=torch.int64)


class Held:
    """Stands for a large tensor."""


class Hungry(Unsure):
    """Fails with much in hand, as does a fit that runs out of memory while its progress is shown."""

    held = None

    def fit(self, train, *, rng, tracker=None):
        kept = Held()
        type(self).held = weakref.ref(kept)
        try:
            raise MemoryError
        except MemoryError as error:
            error.me = error, kept  # frames of an error hold the error, and what is in them
            raise


def test_what_a_failed_learner_held_is_free_before_the_next_one(tmp_path):
    seen = []
    gc.disable()
    try:
        nosy = lambda train, rng: seen.append(Hungry.held()) or linear(train, rng, training=FAST)
        compare({"hungry": lambda train, rng: Hungry(), "nosy": nosy}, "digits", seeds=1, out=tmp_path / "out")
    finally:
        gc.enable()
    assert seen == [None]


@pytest.fixture
def some():
    return tuple(part[:200] for part in digits(seed=0))


def test_who_refuses_is_left_out_who_diverges_has_failed_and_the_others_go_on(tmp_path, capsys):
    quick = lambda train, rng: linear(train, rng, training=FAST)
    models = {"picky": picky, "runaway": runaway, "unsure": lambda train, rng: Unsure(), "linear": quick}
    rows = compare(models, "digits", seeds=2, out=tmp_path / "out")
    failed = {(row["learner"], row["seed"]): row for row in rows if row["kind"] == "failed"}
    assert set(failed) == {(name, seed) for name in ("picky", "runaway", "unsure") for seed in (0, 1)}
    assert [failed[name, 0]["diverged"] for name in ("picky", "runaway", "unsure")] == [False, True, True]
    assert "its loss is nan in epoch" in failed["runaway", 1]["reason"]
    assert "the scores of 359 of 359 test examples are NaN" in failed["unsure", 0]["reason"]
    assert [row["seed"] for row in rows if row["kind"] == "result"] == [0, 1]
    told = " ".join(capsys.readouterr().out.split())
    assert "picky, left out: it needs cats, got digits (seeds 0–1)." in told
    assert "2 failed" in told
    page = (tmp_path / "out/report.html").read_text()
    assert "picky, left out: it needs cats, got digits" in page
    assert re.search(r'<th scope="row">.*picky.*</th>(\s*<td.*>.*</td>)*\s*<td.*>it needs cats</td>', page)
    (row,) = (line for line in markdown([tmp_path / "out"]).splitlines() if line.startswith("| picky"))
    assert row == "| picky | 2 left out | – | – | – | it needs cats |"
    summary = json.loads((tmp_path / "out/results.json").read_text())["summary"]
    assert {one["learner"]: len(one["failed"]) for one in summary} == {
        "linear": 0,
        "picky": 2,
        "runaway": 2,
        "unsure": 2,
    }


def test_who_asks_for_more_memory_than_there_is_has_failed(tmp_path, capsys):
    words = ["--learners", "krotov_hopfield", "linear", "--units", str(10**9), "--n-train", "60", "--seeds", "1"]
    assert main(["compare", "--data", "digits", *words, "--out", str(tmp_path / "a")]) == 0
    rows = read(tmp_path / "a").rows
    (failed,) = [row for row in rows if row["kind"] == "failed"]
    assert failed["reason"].startswith("there is not enough memory for 238.4 GiB at once; ask for fewer units")
    assert [row["learner"] for row in rows if row["kind"] == "result"] == ["linear"]
    assert "not enough memory" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "fault", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB."), MemoryError()]
)
def test_memory_that_ran_out_is_a_refusal(fault):
    with pytest.raises(Refusal, match=r"there is not enough memory for (2.50 GiB at once|it all)"), enough_memory():
        raise fault
    with pytest.raises(Refusal, match="not enough memory for it all; ask for fewer"), enough_memory():
        raise RuntimeError("can't allocate memory: you tried to allocate 40960 bytes.")  # the last straw is no cause
    with pytest.raises(RuntimeError, match="another"), enough_memory():
        raise RuntimeError("another")


def test_a_fault_of_the_program_is_not_hidden(some):
    with pytest.raises(ZeroDivisionError):
        compare({"buggy": buggy, "linear": linear}, some, seeds=1)


def test_where_nobody_has_a_result_there_is_still_a_report(some, tmp_path):
    assert all(row["kind"] != "result" for row in compare({"picky": picky}, some, seeds=1, out=tmp_path / "out"))
    assert "left out: it needs cats" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(("learners", "code"), [("mstdp plain_linear", 0), ("mstdp astdp", 3)])
def test_the_exit_code_says_whether_anybody_had_a_result(learners, code, tmp_path, capsys):
    words = f"compare --data iris --seeds 1 --learners {learners} --out".split()
    assert main([*words, str(tmp_path / "out")]) == code
    assert "mSTDP, left out: an associative network needs pixels in [0, 1]" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(tmp_path / "out")]) == 0


class Killed(BaseException):
    pass


class Ending:
    """Diverges in the second pass, and counts its steps with `tick`."""

    def __init__(self, tick):
        self.tick = tick

    def fit(self, train, *, rng, tracker):
        state = torch.zeros(2)
        for epoch in tracker.loop("work", 3, state=state, rng=rng):
            state += torch.rand(2, generator=rng)
            tracker.log(EpochRow(epoch=epoch, metrics={"loss": state.sum().item()}))
            self.tick()
            if epoch == 1:
                raise Diverged(f"at {state.sum().item()}")


def test_killed_before_or_after_a_failure_a_run_ends_as_if_it_had_not_been(some, tmp_path):
    def go(run, kill=None):
        ticks = iter(range(100))

        def tick(*_):
            if next(ticks) == kill:
                raise Killed

        quick = lambda train, rng: linear(train, rng, training=FAST)
        builds = {"ending": lambda train, rng: Method("Ending", "local", Ending(tick)), "linear": quick, "again": picky}
        plan, run.every = Comparison(builds, "digits", [0], None), 0
        try:
            run_methods(plan, *some, seed=0, labels=(20,), run=run, after=tick)
            run.finish()
        finally:
            run.close()
        rows = [{**row, "seconds": 0, "peak_mb": 0} for row in read(run.folder).rows]
        assert [row["learner"] for row in rows if row["kind"] == "failed"] == ["Ending", "again"]
        return rows

    start = lambda name: Run.start(tmp_path / name, recipe="compare", config={}, command="neuropil compare")
    whole = go(start("whole"))
    for kill in range(3):
        with pytest.raises(Killed):
            go(start(f"{kill}"), kill)
        assert go(Run.resume(tmp_path / f"{kill}")) == whole


def test_numbers_of_labels_that_leave_a_class_without_one_are_left_out_or_refused():
    rare = Split(torch.rand(100, 2), (torch.arange(100) % 50 == 0).long(), 2)
    assert label_counts((10, 50, len(rare), 200), rare, seed=0) == [50]
    with pytest.raises(Refusal, match=r"every class needs a label, got labels \[5, 10\] for 2 classes"):
        label_counts((5, 10), rare, seed=0)


@pytest.mark.parametrize("name", set_names())
def test_with_60_examples_every_data_set_gives_every_method_a_row(name, tmp_path):
    if not {row.name: row for row in list_sets()}[name].present:
        pytest.skip("needs the files of the data set")
    builds = builders(SOME, 10)
    train, test = data_splits(name, 60, 0)
    run = Run.start(tmp_path / "run", recipe="compare", config={}, command="neuropil compare")
    run_methods(Comparison(builds, name, [0], None), train, test[:100], seed=0, labels=(), run=run)
    run.finish()
    rows = [row for row in read(run.folder).rows if row["kind"] in ("result", "failed")]
    assert len({row["learner"] for row in rows}) == len(rows) == len(builds)
    left_out = {row["learner"] for row in rows if row["kind"] == "failed" and not row["diverged"]}
    assert left_out == ({"mSTDP"} if name == "iris" else set())


def test_a_batch_larger_than_the_data_is_all_of_the_data(some):
    few = some[0][:7]
    weights = []
    for batch in (100, 7):
        body = dense_body(few, 5, n=1.0)
        torch.nn.init.normal_(body.hidden.weight, generator=torch.Generator().manual_seed(0))
        before = body.hidden.weight.clone()
        learning = LocalLearning({"hidden": Hebb()}, epochs=2, batch=batch)
        learning.fit_(body, few, rng=torch.Generator().manual_seed(1), tracker=NullTracker())
        assert not torch.equal(body.hidden.weight, before)
        weights.append(body.hidden.weight)
    assert torch.equal(*weights)


def test_a_method_that_fails_on_a_pair_has_no_mean_and_the_others_go_on(tmp_path):
    three = tuple(Split(part.x[part.y < 3][:90], part.y[part.y < 3][:90], 3) for part in digits(seed=0))

    def afraid(train, rng):
        if train.checksum() == pairs[1].splits(0)[0].checksum():
            raise Refusal("it does not like zeros and twos.")
        return quick(train, rng)

    quick = lambda train, rng: linear(train, rng, training=FAST)
    diverging = lambda train, rng: Method("runaway", "local", runaway(train, rng))
    whole = Comparison({"afraid": afraid, "runaway": diverging, "linear": quick}, "digits", [0], lambda _: three)
    pairs, run = pair_comparisons(whole, (), 0), Run.start(tmp_path / "run", recipe="x", config={}, command="x")
    run_pair_comparisons(whole, pairs, run)
    run.finish()
    rows = read(run.folder).rows
    failed = [(row["learner"], row["reason"][:5], row["diverged"]) for row in rows if row["kind"] == "failed"]
    assert failed == [
        ("runaway", "0 1: ", True),
        ("afraid", "0 2: ", False),
        ("runaway", "0 2: ", True),
        ("runaway", "1 2: ", True),
    ]
    assert [row["learner"] for row in rows if row["kind"] == "result"] == ["linear"]
    rare = Split(three[0].x[:40], (torch.arange(40) > 0).long() * (1 + torch.arange(40) % 2), 3)
    with pytest.raises(Refusal, match=r"subset\(n=10\) leaves no example of class 0"):
        pair_comparisons(whole._replace(splits=lambda _: (rare, three[1])), (), 10)


class Bare:
    """Fits and predicts, and no more."""

    def fit(self, train, *, rng, tracker=None):
        return self

    def predict(self, x):
        return torch.zeros(len(x), dtype=torch.int64)


def test_pairs_of_a_run_that_was_killed_have_the_mean_of_all_pairs(tmp_path):
    three = tuple(Split(part.x[part.y < 3][:90], part.y[part.y < 3][:90], 3) for part in digits(seed=0))

    def go(run, kill=None):
        ticks, run.every = iter(range(100)), 0
        built.append(run.folder.name)

        def build(train, rng):
            if next(ticks) == kill:
                raise Killed
            built.append("one")
            return linear(train, rng, training=FAST)

        whole = Comparison({"linear": build}, "digits", [0], lambda _: three)
        try:
            run_pair_comparisons(whole, pair_comparisons(whole, (), 0), run)
            run.finish()
        finally:
            run.close()
        return [{**row, "seconds": 0, "peak_mb": 0} for row in read(run.folder).rows]

    built = []
    start = lambda name: Run.start(tmp_path / name, recipe="x", config={}, command="x")
    whole = go(start("whole"))
    with pytest.raises(Killed):
        go(start("cut"), 2)
    assert go(Run.resume(tmp_path / "cut")) == whole
    assert built == ["whole", *["one"] * 3, "cut", *["one"] * 2, "cut", "one"]
    assert [row["kind"] for row in whole].count("pair") == 3


def test_what_cannot_be_measured_after_the_result_is_a_warning(some, tmp_path):
    def after(*_):
        raise Refusal("two examples are needed.")

    run = Run.start(tmp_path / "run", recipe="compare", config={}, command="x")
    plan = Comparison({"linear": lambda train, rng: linear(train, rng, training=FAST)}, "digits", [1], None)
    run_methods(plan, *some, seed=0, labels=(20,), run=run, after=after)
    run.close()
    said = {row["kind"]: row for row in read(run.folder).rows}
    assert "two examples are needed" in said["warning"]["message"]
    assert {"result", "labels"} <= set(said)


def test_a_model_that_only_fits_and_predicts_has_its_result_and_is_told_what_it_lacks(some, tmp_path):
    rows = compare({"bare": lambda train, rng: Bare()}, some, seeds=1, labels=[20], out=tmp_path / "out")
    zeros = (some[1].y == 0).double().mean().item()
    assert [row["accuracy"] for row in rows if row["kind"] == "result"] == [pytest.approx(zeros)]
    said = " ".join(row["message"] for row in rows if row["kind"] == "warning")
    assert "cannot be attacked: it has no save(path, about=...)" in said
    assert "no accuracy with 20 labels: the model has no refit_readout" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run digits_mstdp --n-samples 1", "'n_samples' needs a number >= 2, got 1"),
        ("compare --data digits --n-train 5", "subset"),
        ("compare --data digits --labels 5", "every class needs a label, got labels [5] for 10 classes"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_learns(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


ASKS = """
import mmap
from pathlib import Path
from neuropil.cli.app import bound_memory
bound_memory()
kept, there = [], int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) >> 20
try:
    for _ in range(there + 64):  # GiB, none of which is touched
        kept.append(mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
except OSError:
    print(there + 16 >= len(kept) >= there // 2)
"""


@pytest.mark.skipif(not Path("/proc/meminfo").exists() or Path("/proc/driver/nvidia").exists(), reason="not bound here")
def test_a_command_gets_no_more_memory_than_there_is_instead_of_being_killed():
    done = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr
