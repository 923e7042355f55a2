"""Rules with traces on layers in networks of other libraries, each where it is installed; see docs/stdp.md."""

import pytest
import torch
from torch import nn

from neuropil.plasticity import PairSTDP, propose_

STEPS, BATCH, INPUTS, UNITS = 30, 4, 12, 5


def snntorch(layer):
    library = pytest.importorskip("snntorch")
    neuron = library.Leaky(beta=0.9)
    state = [neuron.init_leaky()]

    def step(x):
        spikes, state[0] = neuron(layer(x), state[0])
        return spikes

    return step


def spikingjelly(layer):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron").LIFNode(tau=10.0)
    return lambda x: neuron(layer(x))


def norse(layer):
    cell, state = pytest.importorskip("norse.torch").LIFCell(), [None]

    def step(x):
        spikes, state[0] = cell(layer(x), state[0])
        return spikes

    return step


@pytest.mark.parametrize("network", [snntorch, spikingjelly, norse])
def test_pairs_of_spikes_change_a_layer_in_a_network_of(network):
    rng = torch.Generator().manual_seed(0)
    layer, rule = nn.Linear(INPUTS, UNITS, bias=False), PairSTDP()
    nn.init.constant_(layer.weight, 2.0)
    step, optimizer = network(layer), torch.optim.SGD(layer.parameters(), lr=1.0)
    pre = (torch.rand(STEPS, BATCH, INPUTS, generator=rng) < 0.2).float()
    post, memory = [], None
    for x in pre:
        y = step(x).detach()
        memory = rule.init(layer, x, y) if memory is None else memory
        change, memory = rule.step(layer, x, y, memory)
        post.append(y)
        optimizer.zero_grad()
        propose_(layer, change)
        optimizer.step()
    y, lag = torch.stack(post), torch.arange(STEPS)[:, None] - torch.arange(STEPS)[None]
    window = torch.exp(-lag.abs() * rule.dt / rule.tau_plus) * lag.sign()  # time of post minus time of pre
    wanted = 2 + torch.einsum("tbo,ts,sbi->oi", y, window, pre) / BATCH
    assert y.sum() > 20
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-4, atol=1e-4)
