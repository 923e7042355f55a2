"""The command line when something is wrong: one line, the right exit code, and nothing lost."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from cli_place import RECIPE, go, said, weights
from cli_place import place as place
from neuropil.cli import runner
from neuropil.cli.app import main, one_line_each
from neuropil.cli.settings import use_machine
from neuropil.errors import Refusal
from neuropil.recipes import krotov_settings
from neuropil.runs import read

pytestmark = pytest.mark.usefixtures("place")


WRONG = {
    "rnu": "unknown command 'rnu'. Did you mean 'run'?",
    "run": "name a recipe first, for example: neuropil run digits_mstdp. All of them: neuropil list",
    "mnist_krotov": "'mnist_krotov' is a recipe; run it with: neuropil run mnist_krotov",
    "mnist": "'mnist' is a data set; try: neuropil compare --data mnist, or run one of the recipes on it: ",
    "run yin_yang_": "unknown recipe 'yin_yang_'. Did you mean 'yin_yang'?",
    "run fashion_mnist": "run one of the recipes on it: fashion_conv_krotov, fashion_krotov, fashion_mstdp.",
    "run krotov": "unknown recipe 'krotov'. Did you mean 'cifar_krotov' or ",
    "run --lr 3": "name a recipe first, ",
    "run comapre": "unknown recipe 'comapre'. Did you mean 'compare'?",
    "run ./toi.py": "there is no recipe file ./toi.py",
    "run toy.py --imags 3": "unknown setting 'imags'. Did you mean 'images'? Known: data, fast_head, hidden,",
    "run toy.py --ot x": "unknown setting 'ot'. Did you mean 'out'?",
    "run toy.py --images many": "setting 'images' takes int, got 'many'.\n",
    "run toy.py --images=many": "setting 'images' takes int, got 'many'.\n",
    "run toy.py --images": "setting 'images' takes int, got nothing.",
    "run toy.py --images 1 2": "setting 'images' takes int, got '1 2'.",
    "run toy.py --data cion": "setting 'data' takes one of 'coin', 'die', got 'cion'.",
    "run toy.py --hidden 1 x": "setting 'hidden' takes any number of int, got '1 x'.",
    "run toy.py --fast-head yes": "setting 'fast_head' takes no value (--fast-head or --no-fast-head), got 'yes'.",
    "run toy.py stray": "cannot place 'stray'; settings are written --name value.",
    "run toy.py --nosie 1 --lr x --seed y": "'lr' takes float, got 'x'. setting 'seed' takes int, got 'y'.",
    "run toy.py --lr -1": "neuropil: lr must be above 0, got -1.0.\n",
    "run toy.py --seeds none": "setting 'seeds' takes int, got 'none'.",
    "run toy.py --seeds 0": "--seeds takes a number of runs, got 0.",
    "run toy.py --outt x --sed 1": "unknown setting 'outt'. Did you mean 'out'? Known: data, fast_head, ",
    "run toy.py --out": "setting 'out' takes a path, got nothing.",
    "run toy.py --out .": ". exists already, and a run needs a new folder",
    "run mnist_krotov --random-weight-decay -1 --learners linear": "'random_weight_decay' needs",
    "run --resume": "setting 'resume' takes a path, got nothing.",
    "run --resume nowhere": "there is no run in nowhere: no such folder.",
    "run --resume .": ". is not a run: it has no run.json.",
    "run toy.py --resume .": "cannot place 'toy.py'; settings are written --name value.",
    "run --resume . --lr 2": "unknown setting 'lr'. Known: anyway, code, device, quiet, resume, workers.",
    "compare --resume nowhere": "there is no run in nowhere: no such folder.",
    "copy toy.py": "expected NAME FILE, got toy.py; see --help.",
    "copy toy.py a.py --ot": "unknown setting 'ot'. Known: none.",
    "copy toy.py mine": "a recipe is a Python file, got 'mine'; did you mean 'mine.py'?",
    "copy toy.py no/mine.py": "no/mine.py: No such file or directory.",
    "data lits": "unknown data command 'lits'. Did you mean 'list'?",
    "data": "say what to do: neuropil data list, neuropil data fetch NAME",
    "data fetch": "expected NAME, got nothing; see --help.",
    "data list all": "cannot place 'all'",
    "data fetch mnits": "unknown data set 'mnits'. Did you mean 'mnist'?",
    "report": "name the folders of one or more runs: neuropil report DIR...",
    "report a --otu b": "unknown setting 'otu'. Did you mean 'out'?",
    "list all": "cannot place 'all'",
    "bench": "name a benchmark",
    "bench conv --batch 0": "setting 'batch' needs a number >= 1, got 0.",
    "bench conv --kernel 29": "28 x 28 pixels, got kernels of side 29.",
    "bench conv --device abacus": "device 'abacus' cannot be used (torch knows none of that name",
    "bench plasticity --batches": "setting 'batches' needs numbers >= 1, got ().",
    "bench plasticity --batches 4 -4": "setting 'batches' needs numbers >= 1, got (4, -4).",
    "bench spiking --threads -1": "setting 'threads' needs a number >= 0, got -1.",
    "bench associative --units 0": "setting 'units' needs a number >= 1, got 0.",
    "bench attack --batch 1": "setting 'batch' needs a number >= 2, got 1.",
    "run concept --points 0": "setting 'points' needs a number >= 2, got 0.",
    "run mnist_conv_krotov --kernel 0": "setting 'kernel' needs a number >= 1, got 0.",
    "run mnist_conv_krotov --device abacus": "device 'abacus' cannot be used (torch knows none of that name",
    "run mnist_semi --labelled-fraction nan": "setting 'labelled_fraction' needs a number >= 0, got nan.",
    "run mnist_krotov --seed 99999999999999999999": "setting 'seed' needs 64 bits at most, got 99999999999999999999.",
    "compare --threads -1": "setting 'threads' needs a number >= 0, got -1.",
    "compare --n-test -1": "setting 'n_test' needs a number >= 0, got -1.",
    "run mnist_theta --threads -1": "setting 'threads' needs a number >= 0, got -1.",
    "run recurrent --neurons 1": "setting 'neurons' needs a number >= 2, got 1.",
    "run single_neuron --n-updates -1": "setting 'n_updates' needs a number >= 1, got -1.",
    "compare --n-train 9999": "setting 'n_train' needs a number up to 1438, or 0 for all of digits, got 9999.",
    "compare --units 9": "setting 'units' needs a number >= 10, got 9.",
    "run mnist_krotov --units 0": "setting 'units' needs a number >= 1, got 0.",
    "run mnist_association --columns": "setting 'columns' needs numbers >= 1, got ().",
    "run mnist_krotov --lr -1": "setting 'lr' needs a number >= 0, got -1.",
    "run cifar_softhebb --lr 0.1 nan 0.1": "setting 'lr' needs numbers >= 0, got (0.1, nan, 0.1).",
    "run mnist_krotov --backprop-lr -0.5": "setting 'backprop_lr' needs a number >= 0, got -0.5.",
    "run mnist_softhebb --channels 4 6 0": "setting 'channels' needs numbers >= 1, got (4, 6, 0).",
}


@pytest.mark.parametrize("words", WRONG)
def test_bad_words_get_one_line(capsys, words):
    assert WRONG[words] in said(capsys, words)


BROKEN = {
    "def main(:\n": "broken.py line 1: invalid syntax.",
    "a\0b": "broken.py: source code string cannot contain null bytes.",
    "def main(config, run): ...\n": "broken.py needs a dataclass named Config.",
    "class Config: ...\ndef main(config, run): ...\n": "broken.py needs a dataclass named Config.",
    "Config = 3\n": "broken.py is no recipe: it needs a function main(config, run).",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_recipe_gets_one_line(capsys, text):
    Path("broken.py").write_text(text)
    assert BROKEN[text] in said(capsys, "run broken.py --out out")
    assert not Path("out").exists()


def test_a_setting_without_default_is_asked_for(capsys):
    Path("needs.py").write_text(RECIPE.replace("    lr: float = 0.5  # change", "    lr: float  # change"))
    assert "setting 'lr' is needed: float." in said(capsys, "run needs.py --images 3")


def test_many_seeds_need_a_seed(capsys):
    Path("still.py").write_text(RECIPE.replace("    seed: int = 0\n", "").replace("config.seed", "0"))
    assert "--seeds needs a setting 'seed', which still.py has not." in said(capsys, "run still.py --seeds 2")


def test_an_existing_folder_loses_nothing(capsys):
    assert go("run toy.py --out out") == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert "out exists already" in said(capsys, "run toy.py --out out --lr 3")
    assert "the run in out was finished; its report is written again." in said(capsys, "run --resume out", 0)
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_refusal_before_any_work_leaves_no_folder(capsys):
    assert "there are 99 images, got 100." in said(capsys, "run toy.py --images 100 --out out")
    assert not Path("out").exists()
    said(capsys, "run toy.py --images 100 --seeds 2 --out out")
    assert not Path("out").exists()


def test_nor_does_it_leave_the_folders_above_it_or_a_bug_a_folder(capsys):
    for out in ("", " --out new/deep/out"):
        assert "got 100" in said(capsys, f"run toy.py --images 100{out}")
        Path("begin.bug").touch()
        assert go(f"run toy.py --seeds 2{out}") == 1
        assert "ZeroDivisionError: a bug" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir() if path.name != "__pycache__"] == ["toy.py"]


def test_runs_of_the_same_second_get_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "now")
    for _ in range(3):
        assert go("run toy.py --quiet") == 0
    assert go("run toy.py --seeds 1") == go("run toy.py --seeds 1") == 0
    names = ["now-seed0", "now-seed0-2", "now-seed0-3", "now-seeds1", "now-seeds1-2"]
    assert sorted(path.name for path in Path("runs/toy").iterdir()) == names


def test_a_run_goes_on_in_another_folder_with_its_own_copy_of_the_recipe(capsys, monkeypatch):
    Path("more1.stop").touch()
    assert go("run ./toy.py --seeds 2 --out out") == 130
    assert go("run ./toy.py --seeds 2 --out whole") == 0
    Path("there").mkdir()
    monkeypatch.chdir("there")
    capsys.readouterr()
    assert go("run --resume ../out") == 0
    said = capsys.readouterr().err
    assert "going on with ../out/recipe.py in the place of ./toy.py." in said
    assert "going on with ../out/seed-0/recipe.py in the place of ./toy.py." in said
    assert weights("../out/seed-1") == weights("../whole/seed-1")


def test_other_versions_than_at_the_start_are_refused_or_recorded(capsys):
    Path("more1.stop").touch()
    assert go("run toy.py --out out") == 130
    facts = json.loads(Path("out/run.json").read_text())
    facts["versions"]["torch"] = "2.0"
    Path("out/run.json").write_text(json.dumps(facts))
    capsys.readouterr()
    assert "began, this has changed: torch 2.0, now " in said(capsys, "run --resume out")
    assert "going on though this has changed: torch 2.0, now " in said(capsys, "run --resume out --anyway", 0)
    (again,) = read("out").facts["resumed"]
    assert again["changed"][0].startswith("torch 2.0, now ")


def test_text_that_the_locale_cannot_write_costs_no_run(capsys):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "neuropil", "data", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert main(["run", "toy.py", "--out", "caf\udce9"]) == 2
    assert "not valid UTF-8" in capsys.readouterr().err


def test_pictures_are_named_in_order_and_every_name_stands_in_one_line(capsys):
    out = Path("long" * 30)
    (out / "pictures").mkdir(parents=True)
    names = [f"{k:02}.png" for k in range(20)]
    for k in range(20):
        (out / "pictures" / names[7 * k % 20]).touch()
    assert runner._report_if_any(out) == 0
    said = [f"report: {out / 'report.html'}", *(f"picture: {out / 'pictures' / name}" for name in names)]
    assert capsys.readouterr().out.splitlines()[-21:] == said


def test_a_refusal_after_some_work_keeps_it(capsys):
    assert "one unit is not enough." in said(capsys, "run toy.py --hidden 1 --out out")
    assert len(read("out").rows) == 1


def test_a_bug_in_a_recipe_is_shown_and_can_be_mended(capsys):
    Path("more1.bug").touch()
    assert go("run toy.py --out out") == 1
    err = capsys.readouterr().err
    assert err.endswith("a bug\nWhat was written is kept; go on with: neuropil run --resume out\n")
    Path("toy.py").write_text(RECIPE + "# mended\n")
    assert "began, this has changed: the code in toy.py. Start a new run, or resume" in said(capsys, "run --resume out")
    assert "the code in recipe.py; the report will say so" in said(capsys, "run --resume out --anyway", 0)
    assert go("run toy.py --out whole") == 0
    assert weights("out") == weights("whole")


def test_the_place_of_an_error_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("NEUROPIL_TRACEBACK", "1")
    with pytest.raises(Refusal, match="unknown command"):
        main(["rnu"])


def test_a_run_whose_recipe_has_changed_is_refused(capsys):
    Path("more1.stop").touch()
    assert go("run toy.py --out out") == 130
    capsys.readouterr()
    Path("toy.py").write_text(RECIPE.replace("images: int = 3", "images: int = 4"))
    assert "this has changed: the code in toy.py." in said(capsys, "run --resume out")
    Path("toy.py").write_text(RECIPE)
    facts = json.loads(Path("out/run.json").read_text())
    Path("out/run.json").write_text(json.dumps(facts | {"command": "neuropil.compare(...)"}))
    assert "resume it where it was started, with Run.resume" in said(capsys, "run --resume out")


def test_a_full_disk_gets_one_line_and_the_run_goes_on_when_there_is_room(capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, hard))
    try:
        line = said(capsys, "run toy.py --hidden 0 --out out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large. What was written is kept; go on with: neuropil run --resume out" in line
    assert set(read("out").tensors()) == {"weight"}
    assert go("run --resume out") == 0
    assert go("run toy.py --hidden 0 --out whole") == 0
    assert weights("out") == weights("whole")


def test_ctrl_c_and_kill_stop_a_run_that_goes_on_bit_for_bit(capfd):
    """In real processes: SIGINT in the first loop, then SIGTERM in the second."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for words, where, what in (
        ("run toy.py --out out", "step2", signal.SIGINT),
        ("run --resume out", "more1", signal.SIGTERM),
    ):
        Path(f"{where}.wait").touch()
        command = [sys.executable, "-m", "neuropil", *words.split()]
        listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background does not
        with subprocess.Popen(command, env=environment, preexec_fn=listens) as process:
            while not Path("waiting").exists() and process.poll() is None:
                time.sleep(0.01)
            Path("waiting").unlink()
            process.send_signal(what)
        assert process.returncode == 130
        out, err = capfd.readouterr()
        assert (out, err.splitlines()[-1]) == ("", "neuropil: stopped; go on with: neuropil run --resume out")
        assert all(line.startswith("[toy, seed 0] first ") for line in err.splitlines()[:-1])
        assert not read("out").finished
    assert go("run --resume out") == 0
    assert go("run toy.py --out whole") == 0
    assert weights("out") == weights("whole")
    assert read("out").rows == read("whole").rows


def test_more_threads_than_cores_are_named():
    config, threads = krotov_settings.Config(threads=10_000), torch.get_num_threads()
    try:
        with pytest.warns(UserWarning, match=r"threads=10000 on \d+ cores wait for each other; take fewer"):
            use_machine(config)
    finally:
        torch.set_num_threads(threads)


def test_a_warning_is_one_line_and_comes_once(capsys, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", one_line_each())
        for left in (3, 2):
            warnings.warn(f"{left} samples had\nnot settled.", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (More")[0] for line in lines] == [
        "neuropil: warning: 3 samples had not settled.",
        "neuropil: warning: another",
    ]
