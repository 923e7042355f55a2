"""The Triton kernel of neurons driven by a clock against a loop over `step`; `test_gpu.py` runs this in a process.

NEUROPIL_TEST_DEVICE says where: on a GPU, or "cpu" for Triton's interpreter, which TRITON_INTERPRET=1 turns on.
"""

import os
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import nn

from neuropil.spiking import simulate
from neuropil.spiking.clock import together
from neuropil.spiking.kernels.gpu import clocked
from test_together import DT, NEURONS, by_steps, convolved, dense, drive_of, record, same, tensors, total

DEVICE = torch.device(os.environ["NEUROPIL_TEST_DEVICE"])
OWN = {name: NEURONS[name] for name in ("delta", "current", "adaptive")}
SIZES = {  # with the refractory time
    "one": ((1, 1), DT),
    "few": ((3, 5), 2.6e-3),
    "a block and a bit": ((1, 131), 0.0),
    "maps": ((2, 3, 5, 9), 3.9e-3),
}


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """The kernel is taken; steps of each of its launches."""
    seen = []

    def counted(kind, drive, *rest, advance=clocked.advance):
        seen.append(len(drive))
        return advance(kind, drive, *rest)

    monkeypatch.setattr(clocked, "advance", counted)
    if DEVICE.type == "cpu":
        monkeypatch.setattr(together, "clocked", lambda device: clocked)
    return seen


def here(state):
    """A state on the device."""
    return type(state)(*(part.to(DEVICE) for part in state))


def back(parts):
    """Everything on the CPU."""
    return [part.cpu() for part in tensors(parts)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("units", "rest"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", OWN)
def test_neurons_do_bit_for_bit_what_their_steps_do(name, units, rest, dtype, launches):
    neuron, drive = replace(OWN[name], refractory=rest), drive_of(name, 83, units, dtype)
    outs, states = by_steps(neuron, drive)
    assert outs.count_nonzero() > 0
    run = simulate(neuron, drive.to(DEVICE))
    same(back([run.counts, run.state]), [total(outs), *states[-1]])
    assert launches == [1, 1, 1, 1, 2, 4, 8, 16, 32, 17]
    first = simulate(neuron, drive[:37].to(DEVICE))
    kept = back(first.state)
    rest = simulate(neuron, drive[37:].to(DEVICE), first.state)
    same(back(rest.state), states[-1])
    same(back(first.state), kept)
    same(kept, states[36])


@pytest.mark.parametrize("name", OWN)
def test_every_state_can_be_recorded(name):
    drive = drive_of(name, 50, (2, 67), torch.float64)
    outs, states = by_steps(OWN[name], drive)
    traced = simulate(OWN[name], iter(drive.to(DEVICE)), record=record)
    got = [traced.recorded["out"], *(traced.recorded[str(k)] for k in range(len(states[0]))), traced.state]
    same(back(got), [outs, *(torch.stack(one) for one in zip(*states)), *states[-1]])


@pytest.mark.parametrize("name", OWN)
def test_nothing_comes_in_or_nobody_is_there(name):
    neuron = OWN[name]
    for drive in torch.zeros(40, 2, 5).double(), torch.zeros(9, 0, 5), torch.zeros(9, 3, 0).double():
        run, (outs, states) = simulate(neuron, drive.to(DEVICE)), by_steps(neuron, drive)
        same(back([run.counts, run.state]), [total(outs), *states[-1]])


def test_numbers_need_not_lie_in_order():
    neuron, drive = OWN["adaptive"], drive_of("adaptive", 60, (2, 3, 4, 5), torch.float64)
    outs, states = by_steps(neuron, drive)
    turned = drive.to(DEVICE).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    run = simulate(neuron, turned)
    assert not neuron.init(turned[0]).v.is_contiguous()
    same(back([run.counts, run.state]), [total(outs), *states[-1]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_as_it_is(bad, monkeypatch):
    """On a CPU `simulate` refuses NaN at its end; here what the kernel made of it is looked at."""
    monkeypatch.setattr(import_module("neuropil.spiking.clock.simulate"), "_check_numbers", lambda state: None)
    for name, neuron in OWN.items():
        drive = drive_of(name, 40, (2, 5), torch.float64)
        drive[7, 1, 3] = bad
        outs, states = by_steps(neuron, drive)
        run = simulate(neuron, drive.to(DEVICE))
        got, want = back([run.counts, run.state]), [total(outs), *states[-1]]
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_a_state_of_another_kind_or_shape_is_run_step_by_step(launches):
    neuron, drive = OWN["current"], drive_of("current", 40, (6, 5), torch.float32)
    for state, by_the_kernel in (neuron.init(drive[0, :1]), 39), (neuron.init(drive[0].double()), 0):
        launches.clear()
        outs, states = by_steps(neuron, drive, state)
        run = simulate(neuron, drive.to(DEVICE), here(state))
        same(back([run.counts, run.state]), [total(outs), *states[-1]])
        assert sum(launches) == by_the_kernel


@pytest.mark.parametrize("make", [dense, convolved], ids=lambda make: make.__name__)
def test_a_row_of_layers_gives_what_its_steps_give(make):
    torch.manual_seed(0)
    network, units = make(OWN)
    for one in network.double().parameters():
        nn.init.uniform_(one, -0.4, 1.2)
    drive = drive_of("row", 70, units, torch.float64)
    outs, states = by_steps(network, drive)
    assert outs.count_nonzero() > 20
    run = simulate(network.to(DEVICE), drive.to(DEVICE), record=record)
    same(back([run.counts, run.recorded["out"], run.state]), [total(outs), outs, states[-1]], exact=False)
