"""A change as a loss: what loops that know only `loss.backward()` and `optimizer.step()` make of it."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neuropil.errors import Refusal
from neuropil.plasticity import (
    Association,
    DifferentialHebb,
    ExplainAway,
    HardWTA,
    KrotovHopfield,
    Oja,
    PairSTDP,
    SoftHebb,
    attach,
    gains,
    propose_,
    surrogate_loss,
)
from oracles import FEW, make
from test_rates import RULES

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EVERY = {
    **RULES,
    "KrotovHopfield": KrotovHopfield(p=2.3, k=2),
    "Association": Association(2, slope=3),
    "DifferentialHebb": DifferentialHebb(),
    "PairSTDP": PairSTDP(),
}


def layer_and(make=torch.optim.SGD, **settings):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    return layer, make(layer.parameters(), lr=0.1, **settings)


def change_by(rule, layer, x):
    """What the rule says, and a change of the bias of Hebb; with whatever the rule needs."""
    out = layer(x).detach()
    bias = None if layer.bias is None else gains(Oja(), layer, x).movedim(1, 0).flatten(1).mean(1)
    if isinstance(rule, DifferentialHebb):
        return rule(layer, x, out, post_after=out.tanh()), bias
    if isinstance(rule, PairSTDP):
        x, out = (x > 0).to(x), (out > 0).to(x)
        return rule.step(layer, x.flip(0), out, rule.step(layer, x, out, rule.init(layer, x, out))[1])[0], bias
    return rule(layer, x, **({"label": torch.arange(len(x)) % 2} if isinstance(rule, Association) else {})), bias


@pytest.mark.parametrize("kind", FEW)
def test_the_gradient_is_that_of_a_proposal_to_the_last_bit(kind):
    for name, rule in EVERY.items():
        layer, x = make(kind)
        change, bias = change_by(rule, layer, x)
        other = deepcopy(layer)
        propose_(other, change, bias)
        loss = surrogate_loss(layer, change, bias)
        loss.backward()
        assert change.any(), name
        assert torch.equal(layer.weight.grad, other.weight.grad), name
        assert bias is None or torch.equal(layer.bias.grad, other.bias.grad), name
        want = -(layer.weight * change).sum() - (0 if bias is None else (layer.bias * bias).sum())
        torch.testing.assert_close(loss, want, rtol=1e-12, atol=1e-12)


def test_sparse_changes_and_parameters_by_themselves():
    layer, optimizer = layer_and()
    change = HardWTA(sparse=True)(layer, X[:2])
    start = layer.weight.detach().clone()
    surrogate_loss(layer, change).backward()
    assert layer.weight.grad.is_sparse
    optimizer.step()
    assert torch.equal(layer.weight, start + 0.1 * change.to_dense())
    rest = nn.Parameter(torch.zeros(3))
    surrogate_loss(rest, torch.tensor([1.0, -2.0, 0.5])).backward()
    assert torch.equal(rest.grad, torch.tensor([-1.0, 2.0, -0.5]))


def test_accumulated_gradients_add_and_a_grad_scaler_does_as_with_a_loss():
    """The mean over parts is the change by all, since the parts are alike in size."""
    whole, plain = layer_and()
    propose_(whole, Oja()(whole, X))
    plain.step()
    for scaler in torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu"):
        layer, optimizer = layer_and()
        for part in X.split(3):
            scaler.scale(surrogate_loss(layer, Oja()(layer, part)) / 4).backward()
        scaler.step(optimizer)
        torch.testing.assert_close(layer.weight, whole.weight, rtol=1e-12, atol=1e-12)


def test_a_head_with_a_true_loss_learns_from_it_and_what_is_below_from_its_rule():
    layer, _ = layer_and()
    head, labels = nn.Linear(4, 3).double(), torch.arange(12) % 3
    change = SoftHebb()(layer, X)
    want = torch.autograd.grad(F.cross_entropy(head(layer(X)), labels), [layer.weight, *head.parameters()])
    (surrogate_loss(layer, change) + F.cross_entropy(head(layer(X).detach()), labels)).backward()
    assert torch.equal(layer.weight.grad, -change)
    assert [torch.equal(one.grad, grad) for one, grad in zip(head.parameters(), want[1:])] == [True, True]
    layer.zero_grad(), head.zero_grad()
    (surrogate_loss(layer, change) + F.cross_entropy(head(layer(X)), labels)).backward()  # below, too
    torch.testing.assert_close(layer.weight.grad, want[0] - change, rtol=1e-12, atol=1e-12)


def test_attached_rules_learn_the_same_where_a_closure_clears_gradients():
    """Lightning's order: step, in it the training step, zero_grad, backward."""
    torch.manual_seed(0)
    images = torch.rand(4, 50, 1, 8, 8, dtype=torch.float64)
    body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 9), nn.ReLU()).double()
    models = [body, deepcopy(body)]
    rules = {"0": ExplainAway(), "3": SoftHebb(tau=0.01)}
    (plain, automatic), values = [attach(model, rules, images[0]) for model in models], []
    by_proposal, by_loss = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]

    def closure():
        loss = automatic.surrogate_loss(batch)
        by_loss.zero_grad()
        loss.backward()
        values.append(loss.item())

    for batch in images:
        plain.propose_(batch)
        by_proposal.step()
        plain.settle_()
        by_loss.step(closure)
    automatic.settle_()
    for one, other in zip(*[model.parameters() for model in models]):
        assert torch.equal(one, other)
    assert max(map(abs, values)) < 1e-12
    with torch.no_grad(), pytest.raises(Refusal, match="where gradients are switched off; call it in training only"):
        automatic.surrogate_loss(batch)


def test_a_change_is_not_taken_twice():
    layer, optimizer = layer_and()
    change, start = torch.ones(4, 6).double(), layer.weight.detach().clone()
    propose_(layer, change)
    with pytest.raises(Refusal, match="by propose_ and by surrogate_loss before one step; leave one of the two out"):
        surrogate_loss(layer, change).backward()
    optimizer.zero_grad()  # drops the proposal
    surrogate_loss(layer, change).backward()
    for accumulate in False, True:
        with pytest.raises(Refusal, match="by surrogate_loss and by propose_ before one step"):
            propose_(layer, change, accumulate=accumulate)
    optimizer.step()
    propose_(layer, change)  # for the next step, as zero_grad was called or not
    optimizer.step()
    torch.testing.assert_close(layer.weight, start + 0.2)
    surrogate_loss(layer, change).backward()
    optimizer.zero_grad(set_to_none=False)
    propose_(layer, change)
    optimizer.step()
    torch.testing.assert_close(layer.weight, start + 0.3)


def test_what_would_be_lost_is_refused():
    layer, ascending = layer_and(maximize=True)
    surrogate_loss(layer, torch.ones(4, 6)).backward()
    with pytest.raises(Refusal, match="an optimiser that ascends"):
        ascending.step()
    with pytest.raises(Refusal, match=r"shape \(6, 4\) was proposed for a weight of \(4, 6\)"):
        surrogate_loss(layer, torch.ones(6, 4))
    change = torch.ones(4, 6).double()
    loss = surrogate_loss(layer, change)
    change /= 2  # what the graph holds is not what was given any more
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    layer.weight.requires_grad_(False)
    with pytest.raises(Refusal, match="needs a weight that requires a gradient; "):
        surrogate_loss(layer, change)
