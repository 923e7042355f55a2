"""Few spikes are taken one by one: to the numbers of a loop over all samples and synapses, in every tile."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from neuropil.errors import Diverged, Refusal
from neuropil.plasticity import PairSTDP, Term, TraceRule, propose_
from neuropil.plasticity.kernels import events
from neuropil.plasticity.stdp.terms import correlated

SHAPES = {  # units and inputs; a tile has 32 or 8 units of float64, 64 or 16 of float32, and groups of 8 or 16 inputs
    "less than a vector": (5, 3),
    "tiles of both widths and a rest": (45, 37),
    "whole tiles": (64, 32),
    "one unit more": (65, 33),
}


@contextmanager
def threads(count):
    """So many threads of torch, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def some(rng, samples, lines, density, dtype):
    """Numbers of either sign, of which a fraction is not zero."""
    x = torch.randn(samples, lines, generator=rng, dtype=torch.float64)
    return (x * (torch.rand(samples, lines, generator=rng) < density)).to(dtype)


def by_loop(shape, terms):
    """The sum over samples of every synapse by itself."""
    want = [[0.0] * shape[1] for _ in range(shape[0])]
    for pre, post, gain, _ in terms:
        for x, y in zip(pre.tolist(), post.tolist()):
            for u in range(shape[0]):
                for i in range(shape[1]):
                    want[u][i] += gain * y[u] * x[i]
    return torch.tensor(want, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_few_spikes_give_the_sum_of_a_loop_over_samples_and_synapses(name, dtype, monkeypatch):
    units, inputs = SHAPES[name]
    rng, layer = torch.Generator().manual_seed(units), nn.Linear(inputs, units, bias=False).to(dtype)
    pre = {p: some(rng, 6, inputs, p, dtype) for p in (0.1, 1.0)}
    post = {p: some(rng, 6, units, p, dtype) for p in (0.1, 1.0)}
    of_units, of_inputs = Term(pre[1.0], post[0.1], 0.7), Term(pre[0.1], post[1.0], -0.3)
    product = Term(pre[1.0], post[1.0], 0.2)
    monkeypatch.setattr(events, "TURNED", 0)
    rtol, atol = (1e-12, 1e-13) if dtype == torch.float64 else (1e-5, 1e-5)
    first, _ = correlated(layer, [of_units, of_inputs])
    for terms in ([of_units], [of_inputs], [of_units, of_inputs], [of_inputs, of_units, of_inputs, product]):
        got, bound = correlated(layer, terms)
        torch.testing.assert_close(got.double(), by_loop((units, inputs), terms), rtol=rtol, atol=atol)
        assert (bound is None) == (terms[-1] is product)
        assert bound is None or bound >= (1 - 1e-6) * got.double().abs().sum()
    monkeypatch.setattr(events, "PER_THREAD", 1)
    with threads(3):
        again, _ = correlated(layer, [of_units, of_inputs])
    assert torch.equal(again, first)


class Held(TraceRule):
    """Each spike of a unit adds what is remembered, which stays."""

    def memory(self, pre, post):
        return torch.zeros_like(pre)

    def terms(self, pre, post, old):
        return [Term(old, post)], old


def test_a_change_by_few_spikes_is_refused_where_it_is_not_finite_and_only_there():
    layer, rule = nn.Linear(20, 20, bias=False), Held()
    pre, post = torch.zeros(8, 20), torch.zeros(8, 20)
    post[3, 7] = 1
    for number in (float("nan"), float("inf"), 1e30):
        for sample in (2, 3):
            memory = torch.zeros(8, 20)
            memory[sample, 5] = number
            if sample == 3:
                with pytest.raises(Diverged, match="so large that its change is"):
                    rule.step(layer, pre, post, memory)
            else:
                assert not rule.step(layer, pre, post, memory)[0].any()
    memory[3, 5:7] = torch.tensor([1e30, -1e30])  # whose sum says that all is well
    assert rule.step(layer, pre, post, memory)[0][7, 5] == torch.tensor(1e30) / 8


def test_a_long_run_with_few_spikes_is_that_with_products(monkeypatch):
    layer, rng, changes = nn.Linear(70, 90, bias=False).double(), torch.Generator().manual_seed(0), []
    pre, post = ((torch.rand(20, 16, n, generator=rng) < 0.02).double() for n in (70, 90))
    for ways in ("one by one", "products"):
        if ways == "products":
            monkeypatch.setattr("neuropil.plasticity.stdp.terms.few_events", lambda *given: None)
        memory = PairSTDP().init(layer, pre[0], post[0])
        for x, y in zip(pre, post):
            change, memory = PairSTDP(a_plus=0.9, tau_plus=0.013).step(layer, x, y, memory)
        changes.append(change)
    torch.testing.assert_close(*changes, rtol=1e-12, atol=1e-15)
    assert changes[0].abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("sign", "count"), [(1.0, 1), (-1.0, 1), (1.0, 2)])
def test_a_proposal_in_the_memory_of_a_gradient_is_its_negative_and_not_cleared_unseen(sign, count, dtype):
    layer = nn.Linear(5, 4, bias=False).to(dtype)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer.weight.grad = torch.ones_like(layer.weight)
    memory, change = layer.weight.grad.data_ptr(), torch.zeros_like(layer.weight)
    change[2, 3] = sign
    before = layer.weight.grad._version
    with threads(count):  # one has a pass of its own
        propose_(layer, change)
    assert layer.weight.grad.data_ptr() == memory
    assert layer.weight.grad._version > before
    assert torch.equal(layer.weight.grad, -change)
    optimizer.zero_grad(set_to_none=False)
    with pytest.raises(Refusal, match="was cleared before the step"):
        optimizer.step()
    propose_(layer, torch.zeros_like(change))  # nothing to lose
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
