"""Labels that spread along a graph of neighbours, against loops and a dense system; and a model taught by them."""

import numpy as np
import pytest
import torch
from torch import nn

from common import rng
from neuropil.data import Split, digits, subset
from neuropil.errors import Refusal
from neuropil.experiments.spreading import LabelSpreading, SpreadTaught, directions
from neuropil.loading import load
from neuropil.models import BackpropClassifier, FeatureClassifier, RidgeRegression, SupervisedTraining
from neuropil.recipes import mnist_conv_krotov


def by_hand(z, y, classes, k, alpha):
    """One pair at a time, then the dense system."""
    n = len(z)
    near = np.zeros((n, n))
    for i in range(n):
        far = [np.sqrt(((z[i] - z[j]) ** 2).sum()) if j != i else np.inf for j in range(n)]
        chosen = sorted(range(n), key=lambda j: far[j])[:k]
        for j in chosen:
            near[i, j] = np.exp(-4 * (far[j] / far[chosen[-1]]) ** 2)
    w = (near + near.T) / 2
    s = w / np.sqrt(np.outer(w.sum(0), w.sum(0)))
    mass = np.linalg.solve(np.eye(n) - alpha * s, np.eye(classes + 1)[y][:, :classes])
    return mass / mass.sum(0)


def test_labels_spread_as_the_dense_system_says():
    z = torch.randn(37, 3, generator=rng(1), dtype=torch.float64).numpy()
    y = np.where(np.arange(37) < 7, np.arange(37) % 3, -1)
    how = LabelSpreading(neighbours=4, components=0, alpha=0.93)
    np.testing.assert_allclose(how.spread(how.graph(z), y, 3), by_hand(z, y, 3, 4, 0.93), rtol=1e-4, atol=1e-7)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    answers = how(torch.from_numpy(z), torch.from_numpy(y), 3)
    assert answers.tolist() == by_hand(unit, y, 3, 4, 0.93).argmax(1).tolist()
    assert len(set(answers.tolist())) == 3


def test_directions_are_principal_components_over_the_fourth_root_of_their_variance():
    x = torch.randn(60, 5, generator=rng(2), dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.5, 2.0, 0.2]) + 0.7
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    variance, axes = np.linalg.eigh(np.cov(unit.T))
    z = (unit - unit.mean(0)) @ axes[:, ::-1][:, :3] / variance[::-1][:3] ** 0.25
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = directions(x, 3)
    np.testing.assert_allclose(found @ found.T, z @ z.T, rtol=1e-9, atol=1e-9)  # signs of components are free
    np.testing.assert_allclose(directions(x, 0), unit, rtol=1e-12)


def test_an_example_that_no_label_reaches_has_none():
    x = torch.cat([torch.eye(2)[[0] * 5], torch.eye(2)[[1] * 5]]) + 0.01 * torch.rand(10, 2, generator=rng(3))
    y = torch.full((10,), -1)
    y[2] = 1
    assert LabelSpreading(3, components=0)(x, y, 2).tolist() == [1] * 5 + [-1] * 5


def test_a_model_learns_from_the_labels_that_spread_among_its_features_of_all_images(tmp_path):
    train, test = digits()
    few, how = subset(train, 30, 0), LabelSpreading(neighbours=6, components=20)
    body, readout = nn.Sequential(nn.Flatten()), RidgeRegression((0.1,))
    plain, taught = (FeatureClassifier(body, readout=readout).fit(train, rng=rng()) for _ in range(2))
    model = SpreadTaught(taught, how).fit(train, rng=rng())
    assert torch.equal(model.predict(test.x), plain.predict(test.x))
    model.refit_readout(few, rng=rng())
    x = torch.cat([few.x, train.x])
    y = how(x.flatten(1).float() / 255, torch.cat([few.y, torch.full((len(train),), -1)]), 10)
    plain.refit_readout(Split(x, y, 10).labelled(), rng=rng())
    torch.testing.assert_close(model.decision_function(test.x), plain.decision_function(test.x), rtol=1e-3, atol=1e-4)
    alone = FeatureClassifier(body, readout=readout).fit(few, rng=rng())
    right = [float((one.predict(test.x) == test.y).double().mean()) for one in (model, alone)]
    assert right[0] > right[1] + 0.05
    saved = load(model.save(tmp_path / "taught.safetensors"))
    assert torch.equal(saved.decision_function(test.x), model.decision_function(test.x))


def test_in_a_second_round_labels_spread_among_the_features_of_the_first(monkeypatch):
    train = digits()[0][:120]
    seen, whole = [], LabelSpreading.__call__
    monkeypatch.setattr(LabelSpreading, "__call__", lambda self, x, *args: seen.append(x) or whole(self, x, *args))
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
    learner = BackpropClassifier(body, training=SupervisedTraining(epochs=1, batch=20))
    SpreadTaught(learner, LabelSpreading(5), 2).fit(train, rng=rng()).refit_readout(train[:30], rng=rng())
    first, second = seen
    assert first.shape == second.shape == (150, 8)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"neighbours": 0}, "neighbours >= 1"), ({"alpha": 1.0}, "alpha < 1"), ({"components": -1}, "components >= 0")],
)
def test_settings_of_spreading_out_of_range_are_refused(wrong, said):
    with pytest.raises(Refusal, match=said):
        LabelSpreading(**wrong)


def test_too_few_examples_and_too_few_rounds_are_refused():
    with pytest.raises(Refusal, match="spreading to 5 neighbours needs more examples than that, got 5"):
        LabelSpreading(5)(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64), 2)
    with pytest.raises(Refusal, match="rounds >= 1, got 0"):
        SpreadTaught(FeatureClassifier(nn.Sequential(nn.Flatten())), LabelSpreading(), 0)


def test_in_the_recipe_labels_spread_for_every_method_if_the_settings_say_so():
    train, _ = digits()
    for name, spreading in mnist_conv_krotov.METHODS.items():
        assert spreading.__doc__ == mnist_conv_krotov.PLAIN[name].__doc__
        how = {"kernels": 8, "kernel": 3, "n_rounds": 3}
        plain, taught = (spreading(mnist_conv_krotov.Config(**how, neighbours=k), train, rng()).learner for k in (0, 4))
        assert type(plain) is type(taught.learner), name
        assert (taught.spreading, taught.rounds) == (LabelSpreading(4), 3)
