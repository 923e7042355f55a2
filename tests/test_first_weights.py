"""First weights have the spread that is documented, which is that of the inputs of a unit and not of its outputs."""

from collections import OrderedDict

import torch
from torch import nn

from common import rng
from neuropil.associative.connectivity import Connectivity
from neuropil.models import CompetitiveUnits, init_kernels_, init_normal_


def test_first_weights_have_the_spread_that_is_documented_in_layers_of_any_shape():
    def near(weight, mean, std):
        close = abs(weight.mean().item() - mean) < 4 * std / weight.numel() ** 0.5
        return close and abs(weight.std().item() / std - 1) < 3 / weight.numel() ** 0.5

    for inputs, units in ((7, 900), (900, 7)):
        dense = nn.Sequential(OrderedDict(hidden=nn.Linear(inputs, units)))
        init_normal_(dense, rng(), std=0.7)
        assert near(dense.hidden.weight, 0, 0.7)
        kernels = nn.Sequential(nn.Conv2d(inputs, units, 3))
        init_kernels_(kernels, rng(), scale=1.3)
        assert near(kernels[0].weight, 0, 1.3 / (9 * inputs) ** 0.5)
        net = Connectivity({"pixels": inputs, "label": units}, [("pixels", "label")])
        net.init_(rng(), {"label": 1.7})
        assert near(net.between("pixels", "label").weight, 0, 1.7 * (2 / 907) ** 0.5)
        competing = CompetitiveUnits(inputs, units)
        competing.init_(rng())
        assert near(competing.weight, 0.15, 0.3 / 12**0.5)
        assert 0 <= competing.weight.min() < competing.weight.max() <= torch.tensor(0.3)
