"""The command line as a user types it: what it does."""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import neuropil
import neuropil.data
from cli_place import RECIPE, go, said, weights
from cli_place import place as place
from neuropil.cli import recipes as room
from neuropil.cli import runner, workers
from neuropil.cli.app import command_names, main
from neuropil.cli.commands import bench
from neuropil.cli.commands.list import HEADINGS
from neuropil.runs import load_recipe_file, read

pytestmark = pytest.mark.usefixtures("place")


def test_help_shows_every_command(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    names = {"attack", "audit", "bench", "compare", "complete", "copy", "data", "export", "generate", "list", "report"}
    names |= {"play", "run", "sweep", "table", "zoo"}
    assert names == set(command_names())
    assert all(f"  {name} " in out for name in command_names())


@pytest.mark.parametrize("name", sorted(set(command_names()) - {"compare"}))
def test_every_command_explains_itself(capsys, name):
    assert main([name, "--help"]) == 0
    assert f"usage: neuropil {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["data fetch --help", "copy a b.py -h", "attack out --help", "report out -h"])
def test_help_may_stand_after_other_words(capsys, words):
    assert main(words.split()) == 0
    assert f"usage: neuropil {words.split()[0]}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"neuropil {neuropil.__version__}\n"


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "RECIPES", tmp_path / "recipes")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    (tmp_path / "recipes" / "_parts.py").write_text("")


def test_list_shows_purpose_and_measured_result(capsys, recipes):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "\nother\n  toy    A toy that learns nothing, twice.\n" in out
    assert "_parts" not in out
    assert "Measured" not in out
    assert main(["list", "--measured"]) == 0
    assert "Measured: 50 % on a coin, n = 3." in capsys.readouterr().out


def test_list_is_grouped_and_says_how_long_a_recipe_takes_and_what_it_needs(capsys, recipes):
    for name, group, minutes in (("b", "searches", 90), ("a", "spiking", 1.5), ("c", "my own", 2), ("d", "spiking", 3)):
        facts = f"Group: {group}. Minutes: {minutes}. Data: mnist, digits."
        Path(f"recipes/{name}.py").write_text(f'"""Recipe {name}.\n\n{facts}\n"""\n')
    assert main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    headings = [line for line in lines if line in ("spiking", "searches", "my own", "other")]
    assert headings == ["spiking", "searches", "my own", "other"]
    assert lines.index("spiking") < lines.index("a 1.5 min Recipe a.") < lines.index("d 3 min Recipe d.")
    assert lines.count("Data: mnist, digits.") == 4


def test_every_recipe_says_where_it_is_listed_how_long_it_takes_and_what_it_needs():
    needless = {
        "attack",
        "balanced",
        "concept",
        "pair_triplet",
        "precision",
        "recurrent",
        "reward_stdp",
        "single_neuron",
    }
    for name in room.recipe_names():
        about = room.about(name)
        assert about.group in HEADINGS, name
        assert about.minutes, name
        assert set(about.data) <= set(room.set_names()), name
        assert about.data or name in needless, name


def test_a_copied_recipe_runs(capsys, recipes):
    assert main(["copy", "toy", "mine.py"]) == 0
    assert "neuropil run ./mine.py" in capsys.readouterr().out
    assert Path("mine.py").read_text() == RECIPE
    assert main(["run", "./mine.py", "--out", "out"]) == 0
    assert "mine.py exists already" in said(capsys, "copy toy mine.py")


def test_the_settings_of_a_recipe_are_explained(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["run", "toy.py", "--help"]) == 0
    out = capsys.readouterr().out
    assert "(default: )" not in out
    assert "None" not in out
    for words in (
        "A toy that learns nothing",
        "--lr FLOAT",
        "change per step (default: 0.5)",
        "{coin,die}",
        "--seeds INT",
        "--out PATH",
    ):
        assert words in out


def test_a_run_is_recorded_and_reported(capsys, place):
    assert main(["run", "./toy.py", "--lr", "0.25", "--fast-head", "--hidden", "3", "4", "--out", "out"]) == 0
    record = read("out")
    assert record.finished
    assert record.recipe == "./toy.py"
    assert record.facts["command"] == "neuropil run ./toy.py --lr 0.25 --fast-head --hidden 3 4 --out out"
    assert record.config == {"lr": 0.25, "images": 3, "data": "coin", "hidden": [3, 4], "fast_head": True, "seed": 0}
    assert place.calls == [([Path("out")], Path("out/report.html"))]
    assert Path("out/recipe.py").read_text() == RECIPE
    out = capsys.readouterr().out
    assert "a table" in out
    assert out.endswith("report: out/report.html\n")


def test_a_recipe_without_results_needs_no_report(capsys, place):
    Path("mute.py").write_text(
        RECIPE.replace("run.log(", "run.log(Row(kind='other')) or str(").replace(
            "import ResultRow", "import ResultRow, Row"
        )
    )
    assert go("run mute.py --out out") == 0
    assert read("out").finished
    assert place.calls == []
    assert "logged no result" in capsys.readouterr().out


def test_pictures_that_a_run_made_are_announced(capsys):
    text = RECIPE.replace("    run.every = 0\n", "    (run.folder / 'pictures').mkdir()\n")
    Path("draws.py").write_text(
        text.replace("    run.save(weight", "    (run.folder / 'pictures/a b.png').touch()\n    run.save(weight")
    )
    assert go("run draws.py --out out") == 0
    assert capsys.readouterr().out.endswith("report: out/report.html\npicture: out/pictures/a b.png\n")


def test_where_output_is_no_terminal_there_is_a_line_for_every_stage_and_seed(capsys):
    assert go("run toy.py --seeds 2 --out out") == 0
    lines = capsys.readouterr().err.splitlines()
    stages = [f"[toy, seed {seed}] {stage} 3/3" for seed in (0, 1) for stage in ("first", "second")]
    assert [line.partition(":")[0] for line in lines] == stages
    assert go("run toy.py --quiet --out quiet") == 0
    assert capsys.readouterr().err == ""
    assert read("quiet").facts["command"] == "neuropil run toy.py --quiet --out quiet"


def test_without_out_a_run_goes_under_runs():
    assert main(["run", "toy.py", "--seed", "7"]) == 0
    (folder,) = Path("runs/toy").iterdir()
    assert folder.name.endswith("-seed7")


def test_many_seeds_make_many_runs_and_one_report(capsys, place):
    assert main(["run", "toy.py", "--seeds", "2", "--seed", "5", "--lr", "1", "--out", "out"]) == 0
    assert sorted(path.name for path in Path("out").glob("seed-*")) == ["seed-5", "seed-6"]
    record = read("out/seed-6")
    assert (record.config["seed"], record.config["lr"]) == (6, 1.0)
    assert record.facts["command"] == "neuropil run toy.py --lr 1 --seed 6"
    assert place.calls == [([Path("out")], Path("out/report.html"))]
    assert "out exists already" in said(capsys, "run toy.py --seeds 2 --out out")


def test_many_seeds_go_on_where_they_were_stopped(capsys):
    assert go("run toy.py --seeds 3 --out whole") == 0
    Path("more1.stop").touch()
    assert "go on with: neuropil run --resume out" in said(capsys, "run toy.py --seeds 3 --out out", 130)
    assert [path.name for path in Path("out").glob("seed-*")] == ["seed-0"]
    assert go("run --resume out") == 0
    assert [weights(f"out/seed-{k}") for k in range(3)] == [weights(f"whole/seed-{k}") for k in range(3)]
    before = weights("out/seed-1")
    assert go("run --resume out") == 0  # all finished: only the report is made again
    assert weights("out/seed-1") == before


def test_a_recipe_may_have_settings_of_the_same_names(capsys):
    text = RECIPE.replace("    seed: int = 0\n", "    seed: int = 0\n    seeds: int = 5\n    out: str = ''\n")
    Path("own.py").write_text(text)
    assert go("run own.py --seeds 2 --out here") == 0
    (folder,) = Path("runs/own").iterdir()
    assert (read(folder).config["seeds"], read(folder).config["out"]) == (2, "here")


def test_compare_runs_the_recipe_of_that_name(recipes, monkeypatch, capsys):
    recipe = room.load("toy.py")
    Path("recipes/compare.py").write_text(RECIPE)
    monkeypatch.setitem(sys.modules, "neuropil.recipes.compare", recipe)
    assert go("compare --data die --out out") == 0
    assert read("out").recipe == "compare"
    assert read("out").facts["command"] == "neuropil compare --data die --out out"
    Path("more1.stop").touch()
    assert go("compare --out two") == 130
    assert go("run --resume two") == 0
    assert read("two").finished
    assert main(["compare", "--help"]) == 0
    assert "--images INT" in capsys.readouterr().out


def test_a_run_that_goes_on_ends_with_its_own_code(monkeypatch):
    monkeypatch.setattr(workers, "meet_again", lambda *_: None)
    for code in (0, 3):
        monkeypatch.setattr(runner, "resume", lambda folder, manner, code=code: code)
        assert main(["run", "--resume", "out"]) == code


def test_reports_over_many_folders(place):
    assert main(["report", "a", "b"]) == 0
    assert main(["report", "a"]) == 0
    assert main(["report", "a", "--out", "b.html"]) == 0
    a, b = Path("a"), Path("b")
    assert place.calls == [([a, b], Path("report.html")), ([a], a / "report.html"), ([a], Path("b.html"))]
    a.mkdir(exist_ok=True)
    (a / "sweep.json").write_text("{}")  # a sweep beside another run is no report of the sweep alone
    assert main(["report", "a", "b"]) == 0
    assert place.calls[3:] == [([a, b], Path("report.html"))]


def test_data_commands(capsys, monkeypatch):
    assert main(["data", "list"]) == 0
    assert re.search(r"digits +1,438 +359 +yes", capsys.readouterr().out)
    monkeypatch.setattr(neuropil.data, "fetch", lambda name: [Path(name) / "file"])
    assert main(["data", "fetch", "mnist"]) == 0
    assert capsys.readouterr().out == "mnist/file\n"
    rows = [SimpleNamespace(path=Path("a"), status="ok"), SimpleNamespace(path=Path("b"), status="altered")]
    monkeypatch.setattr(neuropil.data, "check", lambda name: rows[: int(name)])
    assert main(["data", "check", "1"]) == 0
    assert "'2' is not whole: b (altered). Fetch it with: neuropil data fetch 2" in said(capsys, "data check 2")


def test_bench_shows_a_table_and_writes_json(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Config:
        batch: int = 100

    rows = [{"rule": "Oja", "seconds": 0.123456}, {"rule": "Hebb", "seconds": 2.0, "note": "slow"}]
    nothing = {"rule": "none", "seconds": math.nan}
    module = SimpleNamespace(
        Config=Config, main=lambda config: [*rows, {"rule": str(config.batch)}, nothing], __doc__="Speed."
    )
    monkeypatch.setattr(bench, "bench_names", lambda: ["speed"])
    monkeypatch.setitem(sys.modules, "neuropil.bench.speed", module)
    assert go("bench speed --batch 7 --json rows.json") == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["Oja", "0.1235"],
        ["Hebb", "2", "slow"],
        ["7"],
        ["none", "nan"],
    ]
    assert json.loads(Path("rows.json").read_text()) == [*rows, {"rule": "7"}, nothing | {"seconds": None}]
    assert go("bench speed --help") == 0
    assert "--batch INT" in capsys.readouterr().out
    assert "unknown setting 'bach'. Did you mean 'batch'?" in said(capsys, "bench speed --bach 3")
    assert "unknown benchmark 'sped'. Did you mean 'speed'?" in said(capsys, "bench sped")


VARIANT = '[slow]\nbase = "toy"\nwords = "--lr 0.1 --hidden 3"\npurpose = "A slow toy."\nmeasured = "a coin"\n'


def test_a_variant_is_its_recipe_with_other_settings(capsys, recipes, tmp_path, monkeypatch):
    (tmp_path / "recipes" / "variants.toml").write_text(VARIANT)
    monkeypatch.setattr(room, "load", lambda name: load_recipe_file(room.source(name)))
    for user in ("runner", "job"):
        monkeypatch.setattr(f"neuropil.cli.{user}.load", room.load)
    assert main(["list"]) == 0
    assert "  slow    A slow toy." in capsys.readouterr().out
    assert main(["run", "slow", "--help"]) == 0
    out = capsys.readouterr().out
    assert "A slow toy. The recipe toy with --lr 0.1 --hidden 3." in out
    assert "(default: 0.1)" in out
    assert main(["run", "slow", "--hidden", "5", "6", "--seeds", "2"]) == 0
    (folder,) = Path("runs/slow").iterdir()
    record = read(folder / "seed-1")
    assert record.facts["purpose"] == "A slow toy. Here with --hidden 5 6."
    assert record.recipe == "toy"
    assert (record.config["lr"], record.config["hidden"], record.config["seed"]) == (0.1, [5, 6], 1)
    assert main(["copy", "slow", "mine.py"]) == 0
    assert "neuropil run ./mine.py --lr 0.1 --hidden 3\n" in capsys.readouterr().out
    assert "Did you mean 'slow'?" in said(capsys, "run sloow")
