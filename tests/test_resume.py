"""A run that was killed, at any point and however often, ends bit for bit like one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.runs import Row, Run, checkpoint, read
from neuropil.runs import run as room
from neuropil.runs.checkpoint import load


def row_of(kind, **columns):
    return Row(kind=kind, metrics=columns)


class Killed(BaseException):
    pass


def step(net, optimizer, x):
    loss = net(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def toy(run, tick):
    """All that a recipe may do: dropout, schedules, loops in loops, a title twice, a loop left early, work between."""
    torch.manual_seed(0)
    rng, total = torch.Generator().manual_seed(1), torch.zeros(2)
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    falling = torch.optim.lr_scheduler.MultiStepLR(adam, [1, 2], gamma=0.3)
    run.log(row_of("begin", draw=torch.rand(1).item()))
    for epoch in run.loop("features", 3, net=net, adam=adam, falling=falling, rng=rng):
        run.log(row_of("epoch", epoch=epoch, loss=step(net, adam, torch.randn(5, 4, generator=rng))))
        falling.step()
        tick()
    run.save(features=net[0].weight)
    run.log(row_of("between", draw=torch.rand(1).item()))
    tick()
    for seed in run.loop("seeds", 3, rng=rng, total=total):
        layer = nn.Linear(2, 2)
        sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        run.log(row_of("learner", seed=seed, first=layer.weight[0, 0].item()))
        tick()
        for epoch in run.loop("fit", 3, layer=layer, sgd=sgd):
            run.log(row_of("epoch", epoch=epoch, loss=step(layer, sgd, torch.randn(3, 2, generator=rng))))
            total += layer.weight.detach().sum(0)  # state of the loop around this one
            tick()
            if seed == epoch == 1:
                break
        run.log(row_of("half", total=total))
        for _ in run.loop("fit", 2 if seed else 0, layer=layer, sgd=sgd):  # none in the first seed
            step(layer, sgd, torch.randn(3, 2, generator=rng))
            tick()
        for _ in range(seed):  # loops that come only later: the loop around could not know of them
            for _ in run.loop("late", 2, layer=layer):
                layer.weight.data.add_(torch.randn(2, 2, generator=rng))
                tick()
        run.log(row_of("reached", seed=seed, weight=layer.weight, draw=torch.rand(1).item()))
        run.save(**{f"layer.{seed}": layer.weight, "total": total})
    run.log(row_of("end", draw=torch.rand(1).item()))
    tick()


def late(run, tick):
    """A loop with state whose iterations hold no loops at first, and then do."""
    rng, weight = torch.Generator().manual_seed(2), torch.zeros(3)
    for i in run.loop("outer", 4, weight=weight, rng=rng):
        weight += torch.randn(3, generator=rng)
        run.log(row_of("outer", i=i, weight=weight))
        tick()
        if i >= 2:
            for _ in run.loop("inner", 2, weight=weight):
                weight *= torch.rand(3, generator=rng)
                run.log(row_of("inner", weight=weight))
                tick()
    run.save(weight=weight)


def throw():
    raise Killed


def until(stop, kill=throw):
    """A tick that kills at the `stop`-th call, and counts."""

    def tick():
        tick.count += 1
        if tick.count == stop:
            kill()

    tick.count = 0
    return tick


PATIENCE = {"always": lambda: 0.0, "at ends": lambda: float("inf"), "now and then": lambda: 2.5}


@pytest.fixture(params=PATIENCE)
def patience(request, monkeypatch):
    """Time between checkpoints; a clock that goes 1 s per look makes "now and then" the same in every process."""
    now = iter(range(10**9))
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=lambda: 0.0)
    monkeypatch.setattr(room, "time", clock)
    monkeypatch.setattr(checkpoint, "time", clock)
    monkeypatch.setattr(room, "git", dict)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    return PATIENCE[request.param]()


def begin(folder, patience):
    run = Run.start(folder, recipe="toy", config={}, command="")
    run.every = patience
    return run


def work(run, recipe, tick):
    torch.manual_seed(99)  # a new process would not know where the old one's generator was
    try:
        recipe(run, tick)
        run.finish()
    except Killed:
        run.close()


def result(folder):
    names = ("metrics.jsonl", "weights.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("recipe", [toy, late])
def test_killed_anywhere_the_result_is_the_same(tmp_path, patience, recipe):
    whole, count = tmp_path / "whole", until(None)
    work(begin(whole, patience), recipe, count)
    for stop in range(1, count.count + 1):
        folder = tmp_path / str(stop)
        work(begin(folder, patience), recipe, until(stop))
        assert not read(folder).finished
        for again in (2, None):  # the second process is killed too, soon after it began
            if not read(folder).finished:
                run = Run.resume(folder)
                run.every = patience
                work(run, recipe, until(again))
        assert read(folder).facts["rows"] == len(read(folder).rows)  # the report misses lines where there are fewer
        assert result(folder) == result(whole), f"killed at tick {stop} of {count.count}"


def test_work_is_not_done_again(tmp_path):
    """After a kill in a loop inside a loop, only the interrupted iteration is repeated."""
    done = []

    def nested(run, stop):
        for i in run.loop("outer", 3):
            for j in run.loop("first", 2):
                done.append((i, "first", j))
            for j in run.loop("second", 3):
                if (i, j) == stop:
                    raise Killed
                done.append((i, "second", j))

    run = begin(tmp_path / "run", 0.0)
    with pytest.raises(Killed):
        nested(run, (1, 2))
    run.close()
    done.clear()
    nested(Run.resume(tmp_path / "run"), None)
    assert done == [(1, "second", 2), *((2, name, j) for name, n in (("first", 2), ("second", 3)) for j in range(n))]


def test_seconds_go_on(tmp_path, monkeypatch):
    """The cost of a loop that was interrupted is that of its work, not of the wait, and not only of the rest."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr(room, "time", clock)
    monkeypatch.setattr(checkpoint, "time", clock)

    def timed(run, stop):
        for _ in run.loop("before", 1):
            now[0] += 7
        start = run.seconds
        for i in run.loop("work", 4):
            if i == stop:
                raise Killed
            now[0] += 10
        run.log(row_of("cost", seconds=run.seconds - start))

    run = begin(tmp_path / "run", 0.0)
    with pytest.raises(Killed):
        timed(run, 2)
    run.close()
    now[0] = 1e6
    run = Run.resume(tmp_path / "run")
    timed(run, None)
    run.finish()
    assert read(tmp_path / "run").rows == [{"kind": "cost", "seconds": 40.0}]
    assert read(tmp_path / "run").facts["seconds"] == 47.0


def interrupted(folder, weight):
    run = begin(folder, 0.0)
    for i in run.loop("epochs", 4, weight=weight):
        run.log(row_of("step", n=i))
        if i == 2:
            break
    run.close()
    return Run.resume(folder)


CHANGED = {
    "another count": (lambda run: run.loop("epochs", 5, weight=torch.zeros(3)), "had 4 iterations .* now 5"),
    "a part lost": (lambda run: run.loop("epochs", 4), r"saved with state of .*1\.weight"),
    "a part more": (lambda run: run.loop("epochs", 4, weight=torch.zeros(3), b=torch.zeros(1)), r"now it has .*1\.b"),
    "another shape": (
        lambda run: run.loop("epochs", 4, weight=torch.zeros(1, 3)),
        r"1\.weight.*saved \(3,\) .*\(1, 3\)",
    ),
    "another dtype": (
        lambda run: run.loop("epochs", 4, weight=torch.zeros(3).double()),
        r"float32, now \(3,\).*float64",
    ),
    "another kind": (lambda run: run.loop("epochs", 4, weight=nn.Linear(3, 1)), r"'1\.weight' no longer fits"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_recipe_that_changed_is_refused(tmp_path, change):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    loop, message = CHANGED[change]
    with pytest.raises(Refusal, match=message):
        list(loop(run))
    assert [row["n"] for row in read(run.folder).rows] == [0, 1]


def test_a_module_that_changed_is_refused(tmp_path):
    run = interrupted(tmp_path / "run", nn.Linear(3, 2))
    with pytest.raises(Refusal, match=r"'1\.weight' no longer fits its checkpoint .*size mismatch"):
        list(run.loop("epochs", 4, weight=nn.Linear(3, 5)))


def test_a_loop_that_never_comes_is_refused(tmp_path):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    list(run.loop("other", 1))
    with pytest.raises(Refusal, match="interrupted in loop 'epochs', which never came"):
        run.finish()
    assert not read(run.folder).finished


def test_a_resumed_run_says_so(tmp_path):
    run = interrupted(tmp_path / "run", torch.zeros(3))
    (again,) = read(run.folder).facts["resumed"]
    assert again["versions"]["torch"] == torch.__version__


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_resume import Run, begin, toy, until

folder, stop = sys.argv[1], int(sys.argv[2])
run = Run.resume(folder) if os.path.exists(folder) else begin(folder, 0.0)
run.every = 0.0
toy(run, until(stop, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_kill_9_again_and_again(tmp_path):
    """Killed in the first loop, between loops, and inside a loop inside a loop, each time in a new process."""
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    for stop in (2, 3, 5):
        killed = subprocess.run([sys.executable, "-c", script, str(folder), str(stop)])
        assert killed.returncode == -signal.SIGKILL
    assert load(folder / "checkpoint.safetensors")["here"] == ["seeds", "fit"]
    work(Run.resume(folder), toy, until(None))
    work(begin(tmp_path / "whole", 5.0), toy, until(None))
    assert result(folder) == result(tmp_path / "whole")
