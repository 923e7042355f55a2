"""A run that goes on compares the world with that it began in: changes are named, refused, or recorded and shown."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cli_place import RECIPE, go, said
from cli_place import place as place
from neuropil.errors import Refusal
from neuropil.report import table, write
from neuropil.runs import ResultRow, Row, Run, machine, read
from test_report import shown


def work(run, stop=None, data="a"):
    """Rows, tensors and a loop with state; stopped in the last loop, if at all."""
    run.every = 0
    run.update_metadata(data={"mine": {"train": data}})
    weight = torch.zeros(2)
    for i in run.loop("steps", 3, weight=weight):
        weight += 1
        run.log(Row(kind="step", metrics={"i": i}))
    run.log(ResultRow(learner="toy", data="mine", seed=0, accuracy=0.5))
    run.save(weight=weight)
    for i in run.loop("more", 3, weight=weight):
        if i == stop:
            raise InterruptedError
        weight += 1
    run.save(weight=weight)
    run.finish()


def flip(name, at):
    def change(folder, _):
        path = folder / name
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    return change


def fact(group, name, value):
    def change(folder, _):
        facts = json.loads((folder / "run.json").read_text())
        facts[group][name] = value
        (folder / "run.json").write_text(json.dumps(facts))

    return change


def row_lost(folder, _):
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"i": 1', b'"i": 7'))


CHANGES = {
    "torch": (fact("versions", "torch", "2.0"), "torch 2.0, now 2."),
    "numpy": (fact("versions", "numpy", "1.0"), "numpy 1.0, now 2."),
    "numba": (fact("versions", "numba", "0.1"), "numba 0.1, now 0."),
    "python": (fact("versions", "python", "3.9"), "python 3.9, now 3."),
    "this package": (fact("versions", "neuropil", "0.0.9"), "neuropil 0.0.9, now "),
    "its code": (lambda _, patch: patch.setattr(machine, "package_digest", lambda: "x"), "code of neuropil .*, now x"),
    "threads": (lambda _, patch: patch.setattr(torch, "get_num_threads", lambda: 7), r"threads \d+, now 7"),
    "processor": (fact("machine", "cpu", "abacus"), "cpu abacus, now "),
    "gpu": (fact("machine", "gpu", "a card"), "gpu a card, now None"),
    "data": (lambda *_: "b", "this has changed: data"),
    "weights": (lambda folder, _: (folder / "weights.safetensors").unlink(), "weights.safetensors has lost weight"),
    "rows": (row_lost, "the rows in metrics.jsonl"),
}


@pytest.fixture
def folder(tmp_path):
    run = Run.start(tmp_path / "run", recipe="toy", config={}, command="neuropil run toy")
    with pytest.raises(InterruptedError):
        work(run, stop=1)
    run.close()
    return run.folder


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_or_recorded_and_shown(name, folder, monkeypatch):
    change, message = CHANGES[name]
    data = change(folder, monkeypatch) or "a"
    before = (folder / "run.json").read_bytes()
    with pytest.raises(Refusal, match=rf"{message}.* Start a new run, or resume it with --anyway"):
        work(run := Run.resume(folder), data=data)
    if data == "b":
        run.close()
    else:
        assert (folder / "run.json").read_bytes() == before
    run = Run.resume(folder, anyway=True)
    work(run, data=data)
    assert run.changed == read(folder).facts["resumed"][-1]["changed"]
    facts = json.loads((folder / "run.json").read_text())
    facts["resumed"].append({"time": "later"})  # and then went on without a change
    (folder / "run.json").write_text(json.dumps(facts))
    sentence = "Changed: run was resumed after a change ("
    assert sentence in write([folder], folder / "report.html").read_text()
    assert sentence in " ".join(shown(table([folder])).split())


def test_where_nothing_changed_nothing_is_said(folder):
    work(Run.resume(folder))
    assert "changed" not in read(folder).facts["resumed"][-1]
    assert "Changed:" not in write([folder], folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.safetensors"])
@pytest.mark.parametrize("at", [-1, 20, 70])
def test_a_bit_that_flips_in_a_file_of_tensors_is_refused_and_the_run_can_start_over(name, at, folder):
    rows = (folder / "metrics.jsonl").read_bytes()
    flip(name, at)(folder, None)
    with pytest.raises(Refusal, match=rf"{name} is damaged .*checkpoint.safetensors|delete it and resume"):
        Run.resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == rows
    (folder / "checkpoint.safetensors").unlink()
    work(Run.resume(folder))
    assert read(folder).tensors()["weight"].tolist() == [6, 6]
    assert len(read(folder).rows) == 4


def test_tensors_of_another_program_are_read_without_a_checksum(folder):
    safetensors.torch.save_file({"x": torch.ones(1)}, folder / "weights.safetensors")
    assert read(folder).tensors()["x"].tolist() == [1]


def test_facts_are_compared_even_where_there_was_no_checkpoint(tmp_path):
    run = Run.start(tmp_path / "run", recipe="toy", config={}, command="x")
    run.update_metadata(data={"mine": {"train": "a"}}, note=1)
    run.close()
    run = Run.resume(tmp_path / "run")
    run.update_metadata(data={"mine": {"test": "c"}, "other": {"train": "x"}}, note=2)  # more is no change
    with pytest.raises(Refusal, match="this has changed: data"):
        run.update_metadata(data={"mine": {"train": "b"}})
    run.close()


@pytest.mark.usefixtures("place")
def test_settings_and_code_of_the_user_are_compared(capsys):
    Path("more1.stop").touch()
    assert go("run toy.py --out out") == 130
    fact("config", "images", 4)(Path("out"), None)
    capsys.readouterr()
    assert "this has changed: setting images 4, now 3." in said(capsys, "run --resume out")
    assert "going on though this has changed: setting images 4" in said(capsys, "run --resume out --anyway", 0)


@pytest.mark.usefixtures("place")
def test_seeds_that_have_not_begun_do_so_in_the_world_of_the_others(capsys):
    Path("more1.stop").touch()
    assert go("run toy.py --seeds 2 --out out") == 130
    capsys.readouterr()
    Path("toy.py").write_text(RECIPE + "# other\n")
    assert "this has changed: the code in toy.py." in said(capsys, "run --resume out")
    Path("toy.py").write_text(RECIPE)
    facts = json.loads(Path("out/seeds.json").read_text())
    facts["versions"]["torch"] = "2.0"
    Path("out/seeds.json").write_text(json.dumps(facts))
    assert go("run --resume out") == 2
    assert "this has changed: torch 2.0, now " in capsys.readouterr().err
    Path("out/seed-1").mkdir()  # and nothing in it: a kill came first
    assert go("run --resume out --anyway") == 0
    assert read("out/seed-1").facts["resumed"][0]["changed"][0].startswith("torch 2.0, now ")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("words", ["run toy.py --out new/out", "run toy.py --seeds 2 --out out"])
def test_a_run_killed_at_any_step_of_its_start_can_go_on(words, tmp_path, capfd):
    """In a child process that is killed at one call after another that changes the disk."""
    assert go(f"{words.partition(' --out')[0]} --out whole") == 0
    out = Path(words.split()[-1])
    for stop in range(40):
        child = os.fork()
        if not child:
            calls = iter(range(1000))
            for name in ("fsync", "replace", "rename", "mkdir"):
                setattr(os, name, killing(getattr(os, name), calls, stop))
            go(words)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        assert go(f"run --resume {out}" if out.exists() else words) == 0, stop
        for weights in Path("whole").rglob("weights.safetensors"):
            assert (out / weights.relative_to("whole")).read_bytes() == weights.read_bytes()
        assert len(list(out.parent.glob(".*.part"))) <= 1
        shutil.rmtree(out)
        for rest in out.parent.glob(".*.part"):
            shutil.rmtree(rest)
    assert stop > 8


def killing(call, calls, stop):
    def made(*args, **kwargs):
        if next(calls) == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return made


def test_what_comes_and_what_goes_is_a_change_too():
    then, now = {"code": {"a.py": "1", "b.py": "2"}}, {"code": {"b.py": "2", "c.py": "3"}, "machine": {"gpu": "H100"}}
    assert machine.changes(then, now) == ["gpu None, now H100", "the code in a.py", "the code in c.py"]
