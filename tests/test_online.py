"""Models that learn from one batch after the other: in a pass, by themselves, and from a file."""

import pytest
import torch
from torch import nn

from common import rng
from neuropil.data import digits
from neuropil.errors import Diverged, Refusal
from neuropil.evaluate import accuracy
from neuropil.loading import load
from neuropil.models import (
    AssociationClassifier,
    DeltaReadout,
    LateralReadout,
    OnlineBackprop,
    OnlineClassifier,
    Prototypes,
    dense_body,
    init_normal_,
)
from neuropil.models.online_backprop import Consolidation
from neuropil.plasticity import Hebb, KrotovHopfield, SoftHebb


def random_body(train):
    body = dense_body(train, 50, n=1.0)
    init_normal_(body, rng())
    return body


@pytest.mark.parametrize("head", [LateralReadout, DeltaReadout])  # the second one knows batches
def test_batches_of_a_stream_are_those_of_one_pass(head):
    train, test = digits(seed=0)
    train = train[:600]  # more than a frozen body sees at once
    whole = OnlineClassifier(random_body(train), head).begin(train.x, 10).learn_(train, batch=7, rng=rng(2))
    one = OnlineClassifier(random_body(train), head)
    for part in train.batches(7, shuffle=rng(2)):
        one.partial_fit(part.x, part.y, classes=10)
    torch.testing.assert_close(one.decision_function(test.x), whole.decision_function(test.x))
    assert accuracy(one, test) > 0.8


KROTOV = KrotovHopfield(p=2.0, k=2, delta=0.3, average=True, ranking_dtype=torch.float64)
MODELS = {
    "sums": lambda body: OnlineClassifier(body, LateralReadout),
    "learning features": lambda body: OnlineClassifier(body, Prototypes, rules={"hidden": KROTOV}, lr=0.037),
    "backprop": lambda body: OnlineBackprop(body, lr=0.37),
    "consolidation": lambda body: OnlineBackprop(body, lr=0.37, consolidation=1.7),
    "association": lambda _: AssociationClassifier((90, 60), columns=(9, 1), receptive_field=4, k=1),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_from_a_file_learns_on_as_if_there_had_been_none(make, tmp_path):
    train, test = digits(seed=0)
    one = make(random_body(train))
    one.begin(train.x, 10, **({"rng": rng(3)} if isinstance(one, AssociationClassifier) else {}))
    if not isinstance(one, AssociationClassifier):
        for part in (one.network_, getattr(one, "consolidation_", None) or nn.Identity()):
            part.double()  # bit for bit in float64, too
    for task in (train[:60], train[60:100]):
        one.partial_fit(task.x, task.y)
        getattr(one, "end_task_", lambda: None)()
    one.partial_fit(train.x[100:130], train.y[100:130])  # in the middle of a task
    again = load(one.save(tmp_path / "one.safetensors"))
    assert torch.equal(again.decision_function(test.x), one.decision_function(test.x))
    before = one.decision_function(test.x)
    for model in (one, again):
        for batch in train[130:190].batches(20):
            model.partial_fit(batch.x, batch.y)
        getattr(model, "end_task_", lambda: None)()
        model.partial_fit(train.x[190:220], train.y[190:220])
    assert torch.equal(again.decision_function(test.x), one.decision_function(test.x))
    assert not torch.equal(one.decision_function(test.x), before)
    small = load(one.save(tmp_path / "small.safetensors", precision="float16"))
    small.partial_fit(train.x[:9], train.y[:9])  # what is left out begins anew


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_that_is_fitted_again_forgets_what_it_was(make):
    train, test = digits(seed=0)
    used, fresh = make(random_body(train)), make(random_body(train))
    more = {"rng": rng(3)} if isinstance(used, AssociationClassifier) else {}
    used.partial_fit(train.x[200:260], train.y[200:260], classes=10, **more)
    getattr(used, "end_task_", lambda: None)()
    for model in used, fresh:
        model.fit(train[:50], rng=rng(2)).partial_fit(train.x[50:80], train.y[50:80])
    assert torch.equal(used.decision_function(test.x), fresh.decision_function(test.x))


def test_a_layer_with_a_rule_learns_on_from_every_batch():
    train = digits(seed=0)[0][:60]
    body, rule = random_body(train), KrotovHopfield(p=2.0, k=2, average=True)
    model, whole = (OnlineClassifier(body, Prototypes, rules={"hidden": rule}, lr=0.05) for _ in range(2))
    whole.begin(train.x, 10).learn_(train, batch=20, rng=rng(2))
    weight = body.hidden.weight.detach().clone()
    for part in train.batches(20, shuffle=rng(2)):
        model.partial_fit(part.x, part.y, classes=10)
        pre = body[:2](part.x)
        layer = nn.Linear(64, 50, bias=False).requires_grad_(False)
        layer.weight.copy_(weight)
        weight += 0.05 * rule(layer, pre)
    assert torch.equal(whole.decision_function(train.x), model.decision_function(train.x))
    torch.testing.assert_close(model.feature_layers()[0].weight, weight)


def test_association_learns_in_steps_what_one_pass_teaches_at_a_constant_rate(tmp_path):
    train, test = digits(seed=0)
    settings = {"hidden": (90, 60), "columns": (9, 1), "receptive_field": 4, "k": 1}
    model = AssociationClassifier(**settings)
    for _ in range(3):
        for part in train.batches(50):
            model.partial_fit(part.x, part.y, classes=10, rng=rng())
    assert accuracy(model, test) > 0.8
    assert (model.network_.hidden.weight[model.mask(train) == 0] == 0).all()
    again = load(model.save(tmp_path / "model.safetensors"))
    assert again.memory_ is not None
    again.fit(train[:50], rng=rng())
    assert again.memory_ is None  # it was of another network


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda model, x, y: model.partial_fit(x, y),
            r"needs the number of all classes: partial_fit\(x, y, classes=10",
        ),
        (lambda model, x, y: model.partial_fit(x, y - 1, classes=3), "needs a label for every example"),
        (lambda model, x, y: model.partial_fit(x, y[:2], classes=3), "one label per example, got 3 examples and 2"),
        (
            lambda model, x, y: model.partial_fit(x, y, classes=3).partial_fit(x, y, classes=4),
            "3 classes, got classes=4",
        ),
        (lambda model, x, y: model.partial_fit(x, y + 2, classes=3), "labels need 0 <= y < classes=3"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(call, said):
    body = nn.Sequential(nn.Flatten())
    for model in (OnlineClassifier(body), OnlineBackprop(body, lr=0.1)):
        with pytest.raises(Refusal, match=said):
            call(model, torch.rand(3, 5), torch.arange(3))


@pytest.mark.parametrize("name", ["prototypes", "backprop", "association"])
def test_examples_of_another_shape_are_refused_as_in_predict(name):
    body = nn.Sequential(nn.Flatten(), nn.Linear(20, 8))
    model = {
        "prototypes": lambda: OnlineClassifier(body),
        "backprop": lambda: OnlineBackprop(body, lr=0.1),
        "association": lambda: AssociationClassifier((30,)),
    }[name]()
    more = {"rng": rng()} if name == "association" else {}
    model.partial_fit(torch.rand(6, 1, 4, 5), torch.arange(6) % 3, classes=3, **more)
    for call in (model.predict, lambda x: model.partial_fit(x, torch.arange(2))):
        with pytest.raises(Refusal, match=r"cannot take examples of shape \(1, 4, 6\) .*; give them the shape"):
            call(torch.rand(2, 1, 4, 6))


def test_a_batch_that_is_refused_changes_nothing():
    body = nn.Sequential(nn.Flatten(), nn.Linear(20, 8))
    for model in (OnlineClassifier(body), OnlineBackprop(body, lr=0.1)):
        with pytest.raises(
            Refusal, match=rf"body of {type(model).__name__} cannot take .* \(1, 4, 6\) .* make one for"
        ):
            model.partial_fit(torch.rand(2, 1, 4, 6), torch.arange(2), classes=9)
        model.partial_fit(torch.rand(6, 1, 4, 5), torch.arange(6) % 3, classes=9)
        before = {name: part.clone() for name, part in model.network_.state_dict().items()}
        with pytest.raises(Refusal, match="those it was fitted to"):
            model.partial_fit(torch.rand(2, 1, 4, 6), torch.tensor([7, 8]))
        assert all(torch.equal(part, before[name]) for name, part in model.network_.state_dict().items())
        assert not any(weight.requires_grad for weight in model.network_.parameters())


def test_a_pass_has_batches_of_any_size_and_needs_examples():
    train = digits(seed=0)[0][:40]
    one, other = (OnlineClassifier(random_body(train), DeltaReadout, batch=size) for size in (1000, 40))
    scores = [model.fit(train, rng=rng(1)).decision_function(train.x) for model in (one, other)]
    torch.testing.assert_close(*scores)  # of more than the body sees at once: one batch of all
    for model in (one, OnlineBackprop(random_body(train), lr=0.1)):
        with pytest.raises(Refusal, match=rf"{type(model).__name__} needs examples to learn from, got a split of none"):
            model.fit(train[:0], rng=rng())


def test_backprop_that_diverges_says_so_and_what_to_lower():
    for how in ({"lr": 1e30}, {"lr": 1e30, "consolidation": 5.0}):
        torch.manual_seed(0)
        model = OnlineBackprop(nn.Sequential(nn.Flatten(), nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 9)), **how)

        def learn(model=model):
            for _ in range(9):
                model.partial_fit(torch.rand(6, 5), torch.arange(6) % 3, classes=3).end_task_()

        with pytest.raises(Diverged, match=r"OnlineBackprop diverged: its loss is .*; lower its learning rate"):
            learn()
    for wrong in ({"lr": float("inf")}, {"lr": 0.1, "consolidation": float("inf")}):
        with pytest.raises(Refusal, match="OnlineBackprop needs finite lr > 0"):
            OnlineBackprop(nn.Sequential(nn.Flatten()), **wrong)


def test_what_is_not_the_shape_is_not_blamed_on_it(monkeypatch):
    model = OnlineClassifier(nn.Sequential(nn.Flatten())).partial_fit(torch.rand(3, 5), torch.arange(3), classes=3)
    monkeypatch.setattr(type(model.head_), "learn_", lambda *_: torch.linalg.cholesky(-torch.eye(2)))
    with pytest.raises(torch.linalg.LinAlgError, match="not positive-definite"):
        model.partial_fit(torch.rand(3, 5), torch.arange(3))


def test_rules_of_layers_that_are_not_there_are_refused():
    with pytest.raises(Refusal, match="unknown layer 'hiden'"):
        OnlineClassifier(nn.Sequential(nn.Flatten()), rules={"hiden": KrotovHopfield()}).begin(torch.rand(1, 4), 2)


def test_the_pull_of_consolidation_is_the_gradient_of_its_penalty():
    weights = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), nn.Parameter(torch.randn(3, dtype=torch.float64))]
    memory = Consolidation([weight.shape for weight in weights], 2.7).double()
    squares = [torch.zeros_like(weight) for weight in weights]
    for batch in (1, 5):  # two batches of a first task
        for weight, square in zip(weights, squares):
            weight.grad = torch.randn_like(weight)
            square += batch * weight.grad**2 / 6
        memory.constrain_(weights, batch)
    memory.consolidate_(weights)
    anchors = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.data += 0.3 * torch.randn_like(weight)
        weight.grad = torch.zeros_like(weight)
    memory.constrain_(weights, 1)
    penalty = (
        2.7
        / 2
        * sum((square * (weight - anchor) ** 2).sum() for square, weight, anchor in zip(squares, weights, anchors))
    )
    for weight, want in zip(weights, torch.autograd.grad(penalty, weights)):
        torch.testing.assert_close(weight.grad, want, rtol=1e-12, atol=1e-12)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    memory.consolidate_(weights)  # the second task had a batch of one, whose gradients were 0
    memory.constrain_(weights, 4)
    memory.consolidate_(weights)  # and the third one of four
    for square, found in zip(squares, memory.parts("fisher")):
        torch.testing.assert_close(found, square + 1, rtol=1e-12, atol=1e-12)
    assert all(map(torch.equal, memory.parts("anchor"), weights))  # as they are after the latest task


def test_backprop_takes_plain_steps():
    train = digits(seed=0)[0][:20]
    model = OnlineBackprop(random_body(train), lr=0.5)
    for part in train.batches(10):
        model.partial_fit(part.x, part.y, classes=10)
    body, readout = random_body(train), nn.Linear(50, 10)
    nn.init.zeros_(readout.weight), nn.init.zeros_(readout.bias)
    network = nn.Sequential(body, readout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for part in train.batches(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(part.x), part.y).backward()
        optimizer.step()
    torch.testing.assert_close(model.network_.readout.linear.weight, readout.weight)


def test_rules_at_the_default_rate_do_not_ruin_the_features_whatever_the_scale():
    train, test = digits()
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 80), nn.ReLU())
    frozen = accuracy(OnlineClassifier(body).fit(train, rng=rng()), test)
    for rule in (KrotovHopfield(), Hebb(), SoftHebb(tau=0.1)):
        for scale in (1.0, 40.0):
            scaled = nn.Sequential(nn.Flatten(), Times(scale), *body[1:])
            model = OnlineClassifier(scaled, rules={"2": rule}).fit(train, rng=rng())
            assert accuracy(model, test) > frozen - 0.03
            moved = model.network_.get_submodule("body.2").weight - body[1].weight
            assert moved.abs().max() > 1e-5
    pre, weight = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.eye(2)
    mean = torch.stack([torch.outer(x, x) for x in pre]).mean(0)
    for lr, rate in ((None, 1e-3 / 13), (0.03, 0.03)):  # (25 + 1) / 2 is 13
        before = OnlineClassifier(nn.Sequential(nn.Linear(2, 2, bias=False)), rules={"0": Hebb()}, lr=lr).begin(pre, 2)
        before.body_[0].weight.copy_(weight)
        before.partial_fit(pre, torch.tensor([0, 1]))
        torch.testing.assert_close(before.body_[0].weight, weight + rate * mean)


class Times(nn.Module):
    """Makes pixels larger."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_the_default_rate_of_kernels_is_divided_by_the_squared_length_of_their_patches():
    x = 0.5 + 0.5 * torch.rand(5, 2, 4, 3, generator=rng())
    layer = nn.Conv2d(2, 3, (2, 3), bias=False)
    model = OnlineClassifier(nn.Sequential(Times(2.0), layer, nn.Flatten()), rules={"1": Hebb()}).begin(x, 2)
    model.partial_fit(x, torch.tensor([0, 1, 0, 1, 1]))
    with torch.no_grad():
        want = 1e-3 * Hebb()(layer, 2 * x) / ((2 * x).square().mean() * 2 * 2 * 3)
    torch.testing.assert_close(model.body_[1].weight - layer.weight, want, rtol=1e-3, atol=1e-7)
