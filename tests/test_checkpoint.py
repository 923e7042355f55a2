"""Checkpoints: every kind of state comes back, they are written rarely, and a damaged one is refused."""

import math

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.runs import Run
from neuropil.runs import run as room
from neuropil.runs.checkpoint import GlobalRandomness, capture, dump, load, restore_
from test_resume import begin, interrupted
from test_runs import same


def test_a_checkpoint_gives_back_every_kind_of_state(tmp_path):
    state = {
        "tensors": [torch.tensor(3), torch.zeros(0, 2), torch.ones(2, dtype=torch.bfloat16), torch.tensor([True])],
        "rng": torch.Generator().manual_seed(3).get_state(),
        "groups": [{"params": (0, 1), "lr": 0.1 + 0.2, "betas": (0.9, 0.999), "fused": None, "on": True, "name": "é"}],
        "state": {0: {"step": torch.tensor(1.0)}, 7: {}, "7": (), (1, "a"): []},
        "odd": [math.inf, -0.0, math.nan, 2**70],
    }
    dump(capture_state(state), tmp_path / "checkpoint")
    assert same(load(tmp_path / "checkpoint"), state)


def test_the_generators_of_gpus_come_back_where_there_were_any(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.append)
    state = GlobalRandomness().state_dict() | {"cuda": []}
    GlobalRandomness().load_state_dict(state)
    assert given == []  # CUDA is not begun for nothing
    GlobalRandomness().load_state_dict(state | {"cuda": [state["cpu"]]})
    assert given == [[state["cpu"]]]


def capture_state(state):
    class Holder:
        def state_dict(self):
            return state

        def load_state_dict(self, state): ...

    return capture(Holder(), "holder")


def test_a_capture_is_not_reached_by_later_changes():
    weight, net = torch.zeros(2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD([weight.requires_grad_()], lr=1.0, momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    taken = [capture(part, "part") for part in (weight, net, optimizer)]
    restore_(optimizer, taken[2], "optimizer")  # torch's optimisers keep what they are given
    before = [capture(part, "part") for part in (weight, net, optimizer)]
    optimizer.step()
    with torch.no_grad():
        net.weight.zero_()
    assert same(taken, before)


def test_states_that_cannot_be_written_are_refused():
    with pytest.raises(Refusal, match=r"'sampler' of a loop needs a state .* got list"):
        capture([1, 2], "sampler")
    with pytest.raises(Refusal, match=r"'holder.seen' holds a set"):
        capture_state({"seen": {1}})


def test_checkpoints_are_rare(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(room, "dump", lambda tree, path: written.append(tree))
    run = Run.start(tmp_path / "run", recipe="toy", config={}, command="")
    list(run.loop("quick", 1000, weight=torch.zeros(1)))
    assert len(written) == 1
    assert written[0]["loops"]["inner"]["quick"]["done"] == 1000


def test_loops_inside_a_finished_iteration_leave_the_checkpoint(tmp_path):
    run = begin(tmp_path / "run", 0.0)
    for _ in run.loop("outer", 3):
        for _ in run.loop("inner", 2, weight=torch.zeros(1000)):
            pass
    assert load(tmp_path / "run" / "checkpoint.safetensors")["loops"]["inner"]["outer"]["inner"] == {}


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    run.close()
    metrics, checkpoint = run.folder / "metrics.jsonl", run.folder / "checkpoint.safetensors"
    rows = metrics.read_bytes()
    metrics.write_bytes(rows[:5])
    with pytest.raises(Refusal, match=r"metrics\.jsonl is damaged: 5 bytes, its checkpoint knows of \d\d"):
        Run.resume(run.folder)
    metrics.write_bytes(rows)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-4])
    with pytest.raises(Refusal, match=r"checkpoint\.safetensors is damaged .* delete it"):
        Run.resume(run.folder)
