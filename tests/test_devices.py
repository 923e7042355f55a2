"""Rules and learners work where their data lie, shown without a GPU: see `other_device.py`; answers are the CPU's."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import neuropil as npl
from neuropil.experiments.diagnose import diagnose
from neuropil.models import PatchNormConv2d
from neuropil.plasticity import first_and_kth, gains, winner
from neuropil.spiking import simulate
from neuropil.spiking.clock.together import COMPILED
from neuropil.spiking.kernels.cpu import clocked
from other_device import Elsewhere, Other, other_device, same
from test_together import convolved, dense, drive_of, record

DENSE, CONV = partial(nn.Linear, 5, 20), partial(nn.Conv2d, 2, 20, 3)
LAYERS = {
    "dense": (DENSE, (6, 5)),
    "tokens": (partial(DENSE, bias=False), (2, 3, 5)),
    "convolution": (CONV, (2, 2, 4, 5)),
    "reflect": (partial(CONV, padding=1, padding_mode="reflect"), (1, 2, 2, 3)),
    "strided": (partial(CONV, stride=2, padding=1, dilation=2), (2, 2, 6, 5)),
    "groups": (partial(CONV, groups=2), (3, 2, 5, 5)),
    "1d": (partial(nn.Conv1d, 2, 20, 3), (2, 2, 7)),
    "3d": (partial(nn.Conv3d, 1, 20, 2), (2, 1, 3, 3, 3)),
    "transposed": (partial(nn.ConvTranspose2d, 2, 20, 3), (2, 2, 3, 3)),
    "patch norm": (partial(PatchNormConv2d, 2, 20, 3), (2, 2, 4, 5)),
}
RULES = [
    npl.Hebb(),
    npl.Oja(),
    npl.Sanger(),
    npl.BCM(),
    npl.HardWTA(),
    npl.SoftHebb(tau=0.5, anti=True, normalise=True),
    npl.ExplainAway(k=2),
    npl.KrotovHopfield(k=3),
    npl.KrotovHopfield(k=3, p=2.5, average=True, normalise=True),
    npl.KrotovHopfield(k=3, ranking_dtype=torch.float32),
]
KINDS = {
    "HardWTA": npl.HardWTA(),
    "SoftHebb": npl.SoftHebb(tau=0.1),
    "Krotov": npl.KrotovHopfield(p=2, k=3),
    "mine": npl.ExplainAway(),
}


def drawn(make, shape, device):
    """A layer and its input, the same on every device."""
    torch.manual_seed(3)
    layer, x = make().double(), torch.rand(shape, dtype=torch.float64)
    return layer.to(device), x.to(device)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_works_where_its_layer_is(rule, name):
    def steps(device):
        layer, x = drawn(*LAYERS[name], device)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(2):
            npl.propose_(layer, rule(layer, x))
            npl.propose_(layer, rule(layer, x, layer(x)), accumulate=True)
            optimizer.step()
            optimizer.zero_grad()
        factor = [] if isinstance(rule, npl.BCM) else [gains(rule, layer, x)]
        return layer.weight, npl.correlate(layer, x, layer(x)), *factor

    same(steps)


@pytest.mark.parametrize("rule", [npl.HardWTA(sparse=True), npl.KrotovHopfield(k=3, sparse=True)], ids=repr)
def test_so_does_a_sparse_change(rule):
    same(lambda device: rule(*drawn(*LAYERS["dense"], device)).to_dense())


def test_so_do_third_factors_and_what_ranks():
    def steps(device):
        layer, x = drawn(*LAYERS["dense"], device)
        y = (torch.arange(6) % 4).to(device)
        with npl.tap(nn.Sequential(layer), ["0"]) as seen:
            nn.Sequential(layer)(x)
        drive = seen["0"].post
        yield npl.Association(classes=4, k=1)(layer, x, drive, label=y)
        yield npl.DifferentialHebb()(layer, x, drive, post_after=drive.tanh())
        yield first_and_kth(drive, 3)[0]
        yield winner(drive)[0]

    same(steps)


@pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
def test_what_attach_makes_stays_with_its_network(rule):
    def steps(device):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 8)).to(
            device
        )
        images = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0)).to(device)
        learner = npl.attach(model, {"0": rule, "4": rule}, images, rng=torch.Generator().manual_seed(1))
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(2):
            learner.propose_(images)
            optimizer.step()
            learner.settle_()
        learner.load_state_dict(learner.state_dict())
        return model[0].weight, model[4].bias, learner.wins(images)

    same(steps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [dense, partial(convolved, last="izhikevich")], ids=["dense", "convolved"])
def test_so_does_a_simulation_whose_neurons_take_many_steps_in_one_launch(make):
    launches, took = [], {"cpu": [], "cuda": []}

    def advance(kind, drive, *rest):
        launches.append((kind, len(drive)))
        return Elsewhere(clocked).advance(kind, drive, *rest)

    def run(device):
        torch.manual_seed(0)
        network, units = make()
        for one in network.double().parameters():
            nn.init.uniform_(one, -0.4, 1.2)
        drive = drive_of("row", 70, units, torch.float64)
        launches.clear()
        yield simulate(network.to(device), drive.to(device))
        yield simulate(network, iter(drive.to(device)), record=record)
        took[device] = [steps for _, steps in launches]

    same(run, kernels={"clocked": SimpleNamespace(advance=advance)}, rtol=1e-12, atol=1e-12)
    assert not took["cpu"]
    neurons = sum(type(one) in COMPILED for one in make()[0].layers)
    assert sum(took["cuda"]) == 2 * 70 * neurons
    assert max(took["cuda"]) == 32


def test_so_does_what_diagnose_finds():
    def found(device):
        model, images = drawn(partial(nn.Linear, 4, 8), (24, 4), device)
        told = diagnose(
            model.float(), {"": npl.SoftHebb()}, images.float(), (torch.arange(24) % 4).to(device), epochs=1
        )
        return told[""].learned, told[""].control, told[""].units.dead

    same(found)


def test_that_device_is_like_a_gpu():
    with other_device() as seen:
        there, here = torch.arange(3.0, device="cuda"), torch.arange(3.0)
        assert isinstance(there, Other)
        assert there.device == torch.device("cuda:0")
        for mixed in (
            lambda: there + here,
            lambda: here * there,
            lambda: torch.cat([there, here]),
            lambda: there @ here,
            lambda: here[there.long()],
            lambda: there.index_select(0, here.long()),
            lambda: there.masked_fill(here > 0, 1.0),
            lambda: torch.where(here > 0, there, there),
            lambda: here.add_(there),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, generator=torch.Generator(), device="cuda")
        for gone in (there.numpy, lambda: torch.tensor([1.0]).numpy() + there.numpy()):
            with pytest.raises(TypeError, match=r"\.cpu\(\)"):
                gone()
        assert not seen
        assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]  # a scalar of the CPU may meet all
        assert there[here.long()].device == there.device  # and may be an index, which is copied
        assert bool((there.cpu() == here).all())
        here.copy_(there)
        assert sum(seen.values()) == 4


def test_fewer_host_waits_are_not_missed():
    with other_device() as seen:
        x = torch.arange(4.0, device="cuda")
        for wait in (
            x.sum().item,
            (x > 0).nonzero,
            lambda: x[x > 1],
            x.unique,
            lambda: bool(x.any()),
            x.long().bincount,
        ):
            before = sum(seen.values())
            wait()
            assert sum(seen.values()) > before
