"""Damaged runs: a line that cannot be read is left out and counted, any other file that is damaged is named."""

import json
from dataclasses import MISSING, fields

import pytest
import safetensors.torch
import torch

from neuropil.cli import main
from neuropil.errors import Refusal
from neuropil.report import markdown, table, write
from neuropil.report.results import gather
from neuropil.runs import Row, Run, parse_row, read
from neuropil.runs.checkpoint import dump, load
from neuropil.runs.rows import KINDS
from report_runs import everything, make, result
from test_report import shown
from test_resume import interrupted

LINES = [b"", b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b"NaN", b"{" * 100_000, b'{"kind": "nonsense"']
LINES += [b'{"kind": "\\ud800"}', b'{"a": 1%s}' % (b"0" * 5000), b'{"a": %s1%s}' % (b"[" * 50, b"]" * 50)]


def fits(columns):
    try:
        parse_row(columns)
    except Refusal:
        return False
    return True


def damaged():
    """Lines of every kind with one column after the other in another form, or gone."""
    lines = list(LINES)
    for kind, row in everything(seeds=(0,)):
        columns = [one for one in fields(KINDS.get(kind, Row)) if one.name != "metrics"]
        known = {one.name: one.default is MISSING and one.default_factory is MISSING for one in columns}
        for name in known.keys() & row.keys():
            lines += [json.dumps({"kind": kind, **row, name: value}).encode() for value in ({"a": 1}, 10**400, [[[]]])]
            lines += [json.dumps({"kind": kind, **row, name: "\ud800"}).encode()]
        for name in (name for name, needed in known.items() if needed):
            lines += [json.dumps({"kind": kind, **{key: row[key] for key in row if key != name}}).encode()]
    return lines


def test_damaged_lines_are_left_out_and_counted_once(tmp_path):
    folder = make(tmp_path / "run", everything())
    want = markdown([folder])
    with open(folder / "metrics.jsonl", "ab") as file:
        file.writelines(line + b"\n" for line in damaged())
    found = gather([folder])
    assert found.runs[0].damaged == len(damaged()) > 300
    sentence = f"Damaged: run, {len(damaged())} lines of its metrics.jsonl are damaged or gone, and left out."
    assert write(found, folder / "report.html").read_text().count(sentence) == 1
    assert " ".join(shown(table(found)).split()).count(sentence) == 1
    assert markdown(found).replace(f"\n{sentence}\n", "", 1).split() == want.split()


@pytest.mark.parametrize("kind", ["epoch", "labels", "units", "attack", "warning", "images"])
@pytest.mark.parametrize("value", [10**30, -(2**63) - 1, "\ud800", {"a": [1]}, "1"], ids=str)
def test_columns_of_another_type_are_refused(kind, value):
    row = {"epoch": {"epoch": 1}, "labels": {"n_labels": 5, "accuracy": 0.5}, "units": {"wins": [1, 2]}}
    row |= {"attack": {"norm": "Linf", "attack": "PGD", "size": 0.1, "accuracy": 0.5}}
    row |= {"warning": {"message": "no", "seed": 1}, "images": {"title": "a", "tensor": "b", "per_line": 2}}
    good = {"kind": kind, **row[kind]}
    assert fits(good)
    assert not fits({**good, list(good)[-1]: value})


def test_rows_that_a_finished_run_has_lost_are_missed(tmp_path):
    folder = make(tmp_path / "run", [result(), result("linear", 0)])
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(lines[0])
    assert read(folder).facts["rows"] == 2
    assert "Damaged: run, 1 line of its metrics.jsonl is damaged or gone" in markdown([folder])


@pytest.mark.parametrize("name", ["fields.a", "fields_before.a", "samples.a", "wrong"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5, 3, 3), (0, 1, 2, 2), (1, 1, 1, 1, 1)])
def test_tensors_of_another_shape_are_refused_by_name(name, shape, tmp_path):
    rows = [result("a"), ("images", {"title": "t", "tensor": "wrong", "learner": "a", "data": "digits", "seed": 0})]
    save = {name: torch.zeros(shape)} | ({"fields.a": torch.ones(2, 1, 3, 3)} if name == "fields_before.a" else {})
    folder = make(tmp_path / "run", rows, save=save)
    fine = shape == (2, 5, 3, 3) and name == "fields.a"
    if fine or name == "fields_before.a":  # what does not fit to the fields is left out
        assert write([folder], folder / "report.html").exists()
    else:
        with pytest.raises(Refusal, match=r"(fields need|fields\.a|samples\.a|wrong needs).* got \("):
            write([folder], folder / "report.html")


SMALL = [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", '{"command": "é"'.encode("latin-1"), b"[" * 100_000]
SMALL += [b"\xef\xbb\xbf{}", b'{"command": 3}', b'{"command": "neuropil run \'"}', b'{"command": ""}', b"\x00" * 40]


@pytest.mark.parametrize("name", ["seeds.json", "run.json"])
@pytest.mark.parametrize("content", SMALL, ids=lambda content: repr(content[:12]))
def test_small_files_are_read_with_care(name, content, tmp_path, capsys):
    run = Run.start(tmp_path / "run", recipe="x", config={}, command="neuropil run x")
    run.close()
    (run.folder / name).write_bytes(content)
    for words in ("run --resume", "report", "generate", "attack")[: 1 if name == "seeds.json" else None]:
        assert main([*words.split(), str(run.folder)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert name in err or "the command" in err


def deep(levels):
    tree = {"count": 1, "done": 0, "state": None, "inner": {}}
    for _ in range(levels):
        tree = {"count": 1, "done": 0, "state": None, "inner": {"x": tree}}
    return tree


TREES = {
    "nothing": lambda tree: {},
    "a number": lambda tree: 3,
    "a key too many": lambda tree: {**tree, "x": 1},
    "a word for a number": lambda tree: {**tree, "rows": "1"},
    "less than no rows": lambda tree: {**tree, "rows": -1},
    "no list": lambda tree: {**tree, "here": {"a": 1}},
    "no loops": lambda tree: {**tree, "loops": None},
    "a loop of words": lambda tree: {**tree, "loops": {**tree["loops"], "done": "1"}},
    "done before it began": lambda tree: {**tree, "loops": {**tree["loops"], "done": 9}},
    "loops in a list": lambda tree: {**tree, "loops": {**tree["loops"], "inner": []}},
    "many levels": lambda tree: {**tree, "loops": deep(150)},
}


@pytest.mark.parametrize("name", TREES)
def test_the_tree_of_a_checkpoint_is_not_trusted(name, tmp_path):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    run.close()
    path = run.folder / "checkpoint.safetensors"
    tree = TREES[name](load(path))
    dump(tree, path)
    if name == "many levels":
        Run.resume(run.folder).close()
    else:
        with pytest.raises(Refusal, match=r"checkpoint\.safetensors is damaged .*delete it and resume"):
            Run.resume(run.folder)


@pytest.mark.parametrize("tree", [None, "{", "3", "[" * 100_000, '{"tensor": "9"}', '{"a": 1, "b": 2}', '{"dict": 3}'])
def test_nor_is_its_text(tree, tmp_path):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    run.close()
    metadata = {"tree": tree} if tree else None
    safetensors.torch.save_file({"0": torch.zeros(1)}, run.folder / "checkpoint.safetensors", metadata)
    with pytest.raises(Refusal, match=r"checkpoint\.safetensors is damaged .*delete it and resume"):
        Run.resume(run.folder)


def test_the_state_in_it_may_fit_nothing(tmp_path):
    run = interrupted(tmp_path / "run", torch.nn.Linear(3, 1))
    run.close()
    path = run.folder / "checkpoint.safetensors"
    tree = load(path)
    for state in (3, "x", [1], {"weight": None}, {1: {}}):
        tree["loops"]["inner"]["epochs"]["state"]["1.weight"] = state
        dump(tree, path)
        with pytest.raises(Refusal, match="no longer fits its checkpoint"):
            list((run := Run.resume(run.folder)).loop("epochs", 4, weight=torch.nn.Linear(3, 1)))
        run.close()
