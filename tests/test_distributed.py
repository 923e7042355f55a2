"""Networks shared by processes: what three of them learn together is what one learns alone; drift is refused."""

import json
import math
import os
import re
import socket
import subprocess
import sys
from collections import OrderedDict
from copy import deepcopy
from itertools import combinations, pairwise
from pathlib import Path
from random import Random
from time import sleep

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import neuropil as npl
from neuropil.bench import distributed as bench
from neuropil.data import Split
from neuropil.distributed import balance
from neuropil.distributed.balance import Cost, balanced
from neuropil.errors import Refusal

pytestmark = pytest.mark.processes
CASES = Path(__file__).with_name("shared_cases.py")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What the first of the processes found, and what each said."""
    folder = tmp_path_factory.mktemp("shared")
    words = [[sys.executable, str(CASES), str(rank), str(folder)] for rank in range(4)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [subprocess.Popen(one, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for one in words]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, "\n".join(said)[-3000:]
    return json.loads((folder / "found.json").read_text()), said


def test_many_processes_learn_what_one_learns_with_all_samples(cases):
    found = {name: value for name, value in cases[0].items() if name[0].isdigit()}
    wrong = {name: value for name, value in found.items() if not value <= 1e-12}
    assert not wrong
    assert len(found) == (17 + 2 * 5) * 13 + 3 * (2 + 3 + 4 * 7 + 2 + 1 + 10)


def test_a_rule_says_once_that_it_learns_alone(cases):
    assert all(said.count("rules learn from the samples of their own process only") == 1 for said in cases[1][:3])


def test_weights_that_drifted_apart_and_unlike_models_are_refused(cases):
    said = "the weights or biases of 3 processes have drifted apart; start from share(model)"
    for drifted in "scaled", "negated", "permuted", "bias by gains", "attach, rng":
        assert cases[0][drifted].startswith(said), drifted
    got = "'weight' is (4, 5) in torch.float32 in process 0, (5, 5) in torch.float32 in process 2."
    assert cases[0]["unlike"] == f"share needs the same model everywhere, but {got}"


def test_float16_has_sums_that_its_means_do_not_show(cases):
    assert cases[0]["float16"] == [0.0] * 4


def test_changes_as_losses_are_averaged_by_distributed_data_parallel(cases):
    assert cases[0]["gradients"] <= 1e-12


def test_what_processes_share_in_part_or_too_late_is_refused(cases):
    assert cases[0]["part"].startswith("attach needs a network that is shared, got one of which a part is")
    assert cases[0]["late"].startswith("propose_ needs a network that is shared before attach, or not at all")
    assert all(f"{who} needs a process of the group" in cases[1][2] for who in ("share", "part"))


def test_a_process_that_ended_is_named_as_the_reason(cases):
    assert cases[0]["ended"].startswith("a process that shares the network has ended, or took other steps than this")


def test_stages_learn_what_one_process_learns_with_all_layers_bit_for_bit(cases):
    same = {name: value for name, value in cases[0].items() if name.startswith("stages, ")}
    assert len(same) == 3 * 4
    assert all(same.values()), same
    assert cases[0]["grid"] <= 1e-12  # two stages of two processes each


def test_learners_learn_together_what_one_process_learns(cases):
    for size in 2, 3:
        found = cases[0][f"learners, {size}"]
        assert found.keys() == {"joint", "patches", "backprop", "association"}
        assert max(found.values()) < 1e-3, found  # float32, in which Adam amplifies what is near 0
        assert cases[0][f"norms, {size}"] < 1e-12


def test_batch_normalisation_counts_the_values_of_all_processes(cases):
    line = "batch normalisation needs more than one value of a channel to learn from, got 1 in all processes"
    for size in 2, 3:
        assert cases[0][f"norms of one value each, {size}"] < 1e-12
        assert cases[0][f"too few, {size}"] == [f"{line}; take larger batches."] * size


def test_spiking_and_associative_learners_learn_together_what_one_process_learns(cases):
    for size in 2, 3:
        found = cases[0][f"exact learners, {size}"]
        names = "theta", "LIF", "QIF", "mSTDP", "aSTDP"
        assert found.keys() == {*names, *(f"{name}, rows" for name in names)}
        wrong = {name: value for name, value in found.items() if not value <= (1e-6 if "rows" in name else 1e-12)}
        assert not wrong  # losses are summed up in float32


def test_processes_with_other_data_or_seeds_are_refused_in_one_line(cases):
    said = "AssociationClassifier needs the same examples and a generator of the same seed in every process, got others"
    for size in 2, 3:
        found = cases[0][f"unlike, {size}"]
        assert found.keys() == {"x", "y", "seed", "number"}
        assert all(line.startswith(said) for line in found.values())


def test_a_port_that_is_taken_is_said_in_one_line(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in words.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(Refusal, match=f"the processes cannot meet at 127.0.0.1:{port}; is the port taken"):
            npl.distributed.start("gloo")


def test_what_no_stages_can_be_made_of_is_refused(cases):
    said = cases[0]["stages"]
    told = {
        "module": "pipeline needs an nn.Sequential of blocks, got Linear.",
        "few": "pipeline needs a child of the model that learns for every stage, got 1 for 2;",
        "starts": "2 stages need 1 starts after the first child, from below, got ['2', '1'].",
        "name": "unknown start of a stage '3'. Known: 0, 1, 2.",
        "idle": "a stage of 1, 2 has no layer that learns; use other starts.",
        "tied": "'1.weight' would be in two stages, which learn by themselves;",
        "workers": "pipeline needs a number of workers that divides 2 processes, got 3.",
        "dropout": "pipeline cannot repeat what dropout '1' does in one process; take it out, or call eval() on it.",
        "shared": "a network that is shared cannot be cut into stages; make another.",
        "rules": "pipeline needs the same model everywhere, but the mapping of rules is ",
        "none": "learn_ needs batches, got none; an iterator serves for one pass only.",
        "optimizer": "the optimiser does not have the weight of layer '0'; make it of model.parameters().",
    }
    wrong = {name: said[name] for name, start in told.items() if not said[name].startswith(start)}
    assert not wrong
    assert said.keys() == told.keys()


def test_a_pass_refuses_batches_that_do_not_fit():
    with pytest.raises(Refusal, match=r"pipeline needs processes that know each other; call neuropil.distributed"):
        npl.distributed.pipeline(nn.Sequential(nn.Linear(3, 3)), {"0": npl.Hebb()}, torch.ones(2, 3))
    npl.distributed.start("gloo")
    try:
        model, x, y = nn.Sequential(nn.Linear(4, 6)), torch.rand(8, 4), torch.arange(8) % 3
        stage = npl.distributed.pipeline(model, {"0": npl.Association(3)}, (x, y))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        assert stage.learn_([(x, y), Split(x, y, 3)], optimizer).batches == 2
        told = {"the rule of layer '0' takes labels; give batches": [x], "length only": [(x, y), (x.double(), y)]}
        for what, batches in {**told, "a batch is a tensor of inputs, or a pair": [[x]]}.items():
            with pytest.raises(Refusal, match=what):
                stage.learn_(batches, optimizer)
    finally:
        npl.distributed.stop()


def test_a_child_costs_its_pass_what_its_layers_learn_and_what_it_gives():
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    model = nn.Sequential(OrderedDict(hidden=hidden, act=nn.ReLU(), out=nn.Linear(7, 3))).double()
    before, x, told = deepcopy(model.state_dict()), torch.randn(11, 5, dtype=torch.float64), []

    def change(name, layer, seen):
        sleep(0.4 if name not in [name for name, _ in told] else 0.02)  # the first time warms up
        told.append((name, seen.pre.clone()))
        assert type(layer) is nn.Linear

    found = balance.costs(model, {"hidden": ["hidden.0"], "out": ["out"]}, change, x)
    assert [(one.output, one.learns) for one in found] == [(11 * 7 * 8, True), (11 * 7 * 8, False), (11 * 3 * 8, True)]
    assert 0.02 <= found[0].seconds < 0.3
    assert 0.02 <= found[2].seconds < 0.3
    assert found[1].seconds < 0.02
    assert [name for name, _ in told] == ["hidden.0"] * 3 + ["out"] * 3
    assert torch.equal(told[0][1], x)
    assert told[3][1].shape == (11, 7)
    assert (told[3][1] >= 0).all()  # what the child before it gives
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_stages_are_cut_where_the_slowest_is_quickest():
    kib = 1024
    costs = [Cost(3.0, kib, True), Cost(0.1, kib, False), Cost(1.0, kib, True), Cost(1.5, kib, True)]
    assert balanced(costs, 2) == [1]
    assert balanced(costs, 3) == [1, 3]
    dear = [costs[0]._replace(output=10**9), *costs[1:]]  # it takes a second to send what the first gives
    assert balanced(dear, 2) == [2]
    for seed in range(20):  # against every way to cut
        dice = Random(seed)
        some = [Cost(dice.random(), dice.randrange(10**9), k % 3 == 0 or dice.random() < 0.5) for k in range(7)]
        want = min(slowest(some, [0, *cut, 7]) for cut in combinations(range(1, 7), 2))
        assert slowest(some, [0, *balanced(some, 3), 7]) == want < math.inf


def slowest(costs, edges):
    """Seconds of the slowest stage; a stage without a layer that learns takes for ever."""
    found = []
    for begin, end in pairwise(edges):
        passed = (costs[begin - 1].output if begin else 0) + (costs[end - 1].output if end < len(costs) else 0)
        learns = any(one.learns for one in costs[begin:end])
        found.append(sum(one.seconds for one in costs[begin:end]) + 1e-9 * passed if learns else math.inf)
    return max(found)


def test_stages_of_what_attach_has_made_are_refused():
    model = nn.Sequential(nn.Linear(4, 6))
    learner = npl.attach(model, {"0": npl.HardWTA()}, torch.rand(8, 4))
    for given in (learner, {"0": npl.HardWTA()}), (model, learner):
        with pytest.raises(Refusal, match=r"not what attach has made; share\(model\) before attach lets processes"):
            npl.distributed.pipeline(*given, torch.rand(8, 4))


def test_share_needs_processes():
    with pytest.raises(Refusal, match=r"share needs processes that know each other; call neuropil.distributed.start"):
        npl.distributed.share(nn.Linear(2, 3))
    with pytest.raises(Refusal, match=r"share needs a model, got Tensor"):
        npl.distributed.share(torch.ones(2))


def test_a_part_without_processes_is_all():
    split = Split(torch.rand(5, 3), torch.arange(5), 5)
    assert npl.distributed.part(split) is split


def test_the_script_of_the_page_runs_in_two_processes(tmp_path):
    page = CASES.parents[1] / "docs/distributed.md"
    (tmp_path / "train.py").write_text(re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    make = lambda rank: subprocess.Popen(
        [sys.executable, "train.py"], cwd=tmp_path, env=env | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True
    )
    runs = [make(rank) for rank in range(2)]  # as torchrun makes them
    said = [run.communicate(timeout=200)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(said)[-3000:]
    learned = load_file(tmp_path / "model.safetensors")
    rows = learned["0.weight"].flatten(1)
    assert rows.mean(1).abs().max() < 1e-6  # as `settle_` leaves them
    assert ((rows.norm(dim=1) > 0.1) & (rows.norm(dim=1) < 1.5)).all()  # of the norms that torch gave them


def test_the_benchmark_has_a_row_for_every_case():
    rows = bench.main(bench.Config(workers=(2,), batch=7, batches=2, repeats=1))
    assert [row["case"] for row in rows] == [*bench.CASES, *bench.STACKS]
    one, staged = rows[: len(bench.CASES)], rows[len(bench.CASES) :]
    assert all(row["step_s"] > row["sum_s"] / 100 > 0 and row["one_s"] > 0 for row in one)
    assert one[0]["message_bytes"] == 4 * (784 * 2000 + 5)
    assert one[0]["least_bytes"] == 4 * 784 * 2000
    assert bench.cells({**one[0], "one_s": 0.9, "step_s": 0.5})["faster"] == "1.80 x"
    assert all(row["pass_s"] > 0 and row["message_bytes"] == row["least_bytes"] > 0 for row in staged)
    assert bench.cells({**staged[0], "one_s": 0.9, "pass_s": 0.5})["faster"] == "1.80 x"
    bench.CAPTION.format(**{**rows[0], "batches": 2})
    for wrong in {"workers": (0,)}, {"stages": (1,)}:
        with pytest.raises(Refusal, match=r"need to be \d or more"):
            bench.Config(**wrong)
