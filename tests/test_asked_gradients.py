"""A gradient is the same if it is asked for alone, as of a trained network that is attacked, or with all others."""

import pytest
import torch

from neuropil.spiking import LIFNetwork, QIFNetwork, RecurrentLIF, RecurrentQIF, ThetaNetwork

T = 4.3
KINDS = {
    "LIF": lambda: LIFNetwork((3, 5, 2), t_end=T, dtype=torch.float64),
    "QIF": lambda: QIFNetwork((3, 5, 2), t_end=T, dtype=torch.float64),
    "theta": lambda: ThetaNetwork((3, 5, 2), t_end=T).double(),
    "recurrent LIF": lambda: RecurrentLIF(3, 4, t_end=T, dtype=torch.float64),
    "recurrent QIF": lambda: RecurrentQIF(3, 4, t_end=T, dtype=torch.float64),
}


def lively(kind):
    """A network whose neurons fire."""
    network, rng = KINDS[kind](), torch.Generator().manual_seed(2)
    for name, one in network.named_parameters():
        with torch.no_grad():
            one.copy_(torch.rand(one.shape, generator=rng, dtype=torch.float64) * {1: 0.8, 2: 7.0}[one.ndim])
            one.mul_(0.1 if name == "recurrent" else 1)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_does_not_depend_on_what_else_is_asked_for(kind):
    network = lively(kind)
    times = torch.tensor([[0.3, 1.1, 0.7], [0.9, 0.2, 2.3]], dtype=torch.float64)
    names = ["times", *dict(network.named_parameters())]

    def gradients(asked):
        given = times.clone().requires_grad_("times" in asked)
        for name, one in network.named_parameters():
            one.requires_grad_(name in asked)
        output = network(given, n_spikes=2)
        parts = [given if name == "times" else network.get_parameter(name) for name in asked]
        weights = torch.arange(1, output.times.numel() + 1).view(output.times.shape)
        return dict(zip(asked, torch.autograd.grad((output.times * weights).sum(), parts)))

    together = gradients(names)
    assert all(one.any() for one in together.values())
    for name in names:
        assert torch.equal(gradients([name])[name], together[name])
