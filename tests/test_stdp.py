"""Every STDP rule against sums over pairs of spike times, in every geometry; spike by spike against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from neuropil.plasticity import (
    DifferentialHebb,
    InhibitorySTDP,
    LogisticBounds,
    PairSTDP,
    PostSTDP,
    PowerLaw,
    RewardModulated,
    SoftBounds,
    SynapticScaling,
    TripletSTDP,
    VoltageSTDP,
    constrain_,
)
from neuropil.plasticity.geometry import per_sample, rows
from neuropil.plasticity.kernels import events
from neuropil.plasticity.stdp.triplet import PUBLISHED
from oracles import FEW, GEOMETRIES, make
from stdp_oracles import change_by_sums, closed_form, per_step, presented, reward
from test_docs import blocks

PAIR = PairSTDP(tau_plus=17e-3, tau_minus=34e-3, a_plus=0.7, a_minus=0.9, dt=1.3e-3)
TRIPLET = TripletSTDP(0.3, 0.61, 0.47, 0.23, 17e-3, 34e-3, 0.093, 0.051, dt=1.3e-3)
RULES = {
    "pair": PAIR,
    "pair, soft bounds": replace(PAIR, dependence=SoftBounds(-0.9, 1.4, mu=0.7)),
    "pair, power law": replace(PAIR, dependence=PowerLaw(0.8, 0.4)),
    "triplet": TRIPLET,
    "post spikes": PostSTDP(tau=13e-3, offset=0.37, pairing="all", dependence=SoftBounds(high=2.0), dt=1.3e-3),
    "inhibitory": InhibitorySTDP(rate=7.1, tau=17e-3, dt=1.3e-3),
    "scaling": SynapticScaling(rate=7.1, beta=0.013, tau=0.31, dt=1.3e-3),
    "reward": RewardModulated(TRIPLET, tau=0.031),
    "reward, scaling": RewardModulated(SynapticScaling(dt=1.3e-3), tau=0.031),
    "one reward": RewardModulated(PAIR, tau=0.031, per_sample=False),
}
NEAREST = {"pair": replace(PAIR, pairing="nearest"), "triplet": replace(TRIPLET, pairing="nearest")}


def run(rule, layer, pre, post, **how):
    """The sum of the changes of all steps."""
    memory, total = rule.init(layer, pre[0], post[0]), torch.zeros_like(layer.weight)
    for t, (x, y) in enumerate(zip(pre, post)):
        if isinstance(rule, RewardModulated):
            how["reward"] = torch.from_numpy(reward(t, len(x)))[slice(None) if rule.per_sample else 0]
        change, memory = rule.step(layer, x, y, memory, **how)
        total += change
    return total.detach()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_the_sum_over_samples_positions_and_pairs_of_spikes(rule, name):
    if name == "dense of one's own" and rule in (RULES["scaling"], RULES["reward, scaling"], RULES["post spikes"]):
        pytest.skip("a constant at every synapse is the same for a layer that sees spikes twice as strong")
    layer, pre, post, *_ = presented(name)
    want = change_by_sums(rule, name)
    torch.testing.assert_close(run(rule, layer, pre, post, reduction="sum"), want, rtol=1e-11, atol=1e-11)
    assert want.abs().max() > 1e-4


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("rule", NEAREST.values(), ids=NEAREST)
def test_only_the_nearest_spike_counts(rule, name):
    layer, pre, post, *_ = presented(name)
    want = change_by_sums(rule, name)
    torch.testing.assert_close(run(rule, layer, pre, post, reduction="sum"), want, rtol=1e-11, atol=1e-11)
    assert not torch.allclose(want, change_by_sums(replace(rule, pairing="all"), name))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("rule", ["pair", "reward", "one reward"])
def test_a_change_is_the_mean_over_samples_and_positions(rule, name):
    layer, pre, post, *_ = presented(name)
    want = change_by_sums(RULES[rule], name) / len(per_sample(layer, post[0]))
    torch.testing.assert_close(run(RULES[rule], layer, pre, post), want, rtol=1e-11, atol=1e-11)


def test_each_sample_has_its_own_reward():
    layer, pre, post, *_ = presented("conv2d")
    rule, rewards = RewardModulated(PAIR, tau=0.031), torch.tensor([2.0, -3.0]).double()
    whole = run_rewarded(rule, layer, pre, post, rewards)
    apart = [run_rewarded(rule, layer, pre[:, k : k + 1], post[:, k : k + 1], rewards[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(whole, apart[0] + apart[1], rtol=1e-11, atol=1e-11)


def run_rewarded(rule, layer, pre, post, rewards):
    memory = rule.init(layer, pre[0], post[0])
    for x, y in zip(pre, post):
        change, memory = rule.step(layer, x, y, memory, reward=rewards, reduction="sum")
    return change


VOLTAGE = VoltageSTDP(0.17, 83.0, -70.1e-3, -45.7e-3, 14e-3, 11e-3, 7.3e-3, -69.3e-3, dt=1.3e-3)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("rule", [VOLTAGE, replace(VOLTAGE, a_plus=0.0)], ids=["both", "depression"])
def test_voltage_stdp_is_its_equation_for_potentials_that_are_constant_in_a_step(rule, name):
    layer, pre, post, unfolded, before, _ = presented(name)
    volts = -0.075 + 0.06 * torch.rand(post.shape, generator=torch.Generator().manual_seed(1)).double()
    seen = torch.stack([per_sample(layer, one) for one in volts])
    want = torch.zeros(layer.weight.numel()).double()
    for unit, (index, a) in enumerate(zip(unfolded.index, before)):
        want[index] = torch.from_numpy(per_step(rule, a, seen[:, :, unit, None].numpy(), None).sum((0, 1)))
    got = run(rule, layer, pre, volts, reduction="sum")
    torch.testing.assert_close(got.flatten(), want, rtol=1e-11, atol=1e-13)
    assert want.abs().max() > 1e-5


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_rule_of_the_page_is_its_own_sum(name):
    (code,) = [block for block in blocks("docs/stdp.md") if "(TraceRule)" in block]
    here = {"__name__": "block"}
    exec(code, here)
    layer, pre, post, *_ = presented(name)
    rule, both = here["Symmetric"](tau=17e-3, cost=0.0, dt=1.3e-3), InhibitorySTDP(rate=0.0, tau=17e-3, dt=1.3e-3)
    got = run(rule, layer, pre, post, reduction="sum")
    torch.testing.assert_close(got, change_by_sums(both, name), rtol=1e-11, atol=1e-11)
    lost = got - run(replace(rule, cost=0.7), layer, pre, post, reduction="sum")
    spikes = torch.stack([per_sample(layer, one).sum(0) for one in post]).sum(0)
    torch.testing.assert_close(rows(layer, lost), (0.7 * spikes)[:, None].expand_as(rows(layer, lost)))
    waiting = run(RewardModulated(rule, tau=0.1), layer, pre, post)
    torch.testing.assert_close(waiting, run(RewardModulated(both, tau=0.1), layer, pre, post), rtol=1e-11, atol=1e-11)


# spikes of one synapse, in steps: a pair, both triplets, a quadruplet
PROTOCOLS = {
    "pre post": ([3], [10]),
    "post pre": ([10], [3]),
    "pre post pre": ([3, 17], [10]),
    "post pre post": ([10], [3, 17]),
    "post pre pre post": ([10, 15], [3, 24]),
    "at once": ([5], [5]),
}


def of_one_synapse(rule, pre, post, steps):
    layer = nn.Linear(1, 1, bias=False).double()
    spikes = torch.zeros(2, steps, 1, 1).double()
    spikes[0, pre], spikes[1, post] = 1, 1
    return run(rule, layer, *spikes).item()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("rule", [PAIR, TRIPLET], ids=["pair", "triplet"])
def test_few_spikes_of_one_synapse_are_on_the_closed_form(rule, protocol):
    assert of_one_synapse(rule, *protocol, 25) == pytest.approx(closed_form(rule, *protocol), rel=1e-12, abs=1e-15)


# change by 60 pairs of spikes 10 ms apart at a frequency (Hz), pre first and post first, each with its standard error:
# Sjöström et al. 2001, Neuron 32, as in figure 5 of Pfister & Gerstner 2006
VISUAL_CORTEX = {
    0.1: ((-0.04, 0.05), (-0.29, 0.08)),
    10: ((0.14, 0.1), (-0.41, 0.11)),
    20: ((0.29, 0.14), (-0.34, 0.1)),
    40: ((0.53, 0.11), (0.56, 0.32)),
    50: ((0.56, 0.26), (0.75, 0.19)),
}


@pytest.mark.parametrize("name", ["visual cortex", "visual cortex, minimal"])
def test_published_triplets_are_within_two_standard_errors_of_visual_cortex(name):
    rule = TripletSTDP.published(name, dt=5e-3)
    for frequency, measured in VISUAL_CORTEX.items():
        first = [round(200 * k / frequency) for k in range(60)]
        later = [t + 2 for t in first]
        for order, (mean, error) in zip(((first, later), (later, first)), measured):
            assert abs(closed_form(rule, *order) - mean) < 2 * error, frequency
    first = [5 * k for k in range(60)]  # 40 Hz, where both orders potentiate
    assert of_one_synapse(rule, [t + 2 for t in first], first, 302) > 0.1
    got = of_one_synapse(rule, first, [t + 2 for t in first], 302)
    assert got == pytest.approx(closed_form(rule, first, [t + 2 for t in first]), rel=1e-12)


def test_every_published_set_says_which_pairs_count_and_takes_the_step_that_it_is_given():
    rule = TripletSTDP.published("hippocampus, nearest", dt=3e-3)
    times = {"tau_x": 0.575, "tau_y": 0.047, "dt": 3e-3}
    assert rule == TripletSTDP(4.6e-3, 9.1e-3, 3e-3, 7.5e-9, 16.8e-3, 33.7e-3, pairing="nearest", **times)
    for name in PUBLISHED:
        assert TripletSTDP.published(name).pairing == ("nearest" if "nearest" in name else "all")


@pytest.mark.parametrize("side", ["pre", "post"])
def test_few_spikes_are_taken_one_by_one_to_the_same_numbers(side, monkeypatch):
    layer, rng = nn.Linear(60, 50, bias=False).double(), torch.Generator().manual_seed(0)
    often = {"pre": (0.01, 0.5), "post": (0.5, 0.01)}[side]
    sizes = (60, 50)
    pre, post = ((torch.rand(4, 20, n, generator=rng) < p).double() for n, p in zip(sizes, often))
    rule = replace(TRIPLET, dependence=SoftBounds(-1.0, 1.0))
    got = run(rule, layer, pre, post)
    monkeypatch.setattr("neuropil.plasticity.stdp.terms.few_events", lambda *given: None)
    torch.testing.assert_close(got, run(rule, layer, pre, post), rtol=1e-12, atol=1e-13)
    assert got.abs().max() > 1e-4


def test_the_side_that_costs_less_is_taken_one_by_one():
    rng = torch.Generator().manual_seed(0)
    for densities, of_units in (((0.01, 0.15), False), ((0.15, 0.01), True), ((0.5, 0.5), None)):
        pre, post = ((torch.rand(100, n, generator=rng) < p).double() for n, p in zip((60, 50), densities))
        found = events.few_events(pre, post, 0.3)
        assert (found and found.of_units) == of_units


def test_inhibitory_stdp_rests_at_its_rate():
    rng = torch.Generator().manual_seed(0)
    layer, rule, q = nn.Linear(200, 200, bias=False).double(), InhibitorySTDP(rate=20.0), math.exp(-1 / 20)
    window = sum(q * (1 - q**t) / (1 - q) for t in range(400)) / 400  # mean trace of a neuron that spikes in each step
    for rate in (10.0, 20.0, 40.0):
        pre, post = ((torch.rand(400, 1, 200, generator=rng) < p * 1e-3).double() for p in (50.0, rate))
        want = 400 * 0.05 * (2 * rate * 1e-3 * window - 2 * 20 * 0.02)  # so many input spikes, each with both windows
        assert run(rule, layer, pre, post).mean().item() == pytest.approx(want, abs=0.5)


def test_weights_are_normalised_and_then_bounded_in_one_place():
    layer, _ = make("transposed 2d, groups")
    weight = layer.weight.detach().clone()
    constrain_(layer, total=3.0)
    torch.testing.assert_close(rows(layer, layer.weight.detach()).abs().sum(1), torch.full((6,), 3.0).double())
    torch.testing.assert_close(layer.weight.sign(), weight.sign())
    constrain_(layer, low=-0.1, high=0.2, total=7.0)
    assert (layer.weight.min().item(), layer.weight.max().item()) == (-0.1, 0.2)


def mean_change(rule, x, y):
    """The exact mean change by independent spikes with the probabilities x and y in each step, once traces settled."""
    memory, total = rule.memory(x[:1], y[:1]), 0.0
    for step, (p, q) in enumerate(zip(x, y)):
        terms, memory = rule.terms(p[None], q[None], memory)  # the law is linear in either spike
        total += sum(term.gain * (term.pre * term.post).item() for term in terms) * (step >= 690)
    return total


def way(start, end, steps, kind):
    """A rate that goes from one settled value to another in so many steps, (steps,), in spikes per step."""
    inside = torch.linspace(0, 1, steps).double()
    inside = inside + 0.8 * (9 * inside).sin() * inside * (1 - inside) if kind == "winding" else inside
    settled = torch.zeros(700).double()  # 35 time constants
    return 1e-3 * (start + (end - start) * torch.cat([settled, inside, settled + 1]))


@pytest.mark.parametrize(("steps", "kind"), [(2, "straight"), (300, "straight"), (300, "winding")])
def test_pair_stdp_of_changing_rates_is_the_differential_hebbian_rule(steps, kind):
    rule, q = PairSTDP(), math.exp(-1 / 20)
    y = way(11.0, 37.0, steps, kind)
    x = torch.full_like(y, 0.043)
    layer, at = nn.Linear(1, 1, bias=False).double(), lambda rate: rate.view(1, 1)
    rate_rule = DifferentialHebb()(layer, at(x[0]), at(y[0]), post_after=at(y[-1])).item()
    tau_squared = q / (1 - q) ** 2  # in steps, 399.9 for 20 steps: of the sum over lags
    assert mean_change(rule, x, y) == pytest.approx(tau_squared * rate_rule, rel=1e-9)
    balanced = replace(rule, tau_plus=40e-3, a_plus=(1 / (math.exp(0.05) - 1)) / (1 / (math.exp(0.025) - 1)))
    assert mean_change(balanced, x, y) == pytest.approx(tau_squared * rate_rule, rel=1e-6)
    assert abs(mean_change(replace(rule, a_minus=1.05), x, y) - tau_squared * rate_rule) > 0.5


def test_where_the_presynaptic_rate_changes_the_law_has_a_second_term_and_an_error_that_slow_rates_lose():
    errors = []
    for steps in (200, 800):
        x, y = way(40.0, 70.0, steps, "straight"), way(11.0, 37.0, steps, "winding")
        slope = lambda rate: torch.cat([rate.diff(), torch.zeros(1).double()])
        law = (20**2 * (x * slope(y) - slope(x) * y)).sum().item()
        errors.append(abs(mean_change(PairSTDP(), x, y) - law))
    assert errors[0] < 0.02
    assert errors[1] < 0.4 * errors[0]


def test_spikes_with_changing_rates_are_within_their_error_of_the_law():
    rng, n = torch.Generator().manual_seed(0), 4000
    x, y = torch.full((400,), 0.04), torch.cat([torch.full((200,), 0.01), torch.full((200,), 0.05)])
    rule, totals = PairSTDP(), torch.zeros(n, 1)
    memory = rule.memory(totals, totals)
    for p, q in zip(x, y):
        pre, post = ((torch.rand(n, 1, generator=rng) < rate).float() for rate in (p, q))
        terms, memory = rule.terms(pre, post, memory)
        totals += sum(term.gain * term.pre * term.post for term in terms)
    want = 0.02**2 * 40 * 40
    assert abs(totals.mean().item() - want) < 4 * totals.std().item() / n**0.5
    assert want > 8 * totals.std().item() / n**0.5


def test_at_a_postsynaptic_spike_all_spikes_before_it_count_or_the_latest():
    layer, q = nn.Linear(1, 1, bias=False), math.exp(-1.3 / 17)
    fired, silent = torch.ones(1, 1), torch.zeros(1, 1)
    for pairing, want in (("nearest", q), ("all", q + q**2)):
        rule = PostSTDP(tau=17e-3, offset=0.0, pairing=pairing, dt=1.3e-3)
        memory = rule.init(layer, silent, silent)
        for pre, post in ((fired, silent), (fired, silent), (silent, fired)):
            change, memory = rule.step(layer, pre, post, memory)
        assert change.item() == pytest.approx(want, rel=1e-6)


def test_potentiation_by_a_power_of_the_weight_is_that_of_the_reference_weight_at_it():
    law = PowerLaw(w_0=0.3, mu=0.4)
    assert law.up(torch.tensor([0.3, 0.5])).tolist() == pytest.approx([0.3, 0.3**0.6 * 0.5**0.4])


def test_the_published_rule_of_first_spikes_is_postsynaptic_stdp_with_a_trace_that_stays():
    """Loops over spike times: inputs before the spike of the unit gain a_plus (w - l)(h - w), others lose a_minus."""
    rng = torch.Generator().manual_seed(2)
    low, high, a_plus, a_minus, steps = -0.3, 1.9, 0.0137, 0.0071, 7
    layer = nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=1, bias=False).double()
    layer.weight.data = low + (high - low) * torch.rand(layer.weight.shape, generator=rng).double()
    sent = torch.randint(steps, (4, 2, 5, 6), generator=rng)  # the step of the one spike of each input
    fired = torch.randint(steps + 9, layer(sent.double()).shape, generator=rng)  # from `steps` on never
    rule = PostSTDP(math.inf, a_minus / (a_plus + a_minus), dependence=LogisticBounds(low, high), dt=1.3e-3)
    pre, post = (torch.stack([(times == t).double() for t in range(steps)]) for times in (sent, fired))
    change = (a_plus + a_minus) * run(rule, layer, pre, post, reduction="sum")
    padded = nn.functional.pad(sent, (1, 1, 1, 1), value=10**6)
    want = torch.zeros_like(layer.weight)
    for sample, unit, y, x in (fired < steps).nonzero().tolist():
        for channel, dy, dx in torch.ones(2, 2, 3).nonzero().tolist():
            w, before = layer.weight[unit, channel, dy, dx], padded[sample, channel, y + dy, 2 * x + dx]
            sign = a_plus if before < fired[sample, unit, y, x] else -a_minus
            want[unit, channel, dy, dx] += sign * (w - low) * (high - w)
    torch.testing.assert_close(change, want.detach(), rtol=1e-11, atol=1e-13)
