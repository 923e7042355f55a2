"""A folder from a stranger is not obeyed: none of its code runs, none of its links is followed, nothing is lost."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli_place import RECIPE, go, said
from cli_place import place as place
from neuropil.cli.app import main
from neuropil.cli.commands import copy
from neuropil.errors import Refusal
from neuropil.report import write
from neuropil.runs import ResultRow, Run, read
from neuropil.runs.files import append_line, write_atomically
from neuropil.runs.machine import git
from report_runs import make, result

EVIL = "from pathlib import Path\nPath({mark!r}).touch()\nraise SystemExit\n"


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A folder of an unfinished run, beside a file of code that leaves a mark where it is run."""
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    run = Run.start(tmp_path / "run", recipe="compare", config={}, command="neuropil compare")
    run.log(ResultRow(learner="a", data="digits", seed=0, accuracy=0.5))
    run.close()
    return tmp_path


def edit(folder, **facts):
    path = Path(folder, "run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


COMMANDS = [
    "neuropil run ./evil.py",
    "neuropil run {here}/evil.py",
    "neuropil run gone.py",
    "neuropil run evil.py/",
    "neuropil run compare --data ./evil.py",
    "neuropil run compare --data=evil.py",
    "neuropil compare --data evil.py/",
    "neuropil compare --data evil.py/.",
    "neuropil compare --learners linear ./evil.py",
    "neuropil attack run --learners ./evil.py",
]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_code_that_a_folder_names_does_not_run(command, many, stranger, capsys):
    shutil.copy("evil.py", "run/recipe.py")
    shutil.copy("evil.py", "run/evil.py")
    command = command.format(here=stranger)
    if many:
        Path("run/seeds.json").write_text(json.dumps({"command": f"{command} --seeds 2", "seal": "0" * 64}))
    edit("run", command=command, code={"recipe.py": "0" * 64}, seal="0" * 64)
    assert main(["run", "--resume", "run", "--anyway"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "which you did not name. If you trust it, name it: neuropil run --resume run --code " in err
    assert not Path("mark").exists()


def test_code_that_the_user_names_does_run(stranger, monkeypatch):
    for words in (["run", "--resume", "run", "--anyway", "--code", "run/recipe.py"], ["run", "./evil.py"]):
        shutil.copy("evil.py", "run/recipe.py")
        edit("run", command="neuropil run there/mine.py")
        assert main(words) == 1
        assert Path("mark").exists()
        Path("mark").unlink()


@pytest.mark.usefixtures("place")
def test_a_run_of_ones_own_goes_on_unless_its_copy_or_its_command_was_changed(capsys, tmp_path, monkeypatch):
    Path("more1.stop").touch()
    assert go("run ./toy.py --out out") == 130
    whole = Path("out/run.json").read_text()
    capsys.readouterr()
    edit("out", command="neuropil run ./toy.py --lr 1 --out out")  # the user gave another one
    assert "which you did not name" in said(capsys, "run --resume out")
    Path("out/run.json").write_text(whole)
    Path("there").mkdir()
    monkeypatch.chdir("there")
    Path("../out/recipe.py").write_text(RECIPE + "# changed\n")
    assert "which you did not name" in said(capsys, "run --resume ../out --anyway")
    Path("../out/recipe.py").write_text(RECIPE)
    assert "going on with ../out/recipe.py in the place of ./toy.py." in said(capsys, "run --resume ../out", 0)


@pytest.mark.usefixtures("place")
def test_without_a_place_for_a_key_the_user_names_the_code_again(capsys, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", "file")
    Path("more1.stop").touch()
    assert go("run toy.py --out out") == 130
    capsys.readouterr()
    assert "--code toy.py" in said(capsys, "run --resume out")
    assert go("run --resume out --code toy.py") == 0


LINKS = ["metrics.jsonl", ".lock", "weights.safetensors", "checkpoint.safetensors", "report.html", "results.json"]
LINKS += ["figures", "pictures", "pictures/a.txt", "figures/accuracy.png", "models", "run.json", "samples.png"]


@pytest.mark.parametrize("words", ["report run", "run --resume run", "generate run", "complete run", "attack run"])
@pytest.mark.parametrize("name", LINKS)
def test_links_in_a_folder_are_not_followed(name, words, stranger, capsys):
    Path("victim").write_text(Path("run/run.json").read_text() if name == "run.json" else "secret")
    Path("folder").mkdir()
    place = Path("run", name)
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(stranger / ("victim" if "." in name else "folder"))
    before = Path("victim").read_text()
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"run/{name} is a link" in err
    assert Path("victim").read_text() == before
    assert not any(Path("folder").iterdir())
    assert not Path("run/report.html").is_file() or name == "report.html"


@pytest.mark.parametrize("write_", [write_atomically, append_line])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_replaced(kind, write_, tmp_path):
    path = tmp_path / "there"
    {"link": lambda: path.symlink_to(tmp_path / "x"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(Refusal, match=f"there is a {kind} where a file is needed"):
        write_(path, b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("words", ["report run --out {0}", "copy linear_settings {0}", "report run run2 --out {0}"])
def test_nor_what_a_command_is_told_to_write(words, stranger, capsys):
    shutil.copytree("run", "run2")
    edit("run2", started="later")
    Path("there.py").symlink_to(stranger / "elsewhere")
    assert main(words.format("there.py").split()) == 2
    assert Path("there.py").is_symlink()
    assert not Path("elsewhere").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_report_writes_over_no_file_that_is_not_of_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [make(tmp_path / name, [result(seed=seed)]) for seed, name in enumerate("ab")]
    for name in ("results.json", "figures/accuracy.png", "report.html"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text('{"mine": 1}')
        with pytest.raises(Refusal, match="is there and is not of a report"):
            write(folders, Path("report.html"))
        assert Path(name).read_text() == '{"mine": 1}'
        assert sorted(path.name for path in tmp_path.rglob("*.*") if path.parent.name not in "ab") == [Path(name).name]
        Path(name).unlink()
    write(folders, Path("report.html"))
    write(folders[:1], Path("report.html"))  # a report takes the place of a report


def test_names_cannot_command_the_terminal(stranger, capsys):
    edit("run", command="neuropil run \x1b[31mred\x1b[0m \x9b2J")
    assert main(["run", "--resume", "run"]) == 2
    out, err = capsys.readouterr()
    assert "red" in err
    assert (out + err.removesuffix("\n")).isprintable()


HOSTILE = """
git init -q . && git config user.email a@b && git config user.name a
echo '* filter=evil' > .git/info/attributes
echo text > file && git add file && git commit -qm one
mkdir -p hooks && git config core.hooksPath "$PWD/hooks"
for hook in post-index-change pre-commit; do printf '#!/bin/sh\\ntouch "$MARK"\\n' > hooks/$hook; done
chmod +x hooks/*
git config core.fsmonitor 'touch "$MARK"; false'
git config filter.evil.clean 'touch "$MARK"; cat'
git config filter.evil.required true
git config core.pager 'touch "$MARK"; cat' && git config pager.status true
echo more > file
"""


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_what_a_repository_configures_does_not_run(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sh", "-ec", HOSTILE], check=True)
    mark.unlink(missing_ok=True)
    state = git()["folder"]
    assert not mark.exists()
    assert len(state["commit"]) == 40
    assert state["dirty"] is True
    subprocess.run(["git", "status"], capture_output=True, check=False)
    assert mark.exists()  # the repository is as bad as it should be
    mark.unlink()
    subprocess.run(["git", "config", "filter.a=b.clean", 'touch "$MARK"'], check=True)
    assert git()["folder"]["dirty"] is None
    assert not mark.exists()


def test_a_copied_recipe_keeps_its_letters(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("latin.py").write_bytes('# -*- coding: latin-1 -*-\n"""Caf\xe9."""\n'.encode("latin-1"))
    assert copy.main(["latin.py", "other.py"]) == 0
    assert Path("other.py").read_bytes() == Path("latin.py").read_bytes()


def test_a_run_says_nothing_of_a_folder_in_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "folder" not in git()
    assert read(make(tmp_path / "run", [result()])).finished
