"""Probes against scikit-learn and what can be known, diagnoses in words, and the benchmark of plain networks."""

import math
from copy import deepcopy

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn

import neuropil as npl
from neuropil.bench import own
from neuropil.errors import Refusal
from neuropil.evaluate import linear_probe
from neuropil.evaluate.metrics import probe
from neuropil.experiments.diagnose import copies, learn_, pooled
from neuropil.plasticity import ExplainAway, HardWTA, KrotovHopfield, attach

TRAIN, TEST = npl.load_data("digits")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3), nn.Flatten())


def test_a_probe_is_the_logistic_regression_of_scikit_learn():
    train, test = TRAIN[:500], TEST
    x, z = (split.pixels().flatten(1).double().numpy() for split in (train, test))
    scale = x.std(0).clip(1e-2 * x.std(0).mean())
    mean = x.mean(0)
    other = LogisticRegression(C=1 / (2 * 0.01 * len(train)), max_iter=1000).fit((x - mean) / scale, train.y.numpy())
    want = (other.predict((z - mean) / scale) == test.y.numpy()).mean()
    assert abs(linear_probe(train, test, weight_decay=0.01) - want) <= 1.01 / len(test)


def test_a_probe_takes_the_decay_with_the_lowest_loss_on_a_held_out_quarter():
    rng = torch.Generator().manual_seed(3)
    for noise, expected in ((8.0, 0.1), (0.05, 0.01)):  # noise needs more decay
        x = torch.randn(400, 30, generator=rng)
        y = (x[:, :3] + noise * torch.randn(400, 3, generator=rng)).argmax(1)
        train, test = npl.Split(x[:200], y[:200], 3), npl.Split(x[200:], y[200:], 3)
        held, rest = torch.randperm(200, generator=torch.Generator().manual_seed(0)).tensor_split([50])
        z = ((x[:200] - x[:200].mean(0)) / x[:200].std(0, correction=0)).double().numpy()
        losses = {}
        for decay in (0.1, 0.01, 0.001, 0.0001):
            fit = LogisticRegression(C=1 / (2 * decay * len(rest)), max_iter=1000).fit(z[rest], y[rest].numpy())
            losses[decay] = log_loss(y[held].numpy(), fit.predict_proba(z[held]))
        assert min(losses, key=losses.get) == expected
        assert linear_probe(train, test) == linear_probe(train, test, weight_decay=expected)


def test_a_probe_chooses_on_a_quarter_what_three_quarters_teach(monkeypatch):
    sizes, fit = [], probe._fit
    monkeypatch.setattr(probe, "_fit", lambda x, *given: sizes.append(len(x)) or fit(x, *given))
    linear_probe(TRAIN[:80], TEST[:80])
    assert sizes == [60] * 4 + [80]


def test_a_probe_of_noise_is_at_the_level_of_guessing_and_infinite_features_are_refused():
    rng = torch.Generator().manual_seed(0)
    splits = [npl.Split(torch.randn(1000, 5, generator=rng), torch.randint(4, (1000,), generator=rng), 4) for _ in "ab"]
    assert 0.2 < linear_probe(*splits) < 0.3
    splits[0].x[3, 2] = torch.inf
    with pytest.raises(Refusal, match="finite features"):
        linear_probe(*splits)


def test_a_diagnosis_changes_nothing_and_says_what_it_found():
    model = network()
    learner = attach(model, {"0": HardWTA(), "3": ExplainAway()}, TRAIN.pixels())
    learn_(learner, TRAIN.pixels(), torch.optim.Adam(model.parameters(), lr=1e-3), epochs=1)
    learner.propose_(TRAIN.pixels()[:50])
    before, state = deepcopy(model.state_dict()), deepcopy(learner.state_dict())
    found = npl.diagnose(model, learner, TRAIN.pixels(), TRAIN.y)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state["rng"], learner.state_dict()["rng"])
    assert model.training
    assert list(found) == ["0", "3"]
    assert all(min(layer.untrained, layer.control, layer.learned) > 0.6 for layer in found.values())
    lines = str(found).splitlines()
    assert lines[0].startswith("0: Conv2d, 8 units. Linear probe: ")
    assert "as it is; learning" in lines[1]
    assert "effective rank" in lines[1]


def test_what_has_not_learned_is_told_to_have_learned_nothing():
    """The control is the learner's own start, and not that of another one on other images."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 90), torch.nn.Dropout(0.3))
    learner, seen = attach(model, {"1": ExplainAway()}, TRAIN.pixels()[:200]), torch.random.get_rng_state()
    (found,) = npl.diagnose(model, learner, TRAIN.pixels(), TRAIN.y).values()
    assert found.learned == found.control
    assert "learning makes no difference" in str(found)
    assert torch.equal(torch.random.get_rng_state(), seen)


def test_a_diagnosis_of_rules_learns_on_a_copy_and_knows_the_untrained_layer():
    model = network()
    before = deepcopy(model.state_dict())
    found = npl.diagnose(model, {"0": KrotovHopfield(p=2, k=2)}, TRAIN.pixels(), TRAIN.y, epochs=1)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    order = torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(0)).chunk(2)
    with torch.no_grad():
        halves = [npl.Split(pooled(model[0], model[0](TRAIN.pixels()[i])), TRAIN.y[i], 10) for i in order]
    assert found["0"].untrained == linear_probe(*halves)
    error = math.sqrt(found["0"].untrained * (1 - found["0"].untrained) / len(halves[1]))
    assert found["0"].noise == pytest.approx(2 * math.sqrt(2) * error)
    rare = TRAIN.y.clone().clamp(max=8)
    rare[order[0][0]] = 9  # a class that one half alone has
    idle = npl.diagnose(model, {"0": KrotovHopfield(p=2, k=2)}, TRAIN.pixels(), rare, epochs=0)["0"]
    assert idle.control == idle.learned != idle.untrained  # what starts and does not learn
    with pytest.raises(Refusal, match="20 images or more and a label for each, got 7 and labels"):
        npl.diagnose(model, {"0": HardWTA()}, TRAIN.pixels()[:7], TRAIN.y)
    with pytest.raises(Refusal, match="labels of 0 or more, got -1"):
        npl.diagnose(model, {"0": HardWTA()}, TRAIN.pixels(), TRAIN.y - 1)
    with pytest.raises(Refusal, match="the network that the learner is attached to, got another one"):
        npl.diagnose(network(), npl.attach(model, {"0": HardWTA()}, TRAIN.pixels()), TRAIN.pixels(), TRAIN.y)


def test_dead_units_and_copies_are_counted():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30))
    learner = attach(model, {"1": HardWTA()}, TRAIN.pixels())
    with torch.no_grad():
        model[1].weight[3] = 2 * model[1].weight[2]
        model[1].weight[7] = -sum(TRAIN.pixels().flatten(1))
    found = npl.diagnose(model, learner, TRAIN.pixels(), TRAIN.y)["1"]
    assert copies(model[1].weight) >= 1
    assert found.copies == copies(model[1].weight)
    wins = learner.wins(TRAIN.pixels())["1"]
    assert wins.sum() == len(TRAIN)
    assert {3, 7} <= set((wins == 0).nonzero().flatten().tolist())
    assert found.units.dead >= 2 / 30


@pytest.mark.parametrize("shape", [(5, 12), (5, 9, 12), (5, 4, 7), (5, 4, 7, 6), (5, 4, 3, 7, 6)], ids=str)
def test_a_probe_sees_few_features_of_every_geometry(shape):
    layer = nn.Linear(3, 12) if len(shape) < 4 and shape[-1] == 12 else nn.Conv2d(1, 4, 1)
    seen = pooled(layer, torch.randn(shape))
    assert seen.shape == (5, 12 if isinstance(layer, nn.Linear) else 4 * torch.tensor(shape[2:]).clamp(max=4).prod())
    assert (seen >= 0).all()


@pytest.mark.filterwarnings("ignore:.* start at inputs")
def test_the_benchmark_has_a_row_for_every_case_and_says_who_is_refused():
    config = own.Config(
        data=("digits",), networks=("dense", "transformer", "series", "residual"),
        rules=("ExplainAway", "k-means", "Oja"), optimizers=("Adam",), seeds=2, n_train=200, n_probe=100,
        epochs=1, scale=10, shift=3, standardise=True, resolution=4,
    )  # fmt: skip
    rows = own.main(config)
    assert [(row["network"], row["rule"]) for row in rows] == [(n, r) for n in config.networks for r in config.rules]
    shown = [own.cells(row) for row in rows]
    assert {row["optimizer"] for row in rows[1::3]} == {"none"}
    assert all(cell["diverged"] == "0" for cell in shown[::3] + shown[1::3])
    assert {cell["learned"] for cell in shown[2::3]} == {"refused"}
    assert "±" in shown[0]["control"]
    row = {**rows[0], "untrained": [0.5, 0.6], "control": [0.55, 0.66], "learned": [0.57, 0.70]}
    assert own.cells(row)["by learning"] == "+3.00 ± 12.71"  # of 2 and 4 points: t(1) = 12.706, s / sqrt(2) = 1
    own.CAPTION.format(**rows[-1])
    with pytest.raises(Refusal, match=r"unknown network 'desne'\. Did you mean 'dense'"):
        own.Config(networks=("desne",))


def test_k_means_is_that_of_a_loop_over_samples():
    rng = torch.Generator().manual_seed(3)
    x, start = (torch.randn(n, 5, generator=rng, dtype=torch.float64) for n in (43, 7))
    x[:, 0] += 1.7
    start[2] = -20 * start[:, :].abs().sum(0) * torch.eye(5)[0]  # no x is near
    centres = [row / row.norm() for row in start]
    for _ in range(3):
        members = [[] for _ in centres]
        for sample in x:
            members[max(range(7), key=lambda j: float(centres[j] @ sample))].append(sample)
        sums = [sum(mine) if mine else centre for mine, centre in zip(members, centres)]
        centres = [total / total.norm() for total in sums]
    assert not members[2]
    torch.testing.assert_close(own.centres_of(x, start, 3), torch.stack(centres), rtol=1e-13, atol=1e-13)


def test_k_means_of_every_layer_comes_nearer_to_what_the_layer_sees():
    images = TRAIN[:400].pixels()
    learner = attach(network(), {"0": HardWTA(), "3": HardWTA()}, images)
    before = deepcopy(learner.model)
    own.k_means_(learner, images)
    for name, steps in ("0", 0), ("3", 3):
        layer, old = learner.model.get_submodule(name), before.get_submodule(name)
        seen = nn.functional.unfold(learner.model[:steps](images), 3).transpose(1, 2).flatten(0, 1).detach()
        x = nn.functional.normalize((z := seen - seen.mean(0)) - z.mean(1, keepdim=True), dim=1)
        found, start = (one.weight.detach().flatten(1) for one in (layer, old))
        torch.testing.assert_close(found.norm(dim=1), start.norm(dim=1))
        assert (x @ found.T).amax(1).mean() > (x @ start.T).amax(1).mean() + 0.01 * start[0].norm()
        torch.testing.assert_close(layer.bias.detach(), -(seen @ found.T).mean(0), rtol=0, atol=1e-3)


def test_a_probe_sees_a_network_in_training_as_it_is_in_use():
    x = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(6, 8)).eval()
    learner = attach(model, {"1": ExplainAway()}, x)
    used, training = (
        npl.diagnose(model.train(mode), learner, x, (x[:, 0] > 0.5).long())["1"] for mode in (False, True)
    )
    assert (training.learned, training.untrained) == (used.learned, used.untrained)
    assert used.learned > 0.7
    assert model.training


def test_the_benchmark_standardises_all_images_alike():
    case = object.__new__(own.Case)
    case.config = own.Config(standardise=True, scale=3, shift=0.25, resolution=1)
    part, pixels = TRAIN[7:12], TRAIN[:2000].pixels().double()
    want = 3 * (part.pixels().double() - pixels.mean()) / pixels.std() + 0.25
    torch.testing.assert_close(case._pixels(part, TRAIN).double(), want, rtol=1e-5, atol=1e-6)
