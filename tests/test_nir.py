"""Networks as NIR: what a graph means is worked out from its numbers alone; there and back no spike moves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import neuropil as npl
from common import refused
from neuropil.cli import main
from neuropil.errors import Refusal
from neuropil.exchange import from_nir, to_nir
from neuropil.spiking import AdaptiveLIF, AxonalDelay, CurrentLIF, DeltaLIF, SpikeCounter, SpikingSequential, simulate

nir = pytest.importorskip("nir")
DT = 1.3e-3
CURRENT = CurrentLIF(tau=17e-3, tau_syn=4.3e-3, threshold=0.9, reset=-0.2, bias=0.3, refractory=0.0, dt=DT)
DELTA = DeltaLIF(tau=13e-3, threshold=0.8, reset=-0.1, bias=0.2, dt=DT)


LAGS = torch.tensor([0, 1, 5, 2, 0, 3])[:, None, None]  # of the axons of each channel, steps


def network(dtype=torch.float32, bias=False):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 6, 3, stride=2, padding=(1, 0), dilation=(1, 2), bias=bias)
    axons, late = AxonalDelay(LAGS * DT, DT), AxonalDelay(2.7e-3, DT)
    row = SpikingSequential(conv, DELTA, axons, nn.Flatten(), nn.Linear(36, 7, bias=bias), late, CURRENT).to(dtype)
    for parameter in row.parameters():
        nn.init.uniform_(parameter, *((-0.3, 0.6) if parameter.ndim > 1 else (-0.1, 0.1)))
    return row


def spikes_in(steps=120, shape=(2, 5, 7), dtype=torch.float32):
    return (torch.rand(steps, 3, *shape, generator=torch.Generator().manual_seed(1)) < 0.3).to(dtype) * 2


def spikes_out(network, x):
    return simulate(network, x, record=lambda out, state: {"spikes": out}).recorded["spikes"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("area", [1.0, DT])
def test_there_and_back_no_spike_moves(dtype, area, tmp_path):
    before, file = network(dtype, bias=area == DT), tmp_path / "network.nir"
    to_nir(before, (2, 5, 7), file, spike_area=area)
    after = from_nir(file, DT, spike_area=area)
    x = spikes_in(dtype=dtype)
    want = spikes_out(before, x)
    assert 100 < want.sum() < 1500
    assert torch.equal(spikes_out(after, x), want)
    assert after.layers[1] == DELTA
    assert after.layers[6] == CURRENT
    assert torch.equal(after.layers[2].lags, LAGS.expand(6, 3, 2))
    assert after.layers[5].lags.item() == 2


@pytest.mark.parametrize("area", [1.0, DT])
def test_neurons_without_a_leak_and_pools_go_there_and_back(area):
    torch.manual_seed(0)
    conv, dense = nn.Conv2d(2, 3, 3, bias=False), nn.Linear(27, 4, bias=False)
    nn.init.uniform_(conv.weight, -0.2, 0.3)
    nn.init.uniform_(dense.weight, -0.2, 0.8)
    whole = DeltaLIF(tau=math.inf, threshold=1.7, reset=-0.2, dt=DT)
    pool = nn.AvgPool2d((1, 2), (1, 2), (0, 1))
    before = SpikingSequential(conv, whole, SpikeCounter(), pool, nn.Flatten(), dense, replace(whole, threshold=0.6))
    graph = to_nir(before, (2, 5, 6), spike_area=area)
    assert [type(node).__name__ for node in graph.nodes.values()][2:4] == ["IF", "AvgPool2d"]
    after = from_nir(graph, DT, spike_area=area)
    x = spikes_in(90, (2, 5, 6))
    want = spikes_out(before, x)
    assert 100 < want.sum() < 900
    assert torch.equal(spikes_out(after, x), want)
    assert after.layers[1] == whole
    v, held = np.zeros((3, 4)), []  # the last neurons, by the equation of IF
    node = graph.nodes["6"]
    drives = simulate(SpikingSequential(*before.layers[:-1]), x, record=lambda out, state: {"x": out}).recorded["x"]
    for drive in drives.double().numpy():
        v = v + node.r * drive * area
        held.append(v > node.v_threshold)
        v = np.where(held[-1], node.v_reset, v)
    np.testing.assert_array_equal(want.numpy(), np.stack(held))


def by_its_equations(graph, x, area):
    """The spikes of a dense network in float64, from the equations of NIR's nodes between its impulses."""
    states, out = {}, []
    for now in x.double().numpy():
        for name in [edge[1] for edge in graph.edges]:
            node = graph.nodes[name]
            if isinstance(node, nir.Linear):
                now = now @ node.weight.T.astype(float)
            elif isinstance(node, nir.CubaLIF):
                v, i = states.get(name, np.zeros((2, *now.shape)))
                i = i + node.w_in * now * area / node.tau_syn
                m, s = node.tau_mem, node.tau_syn
                pull = s / (s - m) * (np.exp(-DT / s) - np.exp(-DT / m))
                v = node.v_leak + (v - node.v_leak) * np.exp(-DT / m) + node.r * i * pull
                now = (v > node.v_threshold).astype(float)
                states[name] = np.where(now, node.v_reset, v), i * np.exp(-DT / s)
            elif isinstance(node, nir.Delay):
                past = states.setdefault(name, [])
                past.append(now)
                shift = np.round(node.delay / DT).astype(int)
                late = [past[-1 - k][:, j] if k < len(past) else 0 * now[:, j] for j, k in enumerate(shift)]
                now = np.stack(late, 1)
            elif isinstance(node, nir.LIF):
                v = states.get(name, np.zeros_like(now))
                v = node.v_leak + (v - node.v_leak) * np.exp(-DT / node.tau) + node.r * now * area / node.tau
                now = (v > node.v_threshold).astype(float)
                states[name] = np.where(now, node.v_reset, v)
        out.append(now)
    return np.stack(out)


def dense(r, w_in):
    """A graph that another tool could have written: resistances, input weights, a potential in another unit."""
    rng, full = np.random.default_rng(0), lambda n, value: np.full(n, value)
    cuba = {"tau_mem": 0.021, "tau_syn": 0.0063, "r": r, "v_leak": 2.1, "v_threshold": 9.3, "v_reset": -1.7}
    lif = {"tau": 0.017, "r": r, "v_leak": 1.1, "v_threshold": 8.1, "v_reset": -0.3}
    nodes = {
        "input": nir.Input(np.array([4])),
        "fc": nir.Linear(rng.normal(1.0, 2.0, (6, 4))),
        "low": nir.LIF(**{name: full(6, value) for name, value in lif.items()}),
        "axon": nir.Delay(DT * np.array([0.0, 3.2, 1.0, 6.9, 2.0, 0.4])),
        "wide": nir.Linear(rng.normal(1.0, 2.0, (5, 6))),
        "high": nir.CubaLIF(**{name: full(5, value) for name, value in cuba.items()}, w_in=full(5, w_in)),
        "output": nir.Output(np.array([5])),
    }
    return nir.NIRGraph(nodes, list(zip(nodes, [*nodes][1:])))


@pytest.mark.parametrize(("area", "r", "w_in"), [(1.0, 0.031, 0.41), (DT, 13.0, 7.7)])
def test_a_graph_of_others_spikes_as_its_equations_say(area, r, w_in):
    graph, x = dense(r, w_in), spikes_in(150, (4,), torch.float64)
    got = spikes_out(from_nir(graph, DT, spike_area=area), x)
    want = by_its_equations(graph, x, area)
    np.testing.assert_array_equal(got.numpy(), want)
    assert 50 < want.sum() < 1500


def test_a_convolution_in_groups_is_read():
    conv = nn.Conv1d(4, 6, 3, groups=2, bias=False)
    nn.init.uniform_(conv.weight, 0, 0.3)
    node = nir.Conv1d(9, conv.weight.detach().numpy(), 1, 0, 1, 2, np.zeros(6, np.float32))
    lif = nir.LIF(
        **{name: np.full((6, 7), value) for name, value in {"tau": 0.017, "r": 0.017, "v_leak": 0.0}.items()},
        v_threshold=np.full((6, 7), 1.0),
        v_reset=np.zeros((6, 7)),
    )
    nodes = {"input": nir.Input(np.array([4, 9])), "c": node, "n": lif, "output": nir.Output(np.array([6, 7]))}
    graph = nir.NIRGraph(nodes, list(zip(nodes, [*nodes][1:])), type_check=False)  # which knows no groups
    read = from_nir(graph, DT)
    x = torch.rand(2, 4, 9)
    torch.testing.assert_close(read.layers[0](x), conv(x))
    assert not any(parameter.requires_grad for parameter in read.parameters())


def changed(name, **values):
    graph = dense(1.0, 1.0)
    for key, value in values.items():
        setattr(graph.nodes[name], key, value)
    return graph


def looped():
    graph = dense(1.0, 1.0)
    graph.edges.append(("high", "wide"))
    return graph


ROW = lambda *layers: SpikingSequential(nn.Linear(4, 3, bias=False), *layers)
REFUSED = {
    "refractory": (lambda: to_nir(ROW(CurrentLIF()), (4,)), "layer 1 has a refractory time of 0.002 s, which NIR"),
    "bias": (lambda: to_nir(network(bias=True), (2, 5, 7)), "layer 0 adds its bias in every step"),
    "adaptive": (lambda: to_nir(ROW(AdaptiveLIF()), (4,)), "layer 1 has no form in NIR, got AdaptiveLIF("),
    "groups": (lambda: to_nir(SpikingSequential(nn.Conv1d(2, 2, 3, groups=2), DELTA), (2, 9)), "in one group"),
    "relu": (lambda: to_nir(ROW(nn.ReLU(), CURRENT), (4,)), "layer 1 has no form in NIR, got ReLU()"),
    "qif": (lambda: to_nir(npl.load("yin-yang-qif"), (4,)), "a SpikingClassifier has no form in NIR: its neurons"),
    "steps": (
        lambda: to_nir(ROW(CURRENT, replace(CURRENT, dt=1e-3)), (4,)),
        "needs one step for all, got dt=0.001 and 0.0013",
    ),
    "axons": (
        lambda: to_nir(ROW(AxonalDelay(1e-3, 1e-3), CURRENT), (4,)),
        "needs one step for all, got dt=0.001 and 0.0013",
    ),
    "other axons": (
        lambda: to_nir(ROW(AxonalDelay(torch.ones(4) * DT, DT)), (4,)),
        "has delays shaped (4,), got spikes",
    ),
    "long": (
        lambda: from_nir(changed("axon", delay=np.full(6, 7.0)), DT),
        "node 'axon': AxonalDelay needs delays from",
    ),
    "shape": (lambda: to_nir(ROW(CURRENT), (5,)), "layer 0 cannot take (5,): "),
    "pool": (
        lambda: to_nir(ROW(nn.AvgPool2d(2, ceil_mode=True), CURRENT), (4,)),
        "layer 1 has no form in NIR, got AvgP",
    ),
    "leak": (lambda: DeltaLIF(tau=math.inf, bias=0.1), "DeltaLIF needs bias=0 where tau is infinite"),
    "suffix": (lambda: to_nir(ROW(CURRENT), (4,), "x.h5"), "into a .nir file, got 'x.h5'"),
    "node": (lambda: from_nir(changed("fc", __class__=nir.Scale), DT), "node 'fc' is a Scale; neuropil reads CubaLIF"),
    "loop": (lambda: from_nir(looped(), DT), "'high' -> 'wide' is a branch or a loop"),
    "ms": (lambda: from_nir(changed("low", tau=np.full(6, 17.0)), DT), "node 'low': DeltaLIF takes times in s"),
    "many": (
        lambda: from_nir(changed("high", tau_syn=np.linspace(5e-3, 6e-3, 5)), DT),
        "node 'high' needs one tau_syn for all its neurons, got 5 values from 0.005 to 0.006",
    ),
    "gain": (lambda: from_nir(changed("low", r=np.zeros(6)), DT), "node 'low' needs r and w_in above 0, got r=0.0"),
    "no file": (lambda: from_nir("nothing.nir", DT), "there is no file nothing.nir"),
}


@pytest.mark.parametrize(("do", "says"), REFUSED.values(), ids=REFUSED)
def test_what_the_other_side_cannot_say_is_refused_in_one_line(do, says):
    assert says in refused(do)


def test_a_damaged_file_is_refused(tmp_path, capsys):
    file = tmp_path / "network.nir"
    to_nir(ROW(CURRENT), (4,), file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"P5 1 1"):
        file.write_bytes(content)
        with pytest.raises(Refusal, match=r"network\.nir is no NIR file, or damaged: "):
            from_nir(file, DT)
    assert main(["export", "digits-mstdp", "--to", "nir", "--out", str(file)]) == 2
    assert "an AssociativeNetwork has no form in NIR" in capsys.readouterr().err
