"""`neuropil run --workers 2`: two processes learn what one does; one that is killed ends both, and the run goes on.

With `--stages 2` each has some of the layers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuropil.cli import main
from neuropil.runs import read

pytestmark = pytest.mark.processes
TOY = '''"""A classifier of noise, on a network that two processes can share."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

import neuropil as npl
from neuropil.runs import ResultRow

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    shares: ClassVar[bool] = True
    seed: int = 0


def main(config, run):
    run.every = 0
    rng, noise = torch.Generator().manual_seed(config.seed), torch.Generator().manual_seed(7)
    data = npl.Split(torch.rand(61, 20, generator=noise), torch.arange(61) % 3, 3)
    torch.manual_seed(2)
    body = torch.nn.Sequential(torch.nn.Linear(20, 9), torch.nn.ReLU())
    learning = npl.LocalLearning({"0": npl.SoftHebb(tau=0.3)}, epochs=3, batch=16)
    model = npl.FeatureClassifier(body, learning=learning, readout=npl.SupervisedTraining(2, 16, min_steps=1))
    for turn in run.loop("models", 2, rng=rng):
        model.fit(data, rng=rng, tracker=run)
        if turn and (HERE / "wait").exists():
            (HERE / f"pid-{os.getpid()}").touch()
            time.sleep(100)
    seen = {"learner": "toy", "data": "noise", "seed": config.seed, "n_train": 61, "seconds": 1, "peak_mb": 1}
    run.log(ResultRow(accuracy=0.5, **seen))
    run.save(**model.network_.state_dict())
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def start(toy, *words):
    """A process that waits in its second turn, and the process that learns with it."""
    (toy / "wait").touch()
    command = [sys.executable, "-m", "neuropil", "run", *words]
    run = subprocess.Popen(command, cwd=toy, stderr=subprocess.PIPE, text=True)
    while len(found := list(toy.glob("pid-*"))) < 2 and run.poll() is None:
        time.sleep(0.1)
    (toy / "wait").unlink()
    (other,) = {int(path.name[4:]) for path in found} - {run.pid}
    return run, other


def test_two_processes_learn_what_one_does_and_go_on_after_one_was_killed(toy):
    assert main(["run", "./toy.py", "--out", "one", "--quiet"]) == 0
    run, other = start(toy, "./toy.py", "--workers", "2", "--out", "two", "--quiet")
    os.kill(other, signal.SIGKILL)
    said = run.communicate(timeout=300)[1]
    ended = "neuropil: process 2 of 2 has ended (signal 9); the others were stopped. What was written is kept;"
    assert said == f"{ended} go on with: neuropil run --resume two\n"
    assert run.returncode == 2
    assert main(["run", "--resume", "two", "--workers", "1"]) == 2  # which needs --anyway
    assert main(["run", "--resume", "two", "--quiet"]) == 0
    assert read("two").facts["workers"] == 2
    one, two = (load_file(toy / name / "weights.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)


def test_stages_learn_what_one_process_does_to_the_bit_in_the_models_and_in_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "--data digits --n-train 60 --channels 3 4 5 --labels 30 --learners soft_hebb --epochs 2 --batch 7"
    words += " --readout-min-steps 3 --readout-epochs 1 --quiet"
    for stages in ("1", "3"):
        assert main(["run", "cifar_softhebb", *words.split(), "--stages", stages, "--out", stages]) == 0
    one, three = (load_file(*Path(name, "models").glob("*.safetensors")) for name in ("1", "3"))
    assert one.keys() == three.keys()
    assert all(torch.equal(one[name], three[name]) for name in one)
    timed = ("seconds", "peak_mb")
    logs = [[json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()] for name in "13"]
    strip = lambda rows: [{key: value for key, value in row.items() if key not in timed} for row in rows]
    assert strip(logs[0]) == strip(logs[1])
    assert any(row.get("relative_change", 0) > 0.01 for row in logs[1])
    assert main(["run", "cifar_softhebb", *words.split(), "--stages", "2", "--workers", "2", "--out", "4"]) == 0
    four = load_file(*Path("4", "models").glob("*.safetensors"))
    assert read("4").facts["workers"] == 4
    for name in one:
        torch.testing.assert_close(four[name], one[name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_cut_into_stages_is_refused_in_one_line(toy, capsys):
    for words, said in {
        "mnist_krotov --stages 2": "mnist_krotov has no layers that learn at once; --stages is for cifar_softhebb",
        "cifar_softhebb --stages 0": "--stages takes a number >= 1, got 0.",
    }.items():
        assert main(["run", *words.split()]) == 2
        assert said in capsys.readouterr().err
    assert list(toy.iterdir()) == [toy / "toy.py"]


def test_what_learns_in_one_process_is_refused_in_one_line(toy, capsys):
    assert main(["run", "single_neuron", "--workers", "2"]) == 2
    assert "single_neuron learns in one process; several are for features of local rules" in capsys.readouterr().err
    assert main(["run", "./toy.py", "--workers", "0"]) == 2
    assert "--workers takes a number >= 1, got 0." in capsys.readouterr().err
    assert list(toy.iterdir()) == [toy / "toy.py"]
