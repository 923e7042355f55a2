"""A sweep does every run once, whatever stops it, and chooses on examples that are no test examples."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli_place import go, said
from cli_place import place as place
from neuropil.cli import main
from neuropil.cli.sweep_plan import plan_of
from neuropil.runs import ResultRow, Row, read
from neuropil.sweeps.folder import Place, Sweep, scores_of

RECIPE = '''"""A formula in the place of a learner."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from neuropil.errors import Diverged, require
from neuropil.runs import Row

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    lr: float = 0.1  # of the formula
    hidden: tuple[int, ...] = (4,)
    fast: bool = False
    seed: int = 0

    def __post_init__(self):
        require(self.lr < 9 or self.fast, f"only the fast head takes lr={self.lr}.")


def kill(name):
    """Once, end the sweep, or this process, in the middle of a run."""
    if (HERE / name).exists():
        (HERE / name).unlink()
        os.kill(multiprocessing.parent_process().pid if name == "sweep" else os.getpid(), signal.SIGKILL)
        time.sleep(60)


def main(config, run):
    run.every, weight = 0, torch.zeros(1, dtype=torch.float64)
    for i in run.loop("steps", 3, weight=weight):
        weight += config.lr * len(config.hidden) + 0.01 * config.seed
        if i == 1 and config.seed == 1:
            kill("sweep")
            kill("run")
    if config.lr > 1:
        raise Diverged(f"the weight is {weight.item():.1f}; lower the rate.")
    with open(HERE / "ends.txt", "a") as ends:
        ends.write(f"{config.lr} {len(config.hidden)} {config.seed}\\n")
    run.log(Row(kind="validation", learner="formula", data="none", seed=config.seed,
                metrics={"accuracy": weight.item() / 10}))
'''
GRID = ["--grid", "lr=0.1,0.3,2", "hidden=4,4 4", "--seeds", "2"]
TRIED = [(lr, n) for lr in (0.1, 0.3) for n in (1, 2)]


def accuracy(lr, n, seed):
    """The formula, on paper."""
    return 3 * (lr * n + 0.01 * seed) / 10


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder to work in, with the recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "formula.py").write_text(RECIPE)
    return tmp_path


def test_a_sweep_that_was_killed_does_every_run_once(room, capsys):
    (room / "sweep").touch()
    words = ["sweep", "./formula.py", *GRID, "--workers", "2", "--out", "out", "--quiet"]
    assert subprocess.run([sys.executable, "-m", "neuropil", *words]).returncode == -9
    finished = [path for path in room.glob("out/setting-*/seed-?") if read(path).finished]
    stamps = {path: (path / "run.json").read_bytes() for path in finished}
    early = set(room.glob("out/setting-*/seed-?"))
    assert len(finished) < len(early) < 12
    (room / "run").touch()
    facts = json.loads((room / "out/sweep.json").read_text())
    facts["versions"]["torch"] = "2.0"
    (room / "out/sweep.json").write_text(json.dumps(facts))
    assert "this has changed: torch 2.0, now" in said(capsys, "sweep --resume out --quiet")
    assert go("sweep --resume out --quiet --anyway") == 2  # a run was lost with its process, and not given up
    assert "1 run has not finished (its process was ended by SIGKILL" in capsys.readouterr().err
    assert go("sweep --resume out --quiet --workers 2 --anyway") == 0
    late = {*room.glob("out/setting-*/seed-?")} - early
    assert all(read(path).facts["resumed"][0]["changed"][0].startswith("torch 2.0, now ") for path in late)
    ends = [line.split() for line in (room / "ends.txt").read_text().splitlines()]
    done = [(float(lr), int(n), int(seed)) for lr, n, seed in ends]
    assert sorted(set(done)) == [(*one, k) for one in TRIED for k in (0, 1)]
    assert len(done) <= 8 + 2  # one of two workers may have been killed between its last line and the end of its run
    assert stamps == {path: (path / "run.json").read_bytes() for path in finished}

    found = json.loads((room / "out/results.json").read_text())
    rows = {(row["lr"], row["hidden"], row["seed"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 12
    for lr, n in TRIED:
        for seed in (0, 1):
            assert rows[str(lr), " ".join("4" * n), seed]["accuracy"] == pytest.approx(accuracy(lr, n, seed), rel=1e-12)
    assert rows["2", "4", 1]["accuracy"] is None
    assert rows["2", "4", 1]["reason"] == "the weight is 6.0; lower the rate."
    assert found["chosen"] == {"setting": 4, "lr": "0.3", "hidden": "4 4"}
    summary = {row["setting"]: row for row in found["summary"]}
    assert summary[1]["difference_mean"] == pytest.approx(accuracy(0.1, 1, 0) - accuracy(0.3, 2, 0), rel=1e-12)
    assert summary[1]["difference_interval"] == pytest.approx(0, abs=1e-12)  # equal for both seeds
    assert summary[6]["failed"].keys() == {"0", "1"}
    assert "--lr 0.3 --hidden 4 4 --seed 0 --seeds 2" in found["commands"][1]
    assert "--hold-out" not in found["commands"][1]
    page = (room / "out/report.html").read_text()
    assert "the weight is 6.0; lower the rate." in page
    assert "Chosen: setting 4, lr 0.3" in page
    assert "−15.00 ± 0.00" in page  # of setting 1 minus the chosen one, in points

    before = {path: path.read_bytes() for path in room.glob("out/setting-*/**/*") if path.is_file()}
    capsys.readouterr()
    assert "the sweep in out was finished" in said(capsys, "sweep --resume out", code=0)
    assert before == {path: path.read_bytes() for path in room.glob("out/setting-*/**/*") if path.is_file()}
    assert "exists already" in said(capsys, "sweep ./formula.py --grid lr=1 --out out")


def test_a_ray_cluster_of_two_nodes_does_every_run_once(room, monkeypatch):
    ray, nodes = pytest.importorskip("ray"), pytest.importorskip("ray.cluster_utils")
    where = "{__import__('ray').get_runtime_context().get_node_id()}"
    (room / "formula.py").write_text(RECIPE.replace("{config.seed}\\n", f"{{config.seed}} {where}\\n"))
    cluster = nodes.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        assert main(["sweep", "./formula.py", *GRID, "--engine", "ray", "--workers", "2", "--out", "out"]) == 0
    finally:
        ray.shutdown()
        cluster.shutdown()
    ends = [line.split() for line in (room / "ends.txt").read_text().splitlines()]
    assert sorted((float(lr), int(n), int(k)) for lr, n, k, _ in ends) == [(*one, k) for one in TRIED for k in (0, 1)]
    assert len({node for *_, node in ends}) == 2
    found = json.loads((room / "out/results.json").read_text())
    rows = {(row["lr"], row["hidden"], row["seed"]): row for row in found["rows"]}
    for lr, n in TRIED:
        for seed in (0, 1):
            assert rows[str(lr), " ".join("4" * n), seed]["accuracy"] == pytest.approx(accuracy(lr, n, seed), rel=1e-12)
    assert rows["2", "4", 1]["reason"] == "the weight is 6.0; lower the rate."


REFUSED = {
    "--grid lrr=1,2": "unknown setting 'lrr'. Did you mean 'lr'?",
    "--gird lr=1,2": "unknown setting 'gird'. Did you mean 'grid'?",
    "--grid lr=0.1,much": "setting 'lr' takes float, got 'much'.",
    "--grid lr=1,1.0": "setting 'lr' has the value 1.0 twice in 1,1.0.",
    "--grid lr=1,1": "setting 'lr' has a value twice",
    "--grid lr=": "is written name=value,value",
    "--grid lr=1 lr=2": "setting 'lr' is swept twice",
    "--grid lr=1,2 --lr 3": "setting 'lr' is both fixed and swept",
    "--grid lr=8,10 fast=true,false": "with lr 10, fast false: only the fast head takes lr=10.0.",
    "--grid fast=true,maybe": "setting 'fast' is true or false, got 'maybe'.",
    "--grid lr=0.1..1": "the range of 'lr' needs --search N",
    "--grid lr=1..0.1 --search 3": "needs low < high",
    "--grid lr=0..1:log --search 3": "needs low > 0",
    "--grid lr=a..b --search 3": "a range is written lr=low..high",
    "--grid seed=1,2": "'seed' is not swept: seeds are counted by --seeds N.",
    "--grid lr=1,2 --workers 0": "--workers takes a number of runs, got 0.",
    "--grid lr=1,2 --seeds 0": "--seeds takes a number of runs, got 0.",
    "--grid lr=1,2 --hold-out 1.5": "a fraction between 0 and 1, got 1.5.",
    "--grid lr=1,2 --resources num_gpus=1": "--resources are for --engine slurm or ray",
    "": "say what to try: --grid",
}


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_refused_before_anything_runs(room, capsys, words):
    assert REFUSED[words] in said(capsys, f"sweep ./formula.py {words}")
    assert [path.name for path in room.iterdir() if path.name != "__pycache__"] == ["formula.py"]


def test_every_setting_has_its_first_seed_before_one_has_its_second():
    sweep = Sweep(Path("sweep"), {"settings": [{"lr": "1"}, {"lr": "2"}], "seeds": [5, 6]})
    assert sweep.places() == [(0, 5), (1, 5), (0, 6), (1, 6)]
    assert sweep.places([1]) == [(1, 5), (1, 6)]


def test_seeds_of_a_sweep_begin_where_it_is_told(room):
    _, facts = plan_of(["./formula.py", "--grid", "lr=0.1,0.3", "--seed", "5", "--seeds", "2"])
    assert facts["seeds"] == [5, 6]


def test_a_search_is_a_sweep(room, capsys):
    pytest.importorskip("optuna")
    assert go("sweep ./formula.py --grid lr=0.1..0.9 hidden=4 --search 3 --seeds 1 --workers 2 --out out --quiet") == 0
    found = json.loads((room / "out/results.json").read_text())
    settings = {float(row["lr"]) for row in found["rows"]}
    assert len(settings) == len(found["rows"]) == 3
    assert float(found["chosen"]["lr"]) == max(settings)
    assert (room / "out/journal.log").is_file()
    capsys.readouterr()
    assert "was finished" in said(capsys, "sweep --resume out", code=0)


HOLDER = "import fcntl, sys; file = open('out/.lock', 'ab'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"


@pytest.mark.usefixtures("place")
def test_what_concerns_all_runs_stops_the_sweep_which_one_process_holds(tmp_path, capsys):
    err = said(capsys, "sweep ./toy.py --grid lr=0.1,0.2 --seeds 1 --out out")
    assert "nothing could be held out, since ./toy.py takes no data from neuropil.data" in err
    assert "go on with: neuropil sweep --resume out" in err
    assert not (tmp_path / "out/setting-002").exists()
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert "another process is at work in out." in said(capsys, "sweep --resume out")
        holder.communicate(b"\n")
    (tmp_path / "toy.py").write_text((tmp_path / "toy.py").read_text() + "\n# changed\n")
    assert "the code in toy.py" in said(capsys, "sweep --resume out")
    assert "there is no sweep in none" in said(capsys, "sweep --resume none")


def test_what_a_recipe_validates_itself_counts_before_what_it_reached_on_the_test_set(tmp_path):
    named = {"data": "digits", "seed": 3}
    reached = [ResultRow(learner=name, n_train=9, accuracy=0.9, **named) for name in ("one", "two")]
    own = [Row(kind="validation", learner="one", metrics={"accuracy": 0.37}, **named)]
    for rows, want in ((reached, [("one", 0.9), ("two", 0.9)]), (reached + own, [("one", 0.37)])):
        (tmp_path / "rows").write_text("".join(json.dumps(row.columns()) + "\n" for row in rows))
        scores = scores_of(Place(0, 3), tmp_path / "rows")
        assert [(score.learner, score.accuracy) for score in scores] == want
