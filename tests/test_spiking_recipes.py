"""Recipes of exact spike gradients, cut short: they log, save and draw, and what they show is so."""

import math
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch

from common import rng
from neuropil.data import load
from neuropil.errors import Refusal
from neuropil.models import SpikingClassifier
from neuropil.models.training.adabelief import descend_
from neuropil.plasticity import PairSTDP, TripletSTDP
from neuropil.recipes import balanced, concept, pair_triplet, recurrent, reward_stdp, single_neuron, yin_yang
from neuropil.runs import Run, read
from neuropil.spiking import RecurrentLIF
from stdp_oracles import closed_form


@pytest.fixture
def record(tmp_path):
    """Run a recipe with a config; the finished run."""

    def go(recipe, config):
        run = Run.start(tmp_path / "run", recipe=recipe.__name__, config=config, command="test")
        recipe.main(config, run)
        run.finish()
        name = recipe.__name__.rpartition(".")[2]
        pictures = [run.folder / "pictures" / f"{name}{suffix}" for suffix in (".png", ".txt")]
        assert all(picture.stat().st_size > 20 for picture in pictures)
        return read(run.folder)

    return go


def rows_of(record, kind):
    return [row for row in record.rows if row["kind"] == kind]


def test_concept_shows_that_only_lif_spikes_jump(record):
    for row in rows_of(record(concept, concept.Config(points=60)), "concept"):
        if row["curve"].startswith("QIF"):
            assert row["jump_finer"] < 0.5 * row["jump"]
        else:
            assert row["jump_finer"] > 0.9 * row["jump"] > 1
        assert row["gradient_error"] < 1e-5


def test_the_error_of_a_curve_is_its_largest_where_there_is_a_slope(record, monkeypatch):
    slope, difference = torch.tensor([1.0, -3.0, 1.0, math.nan]), torch.tensor([1.0, -2.0, 1.25, 1.0])
    monkeypatch.setattr(concept, "follow", lambda curve, at: (at, slope.double(), difference.double()))
    found = rows_of(record(concept, concept.Config(points=4)), "concept")
    assert [row["gradient_error"] for row in found] == pytest.approx([0.25] * 4)


def test_a_single_neuron_comes_near_its_targets_from_either_side(record):
    done = record(single_neuron, single_neuron.Config(n_updates=300))
    rows = rows_of(done, "single_neuron")
    assert [row["start"] for row in rows] == list(single_neuron.STARTS)
    for row in rows:
        assert row["spikes"] == 2
        assert row["times"][:2] == pytest.approx([2.5, 7.5], abs=0.3)
    paths = done.tensors()
    assert paths["from silence: path"][0].min() > 10  # silent at first
    assert paths["from too many: path"][0].max() < 10


def test_the_recurrent_network_learns(record):
    done = record(recurrent, recurrent.Config(n_updates=150))
    (end,) = rows_of(done, "recurrent")
    epochs = rows_of(done, "epoch")
    losses = [row["loss"] for row in epochs]
    assert [row["best"] for row in epochs] == [*accumulate(losses, min)]
    assert end["loss"] == pytest.approx(min(losses))
    assert min(losses) < 0.1 * losses[0]
    kept = done.tensors()
    net = recurrent.network(recurrent.Config())
    net.load_state_dict({name.removeprefix("network."): kept[name] for name in kept})
    assert end["targets"] == 9


def test_targets_lie_in_the_trial_and_the_last_beyond():
    goals, last = recurrent.target_times((7, 2), 10.0, 1.0, torch.Generator().manual_seed(0))
    assert goals.shape == (2, 8)
    assert goals[last].tolist() == [11.0, 11.0]
    assert goals[1, 3:].isnan().all()
    inside = goals[~last & ~goals.isnan()]
    assert len(inside) == 9
    assert ((inside > 0) & (inside < 10)).all()
    assert goals[0, :8].diff().min() > 1  # the dead time
    with pytest.raises(Refusal, match="do not fit"):
        recurrent.target_times((7, 2), 10.0, 2.0, torch.Generator())


def test_every_neuron_has_two_inputs_of_its_own_and_no_synapse_onto_itself():
    net = recurrent.network(recurrent.Config(neurons=3))
    assert net.weight.tolist() == [[5, 0, 0], [0, 5, 0], [0, 0, 5], [-5, 0, 0], [0, -5, 0], [0, 0, -5]]
    assert net.mask.tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    assert not net.weight.requires_grad
    assert net.recurrent.requires_grad
    assert not recurrent.network(recurrent.Config(frozen=True)).recurrent.requires_grad


def test_lif_neurons_take_the_place_of_qif_neurons_and_a_silent_one_stays_silent(record):
    done = record(single_neuron, single_neuron.Config(n_updates=40, neuron="lif"))
    silent, lively = rows_of(done, "single_neuron")
    assert (silent["spikes"], silent["times"]) == (0, [10.0, 10.0, 10.0])
    assert lively["spikes"] > 1
    times = torch.tensor([1.3, 2.1], dtype=torch.float64)
    late, spikes = single_neuron.first_spikes("lif", times, torch.tensor([[5.1], [0.0]]).double(), 10.0, 3)
    q = (5.1 + (5.1**2 - 4 * 5.1) ** 0.5) / (2 * 5.1)  # V = I q (1 - q) reaches 1, with q = exp(-t)
    assert late.tolist() == pytest.approx([1.3 - math.log(q), 10.0, 10.0], rel=1e-6)
    assert spikes == 1


def test_lif_neurons_are_recurrent_too(record):
    done = record(recurrent, recurrent.Config(n_updates=3, neuron="lif", input_weight=10.0))
    assert [row["learner"] for row in rows_of(done, "recurrent")] == ["exact spikes, LIF neurons"]
    assert isinstance(recurrent.network(recurrent.Config(neuron="lif")), RecurrentLIF)


def test_poisson_inputs_have_their_rate():
    times = recurrent.poisson(2000, 1.5, 10.0, torch.Generator().manual_seed(0))
    counts = times.isfinite().sum(-1).double()
    assert counts.mean().item() == pytest.approx(15, abs=4 * math.sqrt(15 / 2000))
    assert counts.var().item() == pytest.approx(15, rel=0.15)
    assert times[times.isfinite()].max() < 10


def test_yin_yang_tells_what_ordinary_spikes_achieve(record, monkeypatch):
    asked, predict = [], SpikingClassifier.predict_from_spikes
    monkeypatch.setattr(SpikingClassifier, "predict_from_spikes", lambda self, x: asked.append(x) or predict(self, x))
    done = record(yin_yang, yin_yang.Config(epochs=1, units=10, n_train=100))
    results = {row["learner"]: row for row in rows_of(done, "result")}
    assert list(results)[:2] == ["exact spikes", "exact spikes, ordinary only"]
    assert [torch.equal(x, load("yin_yang")[1].x) for x in asked] == [True]
    assert {"backprop", "random features", "linear"} < set(results)
    assert results["exact spikes, ordinary only"]["accuracy"] <= results["exact spikes"]["accuracy"] + 1e-6


def test_repeated_pairs_are_on_the_closed_form_and_the_pair_rule_is_fitted_by_least_squares(record):
    config = pair_triplet.Config(pairs=7, window_frequencies=(40.0,))
    lanes = [(20.0, 0.01), (20.0, -0.01), (0.1, 0.025)]
    for rule in (TripletSTDP.published("visual cortex", 5e-3), PairSTDP(a_plus=0.3, a_minus=0.7, dt=5e-3)):
        for (frequency, lag), got in zip(lanes, pair_triplet.change_by_pairs(rule, lanes, config).tolist()):
            first = [round(k / frequency / 5e-3) for k in range(7)]
            later = [t + round(abs(lag) / 5e-3) for t in first]
            order = (first, later) if lag > 0 else (later, first)
            assert got == pytest.approx(closed_form(rule, *order), rel=1e-12)
    done = record(pair_triplet, replace(config, pairs=4, widths=(0.01, 0.2)))
    fits = {row["rule"]: row for row in rows_of(done, "fit")}
    assert list(fits) == [pair_triplet.PAIR, pair_triplet.BEST, *pair_triplet.TRIPLETS]
    assert fits[pair_triplet.BEST]["error"] < fits[pair_triplet.PAIR]["error"]
    assert "tau_plus=0.2, tau_minus=0.01" in fits[pair_triplet.BEST]["constants"]
    for name in (pair_triplet.PAIR, pair_triplet.BEST):
        found = [row for row in rows_of(done, "frequency") if row["rule"] == name]
        parts = [(row["change"], row["measured"], row["standard_error"]) for row in found]
        away = [(change - mean) / error for change, mean, error in parts]  # orthogonal to what amplitudes add
        assert sum(one * change / error for one, (change, _, error) in zip(away, parts)) == pytest.approx(0, abs=1e-9)
        assert fits[name]["error"] == pytest.approx(sum(one**2 for one in away) / 10)
        assert fits[name]["worst"] == pytest.approx(max(map(abs, away)))
    assert [(row["frequency"], row["measured"]) for row in found][6:8] == [(40.0, 0.53), (40.0, 0.56)]


def test_inhibition_learns_where_there_are_synapses_and_calms_the_network(record):
    config = balanced.Config(excitatory=40, inhibitory=20, connected=0.4, learning=1, measured=1, dt=5e-3, lr=2.0)
    done = record(balanced, replace(config, inhibition=0.05))
    states = {row["state"]: row for row in rows_of(done, "balanced")}
    assert list(states) == ["before", "after", "without plasticity", "weights shuffled"]
    assert states["after"]["rate"] < 0.5 * states["before"]["rate"]
    assert states["without plasticity"]["rate"] > 0.8 * states["before"]["rate"]
    kept = done.tensors()
    weight, there = kept["after.plastic.weight"], kept["after.connected"] > 0
    assert weight[~there].eq(0).all()
    assert weight[there].unique().numel() > 40
    assert 0 <= weight.min() < weight.max() <= config.strongest
    assert [len(rows_of(done, kind)) for kind in ("spiketrains", "potentials", "weights")] == [4, 4, 1]
    (looks,), (epoch,) = rows_of(done, "weights"), rows_of(done, "epoch")
    assert looks["times"] == [0.0, config.block]
    assert looks["weights"][0] == pytest.approx([0.05] * len(looks["weights"][0]))  # as they were before learning
    assert epoch["weight"] == pytest.approx(sum(looks["weights"][1]) / len(looks["weights"][1]), rel=1e-5)


def test_what_the_rule_sees_at_connected_neurons_is_counted_from_their_spikes():
    config = balanced.Config(excitatory=7, inhibitory=5, connected=0.5, dt=2e-3, rate=8.0)
    net = balanced.Network(config, torch.Generator().manual_seed(0))
    raster = (torch.rand(60, 12, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    excited, inhibited = raster[:, None, :7], raster[:, None, 7:]
    memory, total = net.rule.init(net.plastic, inhibited[0], excited[0]), 0.0
    for pre, post in zip(inhibited, excited):
        change, memory = net.rule.step(net.plastic, pre, post, memory)
        total += (change * net.connected).sum().item()
    found = balanced.coincidences(raster, net)
    number = (net.connected * inhibited.sum((0, 1))).sum().item()
    assert (found["near"] - found["near_at_rest"]) * number == pytest.approx(total, rel=1e-5)
    assert found["near_at_rest"] == pytest.approx(0.32)
    assert found["near_if_independent"] == pytest.approx(2 * 20e-3 * 0.2 / 2e-3, rel=0.3)
    logged = []
    balanced.log_state("now", raster, torch.zeros(10, 2), net, config, SimpleNamespace(log=logged.append))
    for name, part in (("rate", raster[:, :7]), ("rate_inhibitory", raster[:, 7:])):
        assert logged[0].metrics[name] == pytest.approx(part.mean().item() / 2e-3)


def test_only_reward_teaches_arbitrary_actions(record, monkeypatch):
    whole, shown = reward_stdp.Task.spikes, []
    spikes = lambda task, which, index: shown.append(index) or whole(task, which, index)
    monkeypatch.setattr(reward_stdp.Task, "spikes", spikes)
    config = reward_stdp.Config(
        patterns=4, actions=2, inputs=30, active=10, trials=30, batch=12, duration=0.05, delay=0.01, lr=1.0, n_test=10
    )
    done = record(reward_stdp, config)
    accuracy = {row["learner"]: row["accuracy"] for row in rows_of(done, "result")}
    assert list(accuracy) == list(reward_stdp.LEARNERS)
    assert {(row["n_train"], row["majority_rate"]) for row in rows_of(done, "result")} == {(360, 0.5)}
    assert min(accuracy["reward"], accuracy["REINFORCE"]) > 0.8
    assert max(accuracy["shuffled reward"], accuracy["always rewarded"]) < 0.7
    assert done.tensors()["weight"].shape == (2, 30)
    learned, tested = ({int(one) for index in shown if len(index) == n for one in index} for n in (12, 4 * 10))
    assert len(learned) == 30 * 12
    assert len(tested) == 4 * 10
    assert not learned & tested


def test_settings_of_simulated_networks_are_where_their_names_say():
    config = reward_stdp.Config(
        seed=7, rate=31.0, duration=0.066, dt=3e-3, batch=5, tau=0.37, inhibition=7.5, first_weight=0.21, patterns=30,
        actions=3, inputs=40, active=11,
    )  # fmt: skip
    task, units = reward_stdp.Task(config), reward_stdp.Actions(config, rng())
    assert (task.encode.rate, task.encode.duration, task.encode.dt) == (31.0, 0.066, 3e-3)
    assert (task.seed, task.batch, task.x.shape, set(task.x.sum(1).tolist())) == (7, 5, (30, 40), {11})
    assert task.right.bincount().tolist() == [10, 10, 10]
    assert (units.neuron.dt, units.rule.dt, units.rule.tau, units.inhibition) == (3e-3, 3e-3, 0.37, 7.5)
    assert units.layer.weight.mean().item() == pytest.approx(0.21, rel=0.1)
    config = balanced.Config(
        excitatory=50, inhibitory=30, connected=0.3, excitation=0.11, inhibition=0.7, inhibition_fixed=2.5,
        drive=-46e-3, rate=6.5, dt=2e-3,
    )  # fmt: skip
    net = balanced.Network(config, rng())
    assert (net.neuron.rest, net.neuron.dt, net.rule.rate, net.rule.dt) == (-46e-3, 2e-3, 6.5, 2e-3)
    for weight, size, shape in (
        (net.excite, 0.11, (80, 50)), (net.plastic.weight, 0.7, (50, 30)), (net.calm, 2.5, (30, 30))
    ):  # fmt: skip
        assert weight.shape == shape
        assert weight.unique().tolist() == pytest.approx([0, size])
        assert weight.gt(0).float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.filterwarnings("ignore:.* has no refractory time")
def test_a_reward_finds_what_its_delay_has_left_of_the_traces():
    found = []
    for delay in (0.0, 0.15):
        config = reward_stdp.Config(inputs=5, active=2, actions=2, delay=delay, tau=0.3, dt=5e-3)
        spikes, made = ((torch.rand(20, 3, n, generator=rng()) < 0.5).float() for n in (5, 2))
        found.append(reward_stdp.Actions(config, rng()).change(spikes, made, torch.tensor([1.0, -2.0, 0.5])))
    torch.testing.assert_close(found[1], math.exp(-0.15 / 0.3) * found[0], rtol=1e-4, atol=1e-7)


def test_a_reward_counts_less_once_it_is_expected():
    expected, which = torch.tensor([0.5, 0.0]), torch.tensor([0, 0, 1])
    earned, config = torch.tensor([1.0, 0.0, 1.0]), reward_stdp.Config(critic_lr=0.5)
    assert reward_stdp.surprise("own mean", earned, which, expected, config).tolist() == [0.5, -0.5, 1.0]
    assert expected.tolist() == [0.5, 0.5]
    assert reward_stdp.surprise("reward", earned, which, expected, config).tolist() == [0.5, -0.5, 0.5]
    assert reward_stdp.surprise("always rewarded", 0 * earned, which, expected, config).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("recipe", [single_neuron, recurrent])
def test_the_rate_falls_by_half_a_cosine_over_all_updates(record, recipe, monkeypatch):
    seen = []

    def step(loss, optimizer, schedule, clip):
        seen.append(optimizer.param_groups[0]["lr"])
        return descend_(loss, optimizer, schedule, clip)

    monkeypatch.setattr(recipe, "descend_", step)
    record(recipe, recipe.Config(n_updates=7, lr=0.013))
    want = [0.013 * (1 + math.cos(math.pi * k / 7)) / 2 for k in range(7)]
    assert seen == pytest.approx(want * (len(seen) // 7))
