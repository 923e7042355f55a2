"""Every recipe runs with `--device cuda`, on a stand-in for a GPU, and writes the rows that it writes on the CPU."""

import shlex
import sys
from contextlib import nullcontext
from types import ModuleType

import pytest
from rich.table import Table

import neuropil
from neuropil import report
from neuropil.cli import main
from neuropil.cli.recipes import recipe_names, resolve
from neuropil.data import digits
from neuropil.experiments import own_data
from neuropil.recipes import mnist_complete
from neuropil.report import save_sheet
from neuropil.runs import NullTracker, TaggedTracker, read
from other_device import other_device

FEW = "--n-train 60"
KROTOV = f"{FEW} --units 12 --labels 30"
CONV = f"{FEW} --kernels 8 --kernel 3 --patch-fraction 0.5 --labels 30"
WIDE = f"{FEW} --units 4 --k 2 --kernel 5 --stride 1 --patch-fraction 0.5"
NETS = f"{FEW} --hidden 40 20 --columns 4 1 --receptive-field 5 --batch 30 --backprop-batch 30"
STDP = f"{FEW} --n-samples 2 --classification-units 10 --generation-units 8 --completion-units 8"
PHASES = "--units 10 --free 0.3 --nudged 0.1 --control 0.1 --in-use 0.2"
TINY = {
    "compare": f"--data digits {FEW} --seeds 1 --units 40 --labels 1000",
    "mnist_krotov": KROTOV,
    "diehl_cook": f"{FEW} --units 12 --duration 0.05",
    "mnist_conv_krotov": CONV,
    "stdp_conv": f"{FEW} --kernels 6 5 --kernel 3 --thresholds 3 4 --patch-threshold 1.5 --n-images 60 60",
    "krotov_settings": "--experiment fashion_krotov --width 12 --n-train 120 --changes 1 --label-fraction 0.3",
    "linear_settings": "--data digits --n-train 120",
    "mnist_association": NETS,
    "mnist_pairs": f"{NETS} --pairs '1 2'",
    "iris_association": "--hidden 12 6 --pairs '0 1'",
    "mnist_theta": f"{FEW} --hidden 6 --batch 30",
    "mnist_theta_best": f"{FEW} --units 6 --batch 30",
    "mnist_softhebb": f"{FEW} --channels 4 3 2 --batch 30 --n-augmented 1 --labels 1000 --learners soft_hebb k_means",
    "cifar_wide": f"{WIDE} --labels 1000 --learners signed_wta hard_wta k_means",
    "concept": "--points 4",
    "single_neuron": "--n-updates 2",
    "recurrent": "--n-updates 2",
    "yin_yang": f"{FEW} --units 6",
    "lif_qif": f"{FEW} --units 6 --learners qif backprop linear",
    "digits_mstdp": f"{STDP} --learners mstdp --accept-margin 0",
    "spiking_associative": f"{FEW} {PHASES} --batch 60 --epochs 1 --learners spikes",
    "mnist_semi": f"{FEW} --labels 30 --classification-units 10 --n-rounds 1 --batch 30",
    "mnist_unsupervised": f"{FEW} --units 10 --components 5 --batch 30",
    "continual": f"--data digits {FEW} --units 6 --per-class 2 --iterations 5 --learners random_association"
    " random_delta k_means_least_squares local_lateral stream_prototypes association ewc",
    "balanced": "--excitatory 20 --inhibitory 10 --connected 0.5 --learning 1 --measured 1 --dt 5e-3 --block 0.05",
    "reward_stdp": "--trials 2 --batch 4 --n-test 1 --duration 0.02",
    "pair_triplet": "--pairs 2 --window-frequencies 40 --widths 0.02 0.2",
    "few_bits": f"{FEW} --units 12 --bits 4 --learners krotov_hopfield association mstdp backprop",
    "momentum": "--momenta 0 0.5 --step-sizes 0.2",
}
AFTER = {"attack", "mnist_complete", "precision"}  # they take the run of another, below
UNLIKE = ("seconds", "peak_mb", "ms", "wins", "norms", "win_entropy")  # the last: ties fall either way
pytestmark = pytest.mark.filterwarnings("ignore:.*samples had not settled")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Small digits for data sets that are not on every machine, two passes for many, no report."""
    known, whole, room = own_data.load, TaggedTracker.loop, ModuleType("neuropil.report")
    few = [part[:120] for part in digits(seed=0)]
    load = lambda name, seed=0: known(name, seed=seed) if name in ("iris", "yin_yang") else few
    for reader in (own_data, mnist_complete):
        monkeypatch.setattr(reader, "load", load)
    room.write, room.gather, room.table = (lambda folders, out: out), (lambda folders: folders), (lambda _: Table())
    room.save_sheet = save_sheet
    room.__dict__.update({name: getattr(report, name) for name in report.__all__ if name.startswith("plot_")})
    monkeypatch.setitem(sys.modules, "neuropil.report", room)
    monkeypatch.setattr(neuropil, "report", room, raising=False)
    turns = lambda title, count: count if title == "attacks" else min(count, 2)
    loop = lambda self, title, count, **kept: whole(self, title, turns(title, count), **kept)
    monkeypatch.setattr(TaggedTracker, "loop", loop)
    monkeypatch.setattr(NullTracker, "loop", lambda self, title, count, **kept: iter(range(turns(title, count))))


def rows(words, out, device):
    """The rows of a run on `device`, without what it took."""
    assert main([*words, "--quiet", "--device", device, "--out", str(out / device)]) == 0
    found = [{key: value for key, value in row.items() if key not in UNLIKE} for row in read(out / device).rows]
    assert all(row["kind"] != "failed" for row in found), [row for row in found if row["kind"] == "failed"]
    return found


def alike(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other or (isinstance(one, float) and (one != one or abs(one - other) <= 1e-2 * (1 + abs(one))))


def both(words, out):
    want = rows(words, out, "cpu")
    with other_device() as seen:
        got = rows(words, out, "cuda")
    assert len(want) == len(got) > 0
    for mine, theirs in zip(want, got):
        assert alike(mine, theirs), (mine, theirs)
    assert seen


def test_every_recipe_is_tried():
    bases = {resolve(name, [])[0] for name in recipe_names()}
    assert {resolve(name, [])[0] for name in TINY} | AFTER == bases


@pytest.mark.parametrize("name", TINY)
def test_a_recipe_runs_where_it_is_told_to(name, tmp_path):
    both(["run", name, *shlex.split(TINY[name])], tmp_path)


def test_the_runs_of_others_are_attacked_completed_and_drawn_there(tmp_path, capsys):
    few = f"{FEW} --classification-units 10 --generation-units 8 --completion-units 8 --n-samples 2 --learners mstdp"
    made = rows(["run", "digits_mstdp", *few.split()], tmp_path, "cpu")
    run = str(tmp_path / "cpu")
    assert made
    both(["run", "mnist_complete", "--of", run, "--n-test", "6", *FEW.split()], tmp_path / "completed")
    harm = "--n-test 18 --linf 0.1 --l2 --attack-steps 2 --attack-restarts 1 --attack-queries 11"
    both(["attack", run, *harm.split()], tmp_path / "attacked")
    both(["run", "precision", "--of", run, "--bits", "4"], tmp_path / "rounded")
    for verb in ("generate", "complete"):
        said = []
        for device in ("cpu", "cuda"):
            with other_device() if device == "cuda" else nullcontext():
                words = [verb, run, "--n", "2", "--n-rounds", "2", "--device", device]
                assert main([*words, "--out", str(tmp_path / f"{device}.png")]) == 0
            said.append((tmp_path / f"{device}.png").read_bytes())
        assert said[0] == said[1]
