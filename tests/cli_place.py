"""A toy recipe, and an empty folder to run it in, for the tests of the command line."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.table import Table

import neuropil
from neuropil.cli import main

RECIPE = '''"""A toy that learns nothing, twice.

Measured: 50 % on a coin,
n = 3.

Try: neuropil run ./toy.py
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from neuropil.errors import require
from neuropil.runs import ResultRow


@dataclass(frozen=True)
class Config:
    lr: float = 0.5  # change per step
    images: int = 3  # how many to look at
    data: Literal["coin", "die"] = "coin"  # what to look at
    hidden: tuple[int, ...] = (4,)
    fast_head: bool = False
    seed: int = 0

    def __post_init__(self):
        require(self.lr > 0, f"lr must be above 0, got {self.lr}.")


def happen(name):
    """What the test planted to happen here."""
    for file in Path(__file__).parent.glob(f"{name}.*"):
        what = file.suffix
        file.unlink()
        if what == ".wait":
            Path(__file__).with_name("waiting").touch()
            time.sleep(60)
        raise {".stop": KeyboardInterrupt(), ".bug": ZeroDivisionError("a bug")}[what]


def main(config, run):
    assert type(config) is Config, "this file was run twice"
    run.every = 0
    happen("begin")
    rng, weight = torch.Generator().manual_seed(config.seed), torch.zeros(2)
    require(config.images < 100, f"there are 99 images, got {config.images}.")
    for i in run.loop("first", config.images, rng=rng, weight=weight):
        weight += config.lr * torch.rand(2, generator=rng)
        happen(f"step{i}")
    tags = {"learner": "toy", "data": config.data, "seed": config.seed}
    run.log(ResultRow(**tags, n_train=1, accuracy=0.5, seconds=1, peak_mb=1))
    for i in run.loop("second", config.images, rng=rng, weight=weight):
        weight += config.lr * torch.rand(2, generator=rng)
        happen(f"more{i}")
    run.save(weight=weight)
    if config.hidden == (0,):
        run.save(large=torch.zeros(100_000))
    require(config.hidden != (1,), "one unit is not enough.")
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with toy.py to work in, and a report that is quick."""
    room = ModuleType("neuropil.report")
    room.calls = []
    room.write = lambda folders, out: room.calls.append((folders, out)) or out
    room.gather = lambda folders: folders
    room.table = lambda folders: Table("a table")
    monkeypatch.setitem(sys.modules, "neuropil.report", room)
    monkeypatch.setattr(neuropil, "report", room, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(RECIPE)
    return room


def go(words):
    return main(words.split())


def said(capsys, words, code=2):
    """The one line that `words` bring to stderr."""
    assert go(words) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("["))  # lines on the progress
    assert err.startswith("neuropil: ")
    assert err.count("\n") == 1
    return err


def weights(folder):
    return Path(folder, "weights.safetensors").read_bytes()
