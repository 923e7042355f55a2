"""`correlate` and the geometry below it, against an oracle that nudges one weight at a time."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import oracles
from neuropil.errors import Refusal
from neuropil.plasticity import Oja, correlate
from neuropil.plasticity.correlate import _by_autograd
from neuropil.plasticity.geometry import from_rows, per_sample, product, respond, rows, unit_axis, units
from oracles import GEOMETRIES, correlate_by_hand, make


@pytest.mark.parametrize("name", GEOMETRIES)
def test_correlate_is_the_sum_over_synapses(name):
    layer, pre = make(name)
    with torch.no_grad():
        post = torch.randn_like(layer(pre))
        want = correlate_by_hand(layer, pre, post)
    torch.testing.assert_close(correlate(layer, pre, post), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_fast_branches_equal_the_definition(name):
    layer, pre = make(name)
    post = torch.randn_like(layer(pre)).detach()
    torch.testing.assert_close(correlate(layer, pre, post), _by_autograd(layer, pre, post), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [
    {"padding": 1}, {"padding": (0, 2), "padding_mode": "reflect"}, {"padding": "same", "padding_mode": "circular"},
    {"stride": (2, 1)}, {"dilation": (1, 2), "padding": 2}, {"groups": 2},
])  # fmt: skip
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_with_fewer_positions_than_units_gives_the_definition(case, channels_last):
    torch.manual_seed(3)
    layer = nn.Conv2d(4, 140, (3, 2), bias=False, **case).double()
    pre = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    if channels_last:
        pre = pre.contiguous(memory_format=torch.channels_last)
    post = torch.randn_like(layer(pre)).detach()
    assert post.numel() // 140 < 140
    got = correlate(layer, pre, post)
    torch.testing.assert_close(got, _by_autograd(layer, pre, post), rtol=1e-11, atol=1e-11)
    assert got.is_contiguous() or "groups" in case


def test_no_convolution_needs_a_forward_pass(monkeypatch):
    monkeypatch.setattr(sys.modules[correlate.__module__], "_by_autograd", None)
    for layer, pre in (make(name) for name in GEOMETRIES if "dense" not in name):
        post = torch.zeros_like(layer(pre)).detach()
        assert correlate(layer, pre, post).shape == layer.weight.shape


@pytest.mark.parametrize("name", GEOMETRIES)
def test_rows_are_the_weights_of_one_unit_in_order(name):
    layer, pre = make(name)
    with torch.no_grad():
        index = oracles.Unfolded(layer, pre).index
    numbers = torch.arange(layer.weight.numel()).view(layer.weight.shape)
    assert rows(layer, numbers).tolist() == [unit.tolist() for unit in index]
    assert torch.equal(from_rows(layer, rows(layer, numbers)), numbers)
    assert len(index) == units(layer)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_response_leaves_the_bias_out(name):
    layer, pre = make(name)
    want = layer(pre) - (0 if layer.bias is None else layer(torch.zeros_like(pre)))
    got = respond(layer, pre, layer.weight.detach())
    torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=1e-12)
    assert not got.requires_grad


def test_every_position_is_a_sample():
    activity = torch.arange(24).view(2, 3, 2, 2)
    assert per_sample(nn.Conv2d(1, 3, 1), activity).tolist()[:2] == [[0, 4, 8], [1, 5, 9]]
    assert per_sample(nn.Linear(1, 2), activity).tolist()[0] == [0, 1]
    assert unit_axis(nn.ConvTranspose1d(1, 3, 1)) == 1


@pytest.mark.parametrize("shape", [(100, 300), (2, 50, 300), (3, 300)])
def test_the_large_product_is_the_product(shape):
    pre, weight = torch.randn(shape), torch.randn(70, 300)
    want = F.linear(pre.double(), weight.double())
    got = product(pre, weight)
    assert got.is_contiguous()
    assert got.layout is torch.strided
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-3)  # 300 terms of size 1 in float32: about 1e-5


def test_a_product_of_an_empty_batch_is_empty():
    assert product(torch.zeros(0, 300), torch.zeros(70, 300)).shape == (0, 70)


class Own(nn.Module):
    """A module of somebody's own that is linear in its weight and is none of torch's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5).double())

    def forward(self, x):
        return (2 * x.tanh()) @ self.weight.T + 1


@pytest.mark.parametrize(
    ("layer", "pre"),
    [
        (Own(), torch.randn(3, 5).double()),
        (nn.Embedding(6, 4).double(), torch.tensor([[0, 5], [5, 2], [1, 1]])),
        (nn.Linear(5, 4).double(), torch.randn(2, 3, 5).double()),  # the projection of every token
        (nn.LayerNorm(4).double(), torch.randn(3, 4).double()),
    ],
    ids=lambda x: type(x).__name__,
)
def test_modules_of_every_kind_that_are_linear_in_their_weight(layer, pre):
    with torch.no_grad():
        post = torch.randn(layer(pre).shape).double()
        want = correlate_by_hand(layer, pre, post)
    torch.testing.assert_close(correlate(layer, pre, post), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [nn.LSTM(4, 4), nn.GRU(4, 4), nn.MultiheadAttention(4, 2), nn.Bilinear(4, 4, 4)])
def test_modules_that_are_not_are_refused(layer):
    with pytest.raises(Refusal, match=r"has no weight of its own|takes one tensor, Bilinear takes two"):
        correlate(layer, torch.rand(3, 4), torch.rand(3, 4))


def test_a_rule_on_a_module_of_ones_own_says_what_it_needs():
    with pytest.raises(Refusal, match="got Own; make a layer of your own a subclass of one of these"):
        Oja()(Own(), torch.rand(3, 5).double())
