"""The audit of locality: its numbers are those computed by hand, every kind of leak is caught, nothing else is."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuropil as npl
from neuropil.cli import main
from neuropil.errors import Refusal
from neuropil.evaluate.metrics.locality import _null
from neuropil.experiments import audited
from neuropil.experiments.audited_learners import spiking_step
from neuropil.models import LateralReadout
from neuropil.plasticity import PairSTDP

BATCH = 14


def network():
    torch.manual_seed(3)
    first, middle, last = nn.Linear(7, 31), nn.Linear(31, 5), nn.Linear(5, 3)
    return nn.Sequential(first, nn.Tanh(), middle, nn.Tanh(), last)


@pytest.fixture(scope="module")
def batch():
    rng = torch.Generator().manual_seed(5)
    return torch.randn(BATCH, 7, generator=rng), torch.randint(3, (BATCH,), generator=rng)


def found(rule, batch, model=None):
    return npl.audit(rule, model or network(), *batch, layers=("2",))["2"]


@pytest.mark.parametrize("rule", [npl.Hebb(), npl.Oja(), npl.Association(classes=3, slope=1.7)])
def test_rules_of_two_neurons_read_nothing_else(rule, batch):
    seen = found(rule, batch)
    assert seen.reads == "synapse"
    assert {name for name, number in seen._asdict().items() if number} <= {"labels"}
    assert None not in seen
    assert bool(seen.labels) == isinstance(rule, npl.Association)


@pytest.mark.parametrize("rule", [npl.HardWTA(), npl.SoftHebb(tau=0.7), npl.KrotovHopfield(p=2, k=3, delta=0.3)])
def test_competition_reads_the_activity_of_neighbours_alone(rule, batch):
    seen = found(rule, batch)
    assert seen.reads == "layer"
    assert {name for name, number in seen._asdict().items() if number} == {"neighbours"}


def test_explaining_away_reads_the_weights_of_neighbours_too_and_normalising_reads_other_samples(batch):
    assert found(npl.ExplainAway(k=3), batch).neighbours_weights > 0.01
    assert found(npl.Sanger(), batch).neighbours_weights > 0.01
    assert found(npl.KrotovHopfield(p=2, k=2, average=True), batch).samples > 0.01
    assert found(npl.KrotovHopfield(p=3, k=2), batch).neighbours_weights is None  # they bend the drives


class Leak(npl.Rule):
    """Hebb, times something that a synapse does not see."""

    def __init__(self, factor):
        self.factor = factor

    def post(self, u):
        """Every gain times the factor."""
        return npl.Dense(u * self.factor(u))


LEAKS = {
    "above": lambda model, x, y, u: model[4].weight.norm(),
    "below": lambda model, x, y, u: model[0].weight.norm(),
    "labels": lambda model, x, y, u: 1 + y[:, None].double(),
    "samples": lambda model, x, y, u: u.square().mean(),
    "other_inputs": lambda model, x, y, u: model.seen.square().sum(1, keepdim=True),
    "neighbours_weights": lambda model, x, y, u: model[2].weight.norm(),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_rule_that_peeks_is_caught_where_it_peeks(name, batch):
    def step(model, x, y):
        model[2].register_forward_pre_hook(lambda _, given: setattr(model, "seen", given[0].detach()))
        with torch.no_grad(), npl.tap(model, ["2"]) as seen:
            model(x)
        rule = Leak(lambda u: LEAKS[name](model, x, y, u))
        npl.propose_(model[2], rule(model[2], *seen["2"]))

    seen = found(step, batch)._asdict()
    more = {"samples": {"neighbours"}, "neighbours_weights": {"neighbours"}}.get(name, set())
    leaks = {key for key, number in seen.items() if number}
    assert name in leaks
    assert leaks - more == {name}


def test_the_number_for_labels_is_that_computed_by_hand(batch):
    model, (x, y) = network().double(), batch
    pre = model[:2](x.double())
    answer = torch.sigmoid(1.7 * model[2](pre))
    owner = torch.arange(5) % 3
    old, new = (((owner == label[:, None]).double() - answer).T @ pre for label in (y, (y + 1) % 3))
    want = ((new - old).norm() / old.norm()).item()
    assert found(npl.Association(classes=3, slope=1.7), batch).labels == pytest.approx(want, rel=1e-9)


def test_the_number_for_samples_is_that_computed_by_hand(batch):
    model, x = network().double(), batch[0].double()
    pre = model[:2](x)

    def change(pre):
        u = model[2](pre)
        return (u * (u - u.square().mean(0))).T @ pre / len(pre)

    whole, halves = change(pre), (change(pre[:7]) + change(pre[7:])) / 2
    want = ((halves - whole).norm() / whole.norm()).item()
    assert found(npl.BCM(), batch).samples == pytest.approx(want, rel=1e-9)


def test_backprop_reads_the_layers_above_but_for_the_last_layer(batch):
    def step(model, x, y):
        F.cross_entropy(model(x), y).backward()

    seen = npl.audit(step, network(), *batch)
    assert [one.reads for one in seen.values()] == ["network", "network", "layer"]
    assert seen["2"].above > 0.1
    assert seen["2"].below == 0
    assert seen["4"].labels > 0.1
    assert "reads other layers" in repr(seen)


def test_convolutions_attached_rules_and_a_layer_by_itself(batch):
    model = nn.Sequential(nn.Conv1d(1, 3, 4, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5))
    x = batch[0][:, None]
    assert npl.audit(npl.Oja(), model, x)["0"].reads == "open"  # no input of a convolution can move by itself
    assert npl.audit(npl.HardWTA(), model, x)["0"].neighbours > 0
    upwards = nn.Sequential(nn.ConvTranspose1d(1, 3, 4, bias=False))
    assert npl.audit(npl.HardWTA(), upwards, x)["0"].reads == "layer"
    assert npl.audit(npl.Oja(), upwards, x)["0"].neighbours == 0
    learner = npl.attach(model, {"3": npl.ExplainAway(k=2)}, x)
    before = [param.clone() for param in model.parameters()]
    seen = npl.audit(learner, model, x)
    assert list(seen) == ["3"]
    assert seen["3"].reads == "layer"
    assert seen["3"].other_inputs > 0.01  # it takes the mean of the inputs away
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters()))
    assert npl.audit(npl.Hebb(), nn.Linear(7, 3), batch[0])[""].above is None


def test_a_lateral_synapse_sees_the_inputs_of_its_two_neurons():
    x, other, found = *torch.rand(2, 9, 6, dtype=torch.float64), []
    other[:, 2], other[:, 4] = x[:, 2], x[:, 4]
    for seen in x, other:
        head = LateralReadout(6, 3)
        head.learn_(seen, torch.arange(9) % 3)
        sums = head.state_dict()
        found.append((sums["gram"][2, 4], sums["total"][2], sums["total"][4]))
    torch.testing.assert_close(*found, rtol=1e-14, atol=0)


def test_what_cannot_be_audited_is_refused(batch):
    x, y = batch
    with pytest.raises(Refusal, match="an even number of images, got 13"):
        npl.audit(npl.Hebb(), network(), x[:13])
    with pytest.raises(Refusal, match="leaves no change in layer '2'"):
        found(lambda model, x, y: (model(x) * 0).sum().backward(), batch)
    with pytest.raises(Refusal, match="another change each time"):
        found(lambda model, x, y: (model(x) * torch.rand(3)).sum().backward(), batch)
    with pytest.raises(Refusal, match="the network called it 2 times"):
        found(lambda model, x, y: (model(x) + model(x)).sum().backward(), batch)
    with pytest.raises(Refusal, match="leaves nothing in the gradient of layer '2'; use propose_"):
        found(lambda model, x, y: model(x), batch)
    with pytest.raises(Refusal, match="give audit the labels"):
        npl.audit(npl.Association(classes=3), network(), x)
    with pytest.raises(Refusal, match="got list"):
        npl.audit([npl.Hebb()], network(), x)
    with pytest.raises(Refusal, match="a label for each image"):
        npl.audit(npl.Hebb(), network(), x, y[:3])


def test_the_command_has_a_row_for_each_name_and_for_ones_own(tmp_path, capsys, monkeypatch):
    seeds = set()
    monkeypatch.setattr(audited, "audit", lambda *given, seed=0, **how: seeds.add(seed) or npl.audit(*given, **how))
    mine, rows = tmp_path / "mine.py", tmp_path / "rows.json"
    mine.write_text("import neuropil as npl\nrule = npl.Oja()\n")
    reads = {"differential_hebb": "synapse", "backprop": "network", "attached": "layer", "reward_stdp": "synapse"}
    reads |= {"triplet_stdp": "synapse", "voltage_stdp": "synapse", "delta_readout": "layer", "least_squares": "layer"}
    want = {"oja": "synapse", **reads, "lateral_readout": "synapse", "mine": "synapse"}
    names = [*[*want][:-1], str(mine)]
    assert main(["audit", *names, "--images", "20", "--seed", "3", "--json", str(rows)]) == 0
    assert seeds == {3}
    found = {row["name"]: row for row in json.loads(rows.read_text())}
    assert {name: row["reads"] for name, row in found.items()} == want
    assert {name for name, row in found.items() if row["labels"]} == {
        "backprop", "reward_stdp", "delta_readout", "least_squares", "lateral_readout"
    }  # fmt: skip
    assert "other layers" in capsys.readouterr().out
    assert main(["audit", "ojo"]) == 2
    assert "Did you mean 'oja'?" in capsys.readouterr().err
    mine.write_text("x = 1\n")
    assert main(["audit", str(mine)]) == 2
    assert "needs `rule = ...`" in capsys.readouterr().err


def test_a_step_of_spikes_is_the_sum_over_the_train():
    """Of 12 steps a neuron of rate r spikes in the k-th if k r rises above a whole number: counted pair by pair."""
    rule = PairSTDP(tau_plus=7e-3, tau_minus=13e-3, a_plus=0.7, a_minus=0.9)
    model = nn.Sequential(*[nn.Identity()] * 3, nn.Linear(2, 1, bias=False)).double()
    x = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    spiking_step(rule)(model, x, torch.zeros(1, dtype=torch.int64))
    train = lambda rate: [k for k in range(12) if math.floor((k + 1) * rate) > math.floor(k * rate)]
    after = train(model(x).sigmoid().item())
    assert len(after) > 3
    for synapse, rate in enumerate(x[0].tolist()):
        lags = [post - pre for post in after for pre in train(rate)]
        up = sum(0.7 * math.exp(-lag / 7) for lag in lags if lag > 0)
        down = sum(0.9 * math.exp(lag / 13) for lag in lags if lag < 0)
        assert -model[3].weight.grad[0, synapse].item() == pytest.approx(up - down, rel=1e-9)


def test_what_rows_do_not_see_is_all_that_is_orthogonal_to_them():
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for matrix, left in ((rows, 3), (torch.cat([rows, rows.sum(0, keepdim=True)]), 3), (0 * rows, 5), (rows[:0], 5)):
        free = _null(matrix)
        assert free.shape == (5, left)
        torch.testing.assert_close(free.T @ free, torch.eye(left, dtype=torch.float64))
        torch.testing.assert_close(matrix @ free, torch.zeros(len(matrix), left, dtype=torch.float64))
