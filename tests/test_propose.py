"""How a change reaches an optimiser: whatever happens between a proposal and the step is done right or refused."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neuropil.errors import Refusal
from neuropil.plasticity import (
    Association,
    HardWTA,
    Hebb,
    KrotovHopfield,
    Oja,
    attach,
    correlate,
    propose_,
    surrogate_loss,
    tap,
)
from test_docs import ROOT

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def layer_and(make=torch.optim.SGD, **settings):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    return layer, make(layer.parameters(), lr=0.1, **settings)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_change_that_zero_grad_cleared_is_refused_at_the_step(set_to_none, sparse):
    layer, optimizer = layer_and()
    propose_(layer, HardWTA(sparse=sparse)(layer, X))
    optimizer.zero_grad(set_to_none)
    with pytest.raises(
        Refusal, match=r"proposed for a parameter of \(3, 4\) was cleared before the step; call zero_grad"
    ):
        optimizer.step()
    optimizer.step()  # nothing waits any more


def test_clipping_schedules_and_zero_grad_in_its_place_are_fine():
    layer, optimizer = layer_and()
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
    for change in torch.ones(3, 4), torch.zeros(3, 4), torch.ones(3, 4):
        optimizer.zero_grad(set_to_none=False)
        propose_(layer, change)
        nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
        optimizer.step()
        schedule.step()


def test_several_changes_before_a_step_are_refused_or_added_up():
    layer, optimizer = layer_and()
    start, parts = layer.weight.detach().clone(), X.split(2)
    for part in parts:
        propose_(layer, Oja()(layer, part))
    with pytest.raises(Refusal, match=r"several changes were proposed before this step.*accumulate=True"):
        optimizer.step()
    assert torch.equal(layer.weight, start)
    optimizer.zero_grad()
    for part in parts:
        propose_(layer, Oja()(layer, part) / len(parts), accumulate=True)
    optimizer.step()
    torch.testing.assert_close(layer.weight, start + 0.1 * Oja()(layer_and()[0], X))
    propose_(layer, torch.ones(3, 4))
    optimizer.zero_grad()
    propose_(layer, torch.ones(3, 4))  # instead of the first
    optimizer.step()


def test_accumulation_adds_sparse_changes_and_adds_to_what_backprop_left():
    layer, _ = layer_and()
    changes = [HardWTA(sparse=True)(layer, part) for part in X.split(4)]
    for change in changes:
        propose_(layer, change, accumulate=True)
    torch.testing.assert_close(layer.weight.grad.to_dense(), -(changes[0] + changes[1]).to_dense())
    layer, _ = layer_and()
    layer(X).square().mean().backward()
    grad = layer.weight.grad.clone()
    bias = layer.bias.grad.clone()
    for _ in range(2):
        propose_(layer, torch.ones(3, 4), torch.arange(3.0), accumulate=True)
    torch.testing.assert_close(layer.weight.grad, grad - 2)
    torch.testing.assert_close(layer.bias.grad, bias - 2 * torch.arange(3.0))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_a_grad_scaler_scales_what_it_divides(make):
    layer, optimizer = layer_and(make)
    scaler, start = torch.amp.GradScaler("cpu"), layer.weight.detach().clone()
    plain, other = layer_and(make)
    for _ in range(3):
        change = Hebb()(layer, X)
        optimizer.zero_grad()
        propose_(layer, change, scaler=scaler)
        scaler.step(optimizer)
        scaler.update()
        propose_(plain, change)
        other.step()
    torch.testing.assert_close(layer.weight, plain.weight)
    assert not torch.equal(layer.weight, start)


def test_a_grad_scaler_that_was_not_told_is_refused_and_so_is_one_too_many():
    layer, optimizer = layer_and()
    scaler, start = torch.amp.GradScaler("cpu"), layer.weight.detach().clone()
    scaler.scale(layer(X).sum()).backward()
    propose_(layer, torch.ones(3, 4))
    with pytest.raises(Refusal, match="proposed without a GradScaler"):
        scaler.step(optimizer)
    propose_(layer, torch.ones(3, 4), scaler=scaler)
    optimizer.zero_grad()
    propose_(layer, torch.ones(3, 4), scaler=scaler)
    with pytest.raises(Refusal, match="proposed with a GradScaler"):
        optimizer.step()
    assert torch.equal(layer.weight, start)
    optimizer.zero_grad()
    disabled = torch.amp.GradScaler("cpu", enabled=False)
    propose_(layer, torch.ones(3, 4), scaler=disabled)
    disabled.step(optimizer)
    torch.testing.assert_close(layer.weight, start + 0.1)


def lightning_module():
    """The class of the page on rules, with a layer and its optimiser."""
    (code,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs/rules.md").read_text(encoding="utf-8"), re.DOTALL)
    here = {"tap": tap, "surrogate_loss": surrogate_loss, "lightning": SimpleNamespace(LightningModule=nn.Module)}
    exec(code, here)
    layer, optimizer = layer_and()
    return here["Local"](layer, {"": Oja()}), optimizer


def test_lightnings_automatic_optimisation_learns_as_the_page_on_rules_shows_it():
    (module, optimizer), (layer, _) = lightning_module(), layer_and()

    def closure():
        loss = module.training_step((X, None), 0)
        optimizer.zero_grad()
        loss.backward()

    optimizer.step(closure)
    torch.testing.assert_close(module.model.weight, layer.weight + 0.1 * Oja()(layer, X))


def test_a_proposal_in_its_automatic_optimisation_is_refused_and_the_cure_is_named():
    """It calls step with a closure: training step, then zero_grad, then the backward pass."""
    layer, optimizer = layer_and()

    def closure():
        propose_(layer, Oja()(layer, X))
        optimizer.zero_grad()

    with pytest.raises(Refusal, match="as Lightning's does, give it surrogate_loss instead"):
        optimizer.step(closure)


def test_a_step_with_a_closure_that_proposes_is_written():
    layer, optimizer = layer_and()
    start = layer.weight.detach().clone()
    optimizer.step(lambda: propose_(layer, torch.ones(3, 4)))
    torch.testing.assert_close(layer.weight, start + 0.1)


def test_other_optimisers_do_not_mind():
    layer, optimizer = layer_and()
    other, second = layer_and()
    propose_(layer, torch.ones(3, 4))
    other(X).sum().backward()
    second.step()
    assert layer.weight.grad is not None
    optimizer.step()


@pytest.mark.parametrize("rule", [Oja(), HardWTA()], ids=repr)
def test_transforms_of_torch_func_are_refused(rule):
    layer, _ = layer_and()
    for transform in torch.func.grad, torch.func.jacrev, torch.func.vmap:
        with pytest.raises(Refusal, match=r"no derivative.*outside of torch\.func\.grad, vmap"):
            transform(lambda x: rule(layer, x.view(-1, 4)).sum())(X)
        with pytest.raises(Refusal, match="no derivative"):
            transform(lambda x: correlate(layer, x.view(-1, 4), X[:, :3]).sum())(X)
    with pytest.raises(Refusal, match="no derivative"):
        torch.func.vmap(lambda y: Association(3)(layer, X, label=y))(torch.zeros(2, len(X), dtype=torch.int64))


def test_attached_rules_take_a_scaler_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    learner = attach(model, {"0": HardWTA()}, X)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    before = model[0].weight.detach().clone()
    learner.propose_(X, scaler)
    change = -model[0].weight.grad / scaler.get_scale()
    scaler.step(optimizer)
    torch.testing.assert_close(model[0].weight, before + 0.1 * change)
    scaler.update()
    learner.propose_(X)
    with pytest.raises(Refusal, match="proposed without a GradScaler"):
        scaler.step(optimizer)


def test_sgd_adds_its_rate_times_the_change():
    layer, x = nn.Linear(4, 3).double(), torch.randn(5, 4).double()
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    change = Oja()(layer, x)
    propose_(layer, change)
    torch.optim.SGD(layer.parameters(), lr=0.25).step()
    assert torch.equal(layer.weight, before + 0.25 * change)
    assert torch.equal(layer.bias, bias)


def test_a_second_proposal_replaces_the_first_in_its_memory():
    layer, first, second = nn.Linear(4, 3), torch.randn(3, 4), torch.randn(3, 4)
    propose_(layer, first)
    grad = layer.weight.grad
    propose_(layer, second)
    assert layer.weight.grad is grad
    assert torch.equal(grad, -second)
    propose_(layer, layer.weight.grad)  # even from the gradient's own memory
    assert torch.equal(grad, second)


def test_a_bias_learns_through_the_same_door():
    """A bias is a synapse from a unit that is always 1: Hebb on a layer with such an input is the oracle."""
    x, layer = torch.randn(5, 4).double(), nn.Linear(4, 3).double()
    wide = nn.Linear(5, 3, bias=False).double()
    wide.weight.data = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
    want = Hebb()(wide, torch.cat([x, torch.ones(5, 1)], 1))
    for _ in range(2):  # the second time into the memory of the first
        propose_(layer, Hebb()(layer, x), bias=layer(x).mean(0))
        torch.testing.assert_close(layer.weight.grad, -want[:, :4])
        torch.testing.assert_close(layer.bias.grad, -want[:, 4])
    propose_(layer, torch.zeros(3, 4))
    assert layer.bias.grad.any()  # left alone


def test_a_parameter_may_learn_by_itself():
    rest = nn.Parameter(torch.zeros(3))
    propose_(rest, torch.tensor([1.0, -2.0, 0.5]))
    assert torch.equal(rest.grad, torch.tensor([-1.0, 2.0, -0.5]))


def test_changes_that_fit_nothing_are_refused():
    with pytest.raises(Refusal, match=r"shape \(4,\) was proposed for a bias of \(3,\)"):
        propose_(nn.Linear(4, 3), torch.zeros(3, 4), bias=torch.zeros(4))
    with pytest.raises(Refusal, match="Linear has no bias"):
        propose_(nn.Linear(4, 3, bias=False), torch.zeros(3, 4), bias=torch.zeros(3))
    with pytest.raises(Refusal, match=r"shape \(2,\) was proposed for a parameter of \(3,\)"):
        propose_(nn.Parameter(torch.zeros(3)), torch.zeros(2))
    with pytest.raises(Refusal, match="has no bias; propose two"):
        propose_(nn.Parameter(torch.zeros(3)), torch.zeros(3), bias=torch.zeros(3))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.5),
        lambda p: torch.optim.Adam(p, lr=0.05),
        lambda p: torch.optim.AdamW(p, lr=0.05),
        lambda p: torch.optim.RMSprop(p, lr=0.02),
    ],
)
def test_any_optimiser_and_scheduler_learn_a_local_law(make):
    """Oja under each of them raises the variance that one unit keeps to nearly all that one unit can keep."""
    torch.manual_seed(0)
    x = torch.randn(200, 4) * torch.tensor([2.0, 1.0, 0.5, 0.2])
    layer = nn.Linear(4, 1, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    optimizer = make(layer.parameters())
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=300)
    for _ in range(300):
        with tap(layer, [""]) as seen:
            layer(x)
        propose_(layer, Oja()(layer, *seen[""]))
        optimizer.step()
        scheduler.step()
    assert F.cosine_similarity(layer.weight[0].detach().abs(), torch.tensor([1.0, 0, 0, 0]), dim=0) > 0.99
    assert layer.weight.norm().item() == pytest.approx(1, abs=0.05)


def test_a_wrong_shape_is_refused():
    with pytest.raises(Refusal, match=r"shape \(4, 3\) was proposed for a weight of \(3, 4\)"):
        propose_(nn.Linear(4, 3), torch.zeros(4, 3))


def test_a_weight_that_no_optimiser_holds_is_refused():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    with pytest.raises(Refusal, match="computed from other parameters"):
        Hebb()(layer, torch.randn(2, 4))
    with pytest.raises(Refusal, match="computed from other parameters"):
        propose_(layer, torch.zeros(3, 4))


def test_a_change_takes_the_dtype_of_the_weight():
    layer = nn.Linear(4, 3)
    propose_(layer, torch.ones(3, 4).double())
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("rule", [KrotovHopfield(k=2), KrotovHopfield(p=2, normalise=True, average=True), HardWTA()])
def test_a_sparse_change_takes_the_same_steps_as_a_dense_one(rule):
    layers = []
    for sparse in (False, True):
        torch.manual_seed(0)
        layer, x = nn.Linear(9, 40, bias=False).double(), torch.rand(5, 6, 9, dtype=torch.float64)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for part in x:
            change = replace(rule, sparse=sparse)(layer, part)
            assert change.is_sparse == sparse
            propose_(layer, change)
            optimizer.step()
        layers.append(layer)
    torch.testing.assert_close(layers[1].weight, layers[0].weight, rtol=1e-12, atol=1e-12)


def test_a_dense_change_may_follow_a_sparse_one_and_the_other_way_round():
    layer, x = nn.Linear(9, 40, bias=False), torch.rand(6, 9)
    for sparse in (True, False, True):
        change = HardWTA(sparse=sparse)(layer, x)
        propose_(layer, change)
        assert torch.equal(layer.weight.grad.to_dense(), -change.to_dense())


def test_a_sparse_change_of_a_convolution_is_refused():
    with pytest.raises(Refusal, match="sparse change needs a Linear layer, got Conv2d"):
        KrotovHopfield(k=2, sparse=True)(nn.Conv2d(1, 4, 3), torch.rand(2, 1, 6, 6))


def test_an_optimiser_that_ascends_and_inference_mode_are_refused():
    layer = nn.Linear(3, 2)
    with torch.inference_mode(), pytest.raises(Refusal, match=r"cannot write in torch\.inference_mode\(\)"):
        propose_(layer, torch.ones(2, 3))
    propose_(layer, torch.ones(2, 3))
    with pytest.raises(Refusal, match="an optimiser that ascends; make it with maximize=False"):
        torch.optim.Adam(layer.parameters(), maximize=True).step()


def test_after_the_step_of_a_surrogate_loss_a_change_may_be_proposed_again():
    layer, x = nn.Linear(3, 2), torch.rand(5, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    change = Hebb()(layer, x)
    surrogate_loss(layer, change).backward()
    optimizer.step()
    before = layer.weight.detach().clone()
    propose_(layer, change)  # over the gradient that is still there
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before + 0.1 * change)
