"""The association classifier: what a synapse may see, layers in any order, columns, refusals."""

import math
from copy import deepcopy
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch.multiprocessing import get_context

from association_oracles import error_by_hand
from common import first_digits, rng
from neuropil.data import Split, digits, hold_out, iris
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.models import AssociationClassifier, AssociationTraining
from neuropil.models.association import associate_, fields, likeness
from neuropil.models.nn.columns import PopulationVote, TopKSigmoid
from neuropil.plasticity import Association, propose_
from neuropil.recipes.mnist_association import Config, end_to_end
from neuropil.runs import NullTracker, Run

PLAIN = {"k": None, "slope": 1.0, "n_send": None, "unit_norm_input": False}


train = first_digits(400)


COLUMNS = {"k": 1, "columns": (4, 2), "receptive_field": 4, "n_send": 2}


def trained(settings, train, steps=20):
    learner = AssociationClassifier(
        (40, 40), training=AssociationTraining(epochs=1, batch=20, min_steps=steps), **settings
    )
    return learner.fit(train, rng=rng())


@pytest.mark.parametrize("settings", [{"k": 2}, COLUMNS, PLAIN], ids=["competition", "columns", "plain"])
def test_a_synapse_changes_by_what_its_two_neurons_and_the_event_say(settings, train):
    """From recordings of one input neuron, one neuron and the event at that neuron; nothing else enters."""
    learner = trained(settings, train)
    network, part = deepcopy(learner.network_), train[:50]
    rules = learner.rules(10)
    associate_(network, rules, part, learner.mask(train))
    sent = part.x
    for name, layer in network.named_children():
        got, sent = sent, layer(sent)
        if name in rules:
            rule = rules[name]
            event = error_by_hand(rule, sent.double(), part.y) != 0  # who is made to fire or kept silent
            seen = layer.weight.detach() != 0
            for j, i in [(0, 0), (0, -1), (7, 0), (39, -1)]:
                i = seen[j].nonzero().flatten()[i].item()
                change = 0.0
                for b in range(50):
                    target, answer = float(part.y[b] == j % 10), 1 / (1 + math.exp(-rule.slope * sent[b, j].item()))
                    change += got[b].flatten()[i].item() * (target - answer) if event[b, j] else 0.0
                assert -layer.weight.grad[j, i].item() == pytest.approx(change, rel=1e-3, abs=1e-5)
                answers = torch.sigmoid(rule.slope * sent[:, j])
                threshold = (((part.y == j % 10).float() - answers) * event[:, j]).sum().item()
                assert -layer.bias.grad[j].item() == pytest.approx(threshold, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("settings", [{"k": 2}, PLAIN], ids=["competition", "plain"])
def test_layers_may_be_updated_in_any_order(settings, train):
    """After one forward pass; each order writes a layer before the change of the next one is even computed."""
    learner = AssociationClassifier((40, 30, 20), **settings)
    rules, results = learner.rules(10), []
    for order in permutations(["hidden", "hidden2", "hidden3"]):
        network, part = learner.fresh(train, rng()), train[:50]
        seen, sent = {}, part.x
        with torch.no_grad():
            for name, layer in network.named_children():
                seen[name], sent = sent, layer(sent)
        for name in order:
            layer = network.get_submodule(name)
            propose_(layer, rules[name](layer, seen[name], label=part.y))
            torch.optim.SGD([layer.weight], lr=0.1).step()
        results.append([weight.detach() for weight in network.parameters()])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def learn(layer, optimizer, rule, pre, label):
    """One step of one layer on its own; what it makes of `pre` before it learns."""
    with torch.no_grad():
        drive = layer(pre)
    propose_(layer, rule(layer, pre, drive, label=label, reduction="sum"))
    optimizer.step()
    return drive


def upper(layer, rule, inbox, outbox):
    """A process that has the second layer and nothing else: activity and labels come in, its weight goes out."""
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam([layer.weight], lr=4e-3)
    while (message := inbox.get()) is not None:
        learn(layer, optimizer, rule, *(torch.tensor(part) for part in message))
    outbox.put(layer.weight.detach().tolist())


def lower(network, rule, batches, tell):
    """The first layer, which tells what it sent, and never hears anything back."""
    optimizer = torch.optim.Adam([network.hidden.weight], lr=4e-3)
    for part in batches:
        drive = learn(network.hidden, optimizer, rule, network.unit(part.x.flatten(1)), part.y)
        tell(network.sent_hidden(drive), part.y)


@pytest.fixture
def together(train):
    """(untrained network, rule, batches, its two weights after both layers learned from the same forward passes)."""
    learner = AssociationClassifier((40, 30), k=2)
    network, rules, batches = learner.fresh(train, rng()), learner.rules(10), list(train.batches(50, shuffle=rng(1)))
    start = deepcopy(network)
    weights = [network.hidden.weight, network.hidden2.weight]
    optimizer = torch.optim.Adam(weights, lr=4e-3)
    for part in batches:
        associate_(network, rules, part, learner.mask(train))
        optimizer.step()
    return start, rules["hidden"], batches, [weight.detach() for weight in weights]


def test_with_inputs_that_are_a_step_old_every_layer_learns_the_very_same(together):
    network, rule, batches, want = together
    optimizer, late = torch.optim.Adam([network.hidden2.weight], lr=4e-3), []
    assert not torch.equal(network.hidden2.weight, want[1])

    def tell(sent, label):
        late.append((sent, label))
        if len(late) == 2:  # the second layer is one step behind
            learn(network.hidden2, optimizer, rule, *late.pop(0))

    lower(network, rule, batches, tell)
    learn(network.hidden2, optimizer, rule, *late.pop())
    assert torch.equal(network.hidden.weight, want[0])
    assert torch.equal(network.hidden2.weight, want[1])


def test_a_layer_may_learn_in_a_process_of_its_own(together):
    network, rule, batches, want = together
    context = get_context("spawn")
    inbox, outbox = context.Queue(), context.Queue()
    process = context.Process(target=upper, args=(network.hidden2, rule, inbox, outbox))
    process.start()
    lower(network, rule, batches, lambda sent, label: inbox.put((sent.numpy(), label.numpy())))
    inbox.put(None)
    weight = torch.tensor(outbox.get(timeout=300))
    process.join()
    torch.testing.assert_close(weight, want[1], rtol=1e-5, atol=1e-6)


def test_labels_must_travel_with_the_activity(train):
    """A second layer whose inputs are a step old, but whose label events are not, learns nothing."""
    rest, held = hold_out(train, 0.25, 0)
    shifted = Split(rest.x, rest.y.roll(1), 10)
    learner = AssociationClassifier((50,), k=2, training=AssociationTraining(batch=25, min_steps=200))
    assert accuracy(learner.fit(rest, rng=rng()), held) > 0.85
    assert accuracy(learner.fit(shifted, rng=rng()), held) < 0.25


def test_the_plain_rule_collapses_and_competition_keeps_neurons_apart():
    train = digits(seed=0)[0]
    alike = {}
    for name, settings in {"plain": PLAIN, "competition": {"k": 3}}.items():
        learner = AssociationClassifier((60, 60), training=AssociationTraining(min_steps=400), **settings)
        parity = Split(train.x, train.y % 2, 2)
        weight = learner.fit(parity, rng=rng()).feature_layers()[0].weight
        alike[name] = torch.corrcoef(weight[::2]).abs().mean()
    assert alike["plain"] > 0.8
    assert alike["competition"] < 0.5 * alike["plain"]


@pytest.mark.parametrize(("settings", "least"), [({"k": 3}, 0.93), (PLAIN, 0.75)], ids=["competition", "plain"])
def test_it_learns_and_repeats_exactly(settings, least):
    train, held = hold_out(digits(seed=0)[0], 0.25, 0)
    learner = AssociationClassifier((100, 100), training=AssociationTraining(min_steps=300), **settings)
    scores = learner.fit(train, rng=rng()).decision_function(held.x)
    assert scores.shape == (len(held), 10)
    assert torch.equal(scores.argmax(1), learner.predict(held.x))
    assert accuracy(learner, held) > least
    assert torch.equal(learner.fit(train, rng=rng()).decision_function(held.x), scores)
    assert not torch.equal(learner.fit(train, rng=rng(1)).decision_function(held.x), scores)


@pytest.mark.parametrize("settings", [COLUMNS, PLAIN], ids=["columns", "plain"])
def test_a_fit_that_was_stopped_goes_on_bit_for_bit(settings, train, tmp_path, monkeypatch):
    def fit(tracker):
        learner = AssociationClassifier((40, 40), training=AssociationTraining(epochs=4, batch=100), **settings)
        return learner.fit(train, rng=rng(), tracker=tracker).decision_function(train.x)

    whole, original, calls = fit(NullTracker()), associate_, []

    def stop(*args):
        calls.append(1)
        if len(calls) == 10:  # in the third of four passes of four batches
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr("neuropil.models.association.associate_", stop)
    run = Run.start(tmp_path / "run", recipe="none", config={}, command="none")
    run.every = 0
    with pytest.raises(KeyboardInterrupt):
        fit(run)
    run.close()
    assert torch.equal(fit(Run.resume(tmp_path / "run")), whole)
    assert len(calls) == 10 + 8  # two passes were done


def test_all_layers_learn_and_nothing_of_it_is_autograd(train):
    learner = trained({"k": 2}, train, steps=1)
    fresh = learner.fresh(train, rng())
    moved = [not torch.equal(a, b) for a, b in zip(fresh.parameters(), learner.network_.parameters())]
    assert moved == [True] * 4
    assert not any(weight.requires_grad for weight in learner.network_.parameters())
    associate_(fresh.requires_grad_(False), learner.rules(10), train[:20])  # backprop would have nothing to work on
    assert all(weight.grad.abs().max() > 0 for weight in fresh.parameters())


def test_a_column_sees_its_square_of_the_image_and_never_more(train):
    learner = trained(COLUMNS, train)
    for column, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        weight = learner.network_.hidden.weight[10 * column : 10 * (column + 1)].view(10, 8, 8)
        assert (weight[:, top : top + 4, left : left + 4] != 0).all()
        assert (weight != 0).sum() == 160
    overlapping = fields((1, 8, 8), 5, 9, 18).view(9, 2, 8, 8)
    assert overlapping.sum((2, 3)).eq(25).all()
    assert overlapping[4, 0, 2:7, 2:7].all()
    assert torch.equal(overlapping[:, 0], overlapping[:, 1])
    wide = fields((1, 5, 9), 3, 4, 4).view(4, 5, 9)
    for column, (top, left) in enumerate([(0, 0), (0, 6), (2, 0), (2, 6)]):
        assert wide[column, top : top + 3, left : left + 3].all()
        assert wide[column].sum() == 9


def test_likeness_is_the_mean_correlation_within_associations():
    weight = torch.randn(12, 5, generator=rng())
    weight[6:, 3:] = 0  # the second column sees three inputs
    pairs = lambda js, i: [abs(np.corrcoef(weight[a, :i], weight[b, :i])[0, 1]) for a, b in combinations(js, 2)]
    whole = np.mean([pairs(range(c, 12, 3), 5) for c in range(3)])
    column = np.mean([pairs([c, c + 3], 5) for c in range(3)] + [pairs([c + 6, c + 9], 3) for c in range(3)])
    assert likeness(weight, Association(3, columns=2)) == pytest.approx((whole, column), rel=1e-4)


def test_what_is_sent_are_the_strongest_answers_at_unit_length():
    drive = torch.tensor([[0.0, 3.0, -1.0, 2.0]])
    answer = [1 / (1 + math.exp(-2 * u)) for u in (3.0, 2.0)]
    length = math.hypot(*answer)
    want = torch.tensor([[0.0, answer[0] / length, 0.0, answer[1] / length]])
    torch.testing.assert_close(TopKSigmoid(2.0, 2)(drive), want)
    torch.testing.assert_close(TopKSigmoid(2.0)(drive), torch.sigmoid(2 * drive))
    assert TopKSigmoid(2.0, 1, columns=2)(drive).nonzero()[:, 1].tolist() == [1, 3]
    for name, what in {"slope": "a number", "n_send": "a whole number", "columns": "a whole number"}.items():
        with pytest.raises(Refusal, match=f"TopKSigmoid needs {what} as {name}, got 'fast'"):
            TopKSigmoid(**{"slope": 1.0, name: "fast"})


def test_the_vote_is_the_mean_of_the_strongest_of_each_association():
    drive = torch.tensor([[1.0, 10.0, 3.0, 30.0, 2.0]])  # classes 0 1 0 1 0
    torch.testing.assert_close(PopulationVote(5, 2, slope=2.0, k=2)(drive), torch.tensor([[5.0, 40.0]]))
    both = PopulationVote(6, 2, slope=2.0, k=1, columns=2)(torch.tensor([[1.0, 5.0, 3.0, 30.0, 2.0, 10.0]]))
    torch.testing.assert_close(both, torch.tensor([[3.0 + 2.0, 5.0 + 30.0]]))  # columns of 3: 0 1 0 and 1 0 1
    s = torch.sigmoid(2 * drive[0])
    want = torch.stack([(s[0] + s[2] + s[4]) / 3, (s[1] + s[3]) / 2])[None]
    torch.testing.assert_close(PopulationVote(5, 2, slope=2.0, k=None)(drive), want)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"epochs": 0}, {"batch": 0}])
def test_event_settings_out_of_range_are_refused(bad):
    with pytest.raises(Refusal, match="AssociationTraining needs"):
        AssociationTraining(**bad)


def test_a_network_too_small_for_its_classes_is_refused(train):
    with pytest.raises(Refusal, match="got 5 neurons for 10 classes"):
        AssociationClassifier((5, 30), k=1).fit(train, rng=rng())
    with pytest.raises(Refusal, match="got k=3 and 20 neurons for 10 classes, 2 each"):
        AssociationClassifier((30, 20), k=3).fit(train, rng=rng())
    with pytest.raises(Refusal, match="needs a layer"):
        AssociationClassifier(())
    with pytest.raises(Refusal, match=r"got columns=\(1,\) and hidden=\(30, 20\)"):
        AssociationClassifier((30, 20), columns=(1,))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"columns": (3, 1)}, "got 40 neurons in 3 columns"),
        ({"columns": (2, 1), "receptive_field": 4}, "lie on a square grid, got 2"),
        ({"columns": (4, 1), "receptive_field": 9}, "1 to 8 pixels, got 9"),
    ],
)
def test_columns_that_do_not_fit_are_refused(case, words, train):
    with pytest.raises(Refusal, match=words):
        AssociationClassifier((40, 30), k=1, **case).fit(train, rng=rng())


def test_vectors_have_no_fields():
    with pytest.raises(Refusal, match="got 4 inputs; use receptive_field=None"):
        AssociationClassifier((40,), columns=(4,), receptive_field=2, k=1).fit(iris()[0], rng=rng())


def test_logits_are_the_scores_with_a_gradient_by_the_pixels(train):
    learner, x = trained({"k": 2}, train), train[:20].pixels().requires_grad_()
    logits = learner.forward(x)
    torch.testing.assert_close(logits.detach(), learner.decision_function(x.detach()))
    logits.sum().backward()
    assert x.grad.abs().amax(1).count_nonzero() > 0


def test_backprop_gets_the_fields_too_and_nothing_outside_them(train):
    """The baseline with fields: as many connections as the rule has, drawn to the same scale, and no others ever."""
    config = Config(hidden=(40, 40), columns=(4, 2), receptive_field=4, backprop_epochs=2, backprop_batch=50)
    learner = end_to_end(config, train, rng(), same_fields=True).learner
    first = learner.body.hidden0
    sees = fields((1, 8, 8), 4, 4, 40)
    assert torch.equal(first.weight != 0, sees == 1)
    assert first.weight[sees == 1].std().item() == pytest.approx(math.sqrt(2 / 16), rel=0.1)
    after = learner.fit(train, rng=rng()).network_[0].hidden0
    assert torch.equal(after.weight != 0, sees == 1)
    assert not torch.equal(after.weight, first.weight)
    x = torch.rand(3, 64, generator=rng())
    for b, j in [(0, 0), (1, 17), (2, 39)]:
        drive = sum(float(after.weight[j, i]) * float(x[b, i]) for i in range(64) if sees[j, i]) + float(after.bias[j])
        assert after(x)[b, j].item() == pytest.approx(drive, abs=1e-6)
