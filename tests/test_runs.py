"""Runs: what is written, that it reads back whole, and what is refused."""

import errno
import json
import math
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neuropil
from neuropil.errors import Refusal
from neuropil.runs import EpochRow, ResultRow, Row, Run, TaggedTracker, parse_row, read
from neuropil.runs.checkpoint import load
from neuropil.runs.files import append_line, write_atomically


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    hidden: tuple[int, ...] = (3, 2)
    where: Path = Path("data")


def row_of(kind, **columns):
    return Row(kind=kind, metrics=columns)


@pytest.fixture
def run(tmp_path):
    run = Run.start(tmp_path / "run", recipe="toy", config=Config(), command="neuropil run toy --lr 0.1")
    yield run
    run.close()


def same(a, b):
    """Equal in type, order and every bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


# what is written


def test_a_run_says_what_it_is_before_it_begins(run):
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["recipe"] == "toy"
    assert facts["command"] == "neuropil run toy --lr 0.1"
    assert facts["config"] == {"lr": 0.1, "hidden": [3, 2], "where": "data"}
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["neuropil"] == neuropil.__version__
    assert facts["machine"]["cores"] == os.cpu_count()
    assert facts["machine"]["threads"] == torch.get_num_threads()
    assert facts["finished"] is None
    assert not read(run.folder).finished


def test_a_finished_run_reads_back(run):
    weight = torch.randn(3, 2, dtype=torch.bfloat16)
    run.update_metadata(data={"mnist": {"train": "abc"}})
    run.update_metadata(data={"digits": {"train": "def"}, "mnist": {"test": "ghi"}}, remark="fine")
    run.log(row_of("result", learner="linear", accuracy=0.1 + 0.2, matrix=[[1, 0], [0, 1]]))
    run.save(**{"layers.0.weight": weight, "steps": torch.tensor(7)})
    run.save(steps=torch.tensor(8), other=weight.t())
    run.finish()
    record = read(str(run.folder))
    assert record.finished
    assert (record.recipe, record.config["lr"]) == ("toy", 0.1)
    assert record.facts["data"] == {"mnist": {"train": "abc", "test": "ghi"}, "digits": {"train": "def"}}
    assert record.facts["remark"] == "fine"
    assert record.facts["seconds"] > 0
    assert record.facts["peak_memory_mb"] > 10
    assert record.rows == [{"kind": "result", "learner": "linear", "accuracy": 0.1 + 0.2, "matrix": [[1, 0], [0, 1]]}]
    want = {"layers.0.weight": weight, "steps": torch.tensor(8), "other": weight.t()}
    got = record.tensors()
    assert set(got) == set(want)
    assert all(same(got[name], want[name]) for name in want)
    assert sorted(path.name for path in run.folder.iterdir()) == ["metrics.jsonl", "run.json", "weights.safetensors"]


def test_a_run_that_wrote_nothing_reads_back(run):
    assert read(run.folder).rows == []
    assert read(run.folder).tensors() == {}


def test_numbers_in_rows_keep_every_bit(run):
    floats = [*torch.randn(200, dtype=torch.float64).mul(1e-9).tolist(), -0.0, 5e-324, 1e308]
    run.log(
        row_of(
            "numbers",
            floats=floats,
            single=np.float32(0.1),
            tensor=torch.tensor(0.1),
            array=np.arange(3),
            no=math.nan,
            end=-math.inf,
        )
    )
    json.loads((run.folder / "metrics.jsonl").read_text(), parse_constant=pytest.fail)  # strict JSON has no NaN
    (row,) = read(run.folder).rows
    assert row["floats"] == floats
    assert math.copysign(1, row["floats"][-3]) == -1
    assert (row["single"], row["tensor"], row["array"]) == (float(np.float32(0.1)), float(np.float32(0.1)), [0, 1, 2])
    assert math.isnan(row["no"])
    assert math.isnan(row["end"])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_setting_that_json_cannot_hold_is_refused_and_leaves_no_folder(tmp_path, value):
    with pytest.raises(Refusal, match="setting 'lr' needs a finite number"):
        Run.start(tmp_path / "new", recipe="toy", config={"lr": value}, command="")
    assert not (tmp_path / "new").exists()


def test_a_row_reads_back_as_it_was_written_with_unknown_columns_beside_it(run):
    for row in (
        ResultRow(learner="a", seed=3, accuracy=0.5, metrics={"spikes": 7}),
        Row(kind="mine", metrics={"x": 1}),
    ):
        run.log(row)
        assert parse_row(read(run.folder).rows[-1]) == row
    run.log(Row(kind="mine", metrics={"name": "zoé"}))
    assert '"zoé"' in (run.folder / "metrics.jsonl").read_text(encoding="utf-8")  # as people read it
    run.finish()
    assert read(run.folder).facts["rows"] == 3


def test_the_least_that_a_column_can_be_is_read_and_less_is_not():
    columns = {"kind": "attack", "norm": "Linf", "attack": "FGSM", "accuracy": 0.5}
    for size in (0, 0.0):
        assert parse_row(columns | {"size": size}).size == 0
    for size in (-1, -1e-9):
        with pytest.raises(Refusal, match="has 'size' in another form"):
            parse_row(columns | {"size": size})


@pytest.mark.parametrize(("columns", "missing"), [({"kind": "epoch"}, "epoch"), ({"kind": "result"}, "accuracy")])
def test_a_row_that_lacks_a_column_is_refused(columns, missing):
    with pytest.raises(Refusal, match=f"needs \\['{missing}'\\]"):
        parse_row(columns)


def test_what_json_cannot_say_is_refused(run):
    with pytest.raises(Refusal, match="got Linear"):
        run.log(row_of("row", layer=nn.Linear(1, 1)))
    assert read(run.folder).rows == []


# what goes wrong


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(Refusal, match="exists already"):
        Run.start(tmp_path, recipe="toy", config={}, command="")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_taken_and_stays_when_a_start_fails(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    Run.start(tmp_path / "here", recipe="toy", config={}, command="").close()
    (tmp_path / "empty").mkdir()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("neuropil.runs.files.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        Run.start(tmp_path / "empty", recipe="toy", config={}, command="")
    assert (tmp_path / "empty").is_dir()
    with pytest.raises(NotADirectoryError):
        Run.start(tmp_path / "here" / "run.json" / "run", recipe="toy", config={}, command="")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for open_ in (read, Run.resume):
        with pytest.raises(Refusal, match="no such folder"):
            open_(tmp_path / "nowhere")
        with pytest.raises(Refusal, match=r"is not a run: it has no run\.json\.$"):
            open_(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(Refusal, match=r"it has no run\.json; it is a sweep, which neuropil report shows\."):
        read(tmp_path)
    for text in ("{", "[1]", "{}"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(Refusal, match=r"run\.json is"):
            read(tmp_path)


def test_a_finished_run_takes_nothing_more(run):
    run.finish()
    for more in (
        lambda: Run.resume(run.folder),
        lambda: run.log(row_of("row")),
        lambda: run.save(),
        lambda: run.update_metadata(a=1),
    ):
        with pytest.raises(Refusal, match="is finished"):
            more()


def test_facts_of_the_run_itself_cannot_be_noted(run):
    with pytest.raises(Refusal, match="keeps code, config, peak_memory_mb, rows, seconds for itself"):
        run.update_metadata(seconds=1, config={}, peak_memory_mb=1, code={}, rows=3)


def test_a_last_line_cut_off_is_left_out_and_other_damage_is_refused(run):
    run.log(row_of("row", n=1))
    run.log(row_of("row", n=2))
    metrics = run.folder / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-5])
    assert [row["n"] for row in read(run.folder).rows] == [1]
    metrics.write_bytes(whole[3:])
    with pytest.raises(Refusal, match=r"metrics\.jsonl is damaged in line 1"):
        read(run.folder).rows  # noqa: B018


def test_damaged_tensors_are_refused(run):
    run.save(weight=torch.zeros(100))
    weights = run.folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(Refusal, match=r"weights\.safetensors is damaged"):
        read(run.folder).tensors()


@pytest.fixture
def small_disk():
    """Files of this process cannot grow beyond 32 KiB: a write fails half way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_that_was_written(run, small_disk):
    run.every = 0
    weight = torch.ones(100)
    run.save(weight=weight)
    for i in run.loop("small", 2, weight=weight[:3]):
        run.log(row_of("row", n=i))
    full = [
        lambda: run.save(large=torch.zeros(50_000)),
        lambda: run.log(row_of("row", large="x" * 50_000)),
        lambda: run.update_metadata(large="x" * 50_000),
        lambda: list(run.loop("large", 1, large=torch.zeros(50_000))),
    ]
    for write in full:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write()
    run.log(row_of("row", n=2))
    record = read(run.folder)
    assert [row["n"] for row in record.rows] == [0, 1, 2]
    assert same(record.tensors(), {"weight": weight})
    assert load(run.folder / "checkpoint.safetensors")["here"] == ["small"]
    assert not list(run.folder.glob("*.part"))


def test_a_disk_full_from_the_start_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        Run.start(tmp_path / "run", recipe="toy", config={}, command="")
    assert not (tmp_path / "run").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    append_line(path, b" and older")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old and older"
    assert list(tmp_path.iterdir()) == [path]


def test_many_may_write_one_file_at_once(tmp_path):
    """As reports of one folder do."""
    contents = [bytes([k]) * 20_000 for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: [write_atomically(tmp_path / "file", content) for _ in range(10)], contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_processes_do_not_work_on_one_run(run):
    run.close()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, str(run.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Refusal, match="another process is at work"):
            Run.resume(run.folder)
        other.stdin.close()
    Run.resume(run.folder).close()


@pytest.mark.parametrize("count", [-1, 2.0, "3"])
def test_a_loop_needs_a_count(run, count):
    with pytest.raises(Refusal, match="'epochs' needs a whole number"):
        list(run.loop("epochs", count))


def test_of_several_learners_every_row_and_loop_says_whose_it_is(run, monkeypatch):
    titles = []
    monkeypatch.setattr(run, "loop", lambda title, count, **parts: titles.append((title, parts)) or range(count))
    for name in ("backprop", "linear"):
        tracker = TaggedTracker(run, learner=name, data="digits", seed=3)
        for epoch in tracker.loop("readout", 1, part=name):
            tracker.log(EpochRow(epoch=epoch))
    assert titles == [(f"{name}: readout", {"part": name}) for name in ("backprop", "linear")]
    tags = {"data": "digits", "seed": 3, "stage": "training", "epoch": 0}
    assert read(run.folder).rows == [{"kind": "epoch", "learner": name, **tags} for name in ("backprop", "linear")]
