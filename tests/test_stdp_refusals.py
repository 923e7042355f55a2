"""What rules with traces refuse, each in one line with the cure; and that batches and threads make no difference."""

import re
from dataclasses import fields

import pytest
import torch
from torch import nn

from common import refused
from neuropil import plasticity, spiking
from neuropil.errors import Diverged, Refusal
from neuropil.plasticity import (
    InhibitorySTDP,
    LogisticBounds,
    PairSTDP,
    PowerLaw,
    RewardModulated,
    SoftBounds,
    SynapticScaling,
    Term,
    TraceRule,
    TripletSTDP,
    VoltageSTDP,
    attach,
    constrain_,
)
from neuropil.spiking import ConductanceLIF

SETTINGS = {
    "dt above a time constant": (
        lambda: PairSTDP(tau_plus=5e-4),
        "dt <= tau_plus, got dt=0.001 and tau_plus=0.0005",
    ),
    "a step in ms": (
        lambda: PairSTDP(dt=0.5),
        "and dt up to 0.05, got dt=0.5; if this is in ms give dt=0.0005",
    ),
    "a width in ms": (lambda: PairSTDP(tau_minus=20.0), "if this is in ms give tau_minus=0.02"),
    "negative tau": (lambda: TripletSTDP(tau_x=-0.1), "TripletSTDP needs tau_x > 0, in s, got tau_x=-0.1"),
    "tau of nan": (lambda: InhibitorySTDP(tau=float("nan")), "needs a number as tau, got nan"),
    "slow scaling": (lambda: SynapticScaling(tau=1e-4), "SynapticScaling needs dt <= tau"),
    "pairing": (lambda: PairSTDP(pairing="some"), "needs pairing='all' or 'nearest'"),
    "filters in ms": (lambda: VoltageSTDP(tau_x=15.0), "if this is in ms give tau_x=0.015"),
    "slow filters in ms": (lambda: VoltageSTDP(tau_minus=10.0), "if this is in ms give tau_minus=0.01"),
    "fast filters in ms": (lambda: VoltageSTDP(tau_plus=7.0), "if this is in ms give tau_plus=0.007"),
    "negative rate": (lambda: InhibitorySTDP(rate=-1.0), "needs rate >= 0, in Hz"),
    "mV": (lambda: VoltageSTDP(theta_plus=-45.3), "needs potentials in V"),
    "bounds": (lambda: SoftBounds(1.0, 0.0), "needs low < high"),
    "logistic bounds": (lambda: LogisticBounds(0.0, 0.0), "LogisticBounds needs low < high"),
    "power": (lambda: PowerLaw(mu=2.0), "0 <= mu <= 1"),
    "no such set": (lambda: TripletSTDP.published("visual"), "unknown parameter set 'visual'"),
    "a layer for settings": (
        lambda: PairSTDP(nn.Linear(1, 1)),
        "make the rule first: PairSTDP().init(layer",
    ),
    "a rule without steps": (lambda: PairSTDP()(LAYER, PRE, POST), "sees spikes step by step; call rule.init(layer"),
    "a word for a dependence": (lambda: TripletSTDP(dependence="soft"), "LogisticBounds(), PowerLaw() or None"),
    "attached": (lambda: attach(nn.Sequential(layer_of(3, 2)), {"0": PairSTDP()}, PRE), "rules with traces are called"),
    "no rule": (lambda: RewardModulated(0.5), "needs a TraceRule such as PairSTDP"),
    "an eligibility shorter than a step": (lambda: RewardModulated(PairSTDP(), tau=1e-4), "needs dt <= tau"),
    "bounds of weights": (lambda: constrain_(nn.Linear(1, 1), low=1.0, high=0.0), "needs low < high"),
    "total": (lambda: constrain_(nn.Linear(1, 1), total=-1.0), "needs total > 0"),
    "silent units": (lambda: constrain_(silent(), total=1.0), "2 units have weights of 0 only"),
}


def layer_of(inputs, units):
    return nn.Linear(inputs, units, bias=False)


def silent():
    layer = layer_of(3, 2)
    nn.init.zeros_(layer.weight)
    return layer


@pytest.mark.parametrize(("make", "says"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be_are_refused_in_one_line(make, says):
    assert says in refused(make)


LAYER, PRE, POST = layer_of(3, 2), torch.ones(4, 3), torch.zeros(4, 2)
REWARDED = RewardModulated(PairSTDP())
STEPS = {
    "rates for spikes": (
        PairSTDP(),
        PRE * 0.3,
        POST,
        {},
        "needs pre as spikes, 0 or 1, got numbers from 0.3 to 0.3",
    ),
    "potentials for spikes": (PairSTDP(), PRE, POST - 0.06, {}, "needs post as spikes"),
    "nan": (PairSTDP(), PRE * float("nan"), POST, {}, "needs pre as spikes"),
    "pre of another width": (PairSTDP(), torch.ones(4, 5), POST, {}, "needs pre with 3 features"),
    "post of another batch": (PairSTDP(), PRE, torch.zeros(3, 2), {}, "pre (4, 3) but post (3, 2)"),
    "spikes as integers": (PairSTDP(), PRE.long(), POST, {}, "given activity of int64"),
    "an unknown reduction": (PairSTDP(), PRE, POST, {"reduction": "none"}, "'mean' or 'sum', got 'none'"),
    "no reward": (REWARDED, PRE, POST, {}, "needs reward= of shape (4,), one number per sample, got NoneType"),
    "a reward for each unit": (REWARDED, PRE, POST, {"reward": torch.ones(4, 2)}, "got (4, 2)"),
    "a misspelt reward": (REWARDED, PRE, POST, {"rewards": PRE}, "'rewards'. Did you mean 'reward'?"),
    "no third factor": (PairSTDP(), PRE, POST, {"reward": PRE}, "unknown third factor of PairSTDP 'reward'"),
    "a number": (REWARDED, PRE, POST, {"reward": 1.0}, "got float"),
}


@pytest.mark.parametrize(("rule", "pre", "post", "how", "says"), STEPS.values(), ids=STEPS)
def test_a_step_that_cannot_be_is_refused_in_one_line(rule, pre, post, how, says):
    memory = rule.init(LAYER, PRE, POST)
    assert says in refused(lambda: rule.step(LAYER, pre, post, memory, **how))


def test_the_memory_of_another_batch_does_not_broadcast():
    memory = PairSTDP().init(LAYER, PRE[:1], POST[:1])
    with pytest.raises(Refusal, match=r"tensors \(4, 3\), \(4, 2\) for this batch, got \(1, 3\), \(1, 2\)"):
        PairSTDP().step(LAYER, PRE, POST, memory)


def test_a_change_that_is_not_finite_is_refused_and_voltages_are_not_spikes():
    rule = VoltageSTDP()
    memory = rule.init(LAYER, PRE, POST)
    change, memory = rule.step(LAYER, PRE, POST - 0.0601, memory)
    assert change.shape == LAYER.weight.shape
    with pytest.raises(Diverged, match="NaN or infinite activity"):
        rule.step(LAYER, PRE, POST * float("nan"), memory)


def test_empty_batches_change_nothing_and_an_autocast_makes_no_difference():
    rule, none = PairSTDP(), (torch.zeros(0, 3), torch.zeros(0, 2))
    change, _ = rule.step(LAYER, *none, rule.init(LAYER, *none))
    assert change.shape == (2, 3)
    assert not change.any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rule.step(LAYER, PRE, POST, rule.init(LAYER, PRE, POST))[0].dtype == torch.float32


@pytest.mark.parametrize("often", [0.01, 0.5])
def test_one_and_two_threads_give_the_same_bits(often):
    layer, rule, found = layer_of(300, 200), PairSTDP(), []
    rng = torch.Generator().manual_seed(0)
    spikes = [[(torch.rand(40, n, generator=rng) < often).float() for n in (300, 200)] for _ in range(3)]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            memory = rule.init(layer, *spikes[0])
            for pre, post in spikes:
                change, memory = rule.step(layer, pre, post, memory)
            found.append(change)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    assert found[0].any()


SLOW = {"RewardModulated.tau", "SynapticScaling.tau", "AdaptiveLIF.tau_w", "AdaptiveLIF.tau_theta"}
SLOW |= {"ConductanceLIF.tau_theta", "PoissonEncoding.duration", "RateEncoding.duration"}  # may last for seconds
TIMES, VOLTS = re.compile(r"tau|dt$|refractory|duration"), re.compile(r"theta_|rest$|reset|threshold|._rev")


def units_of(room):
    """(class, field) of each default that is a time of 1 ms or more in s, or a potential in V."""
    for made in (getattr(room, name) for name in room.__all__):
        if isinstance(made, type) and hasattr(made, "dt"):
            for field in fields(made):
                volts = made in (ConductanceLIF, VoltageSTDP) and VOLTS.match(field.name)
                if volts or (field.default and TIMES.match(field.name)):
                    yield made, field.name


@pytest.mark.parametrize(("made", "name"), [*units_of(spiking), *units_of(plasticity)])
def test_a_time_in_ms_and_a_potential_in_mv_are_refused_in_every_field(made, name):
    value = 1000 * getattr(made(), name) or 10.0
    if f"{made.__name__}.{name}" in SLOW:
        made(**{name: value})
    else:
        with pytest.raises(Refusal, match=rf"{name}=|in s|potentials in V"):
            made(**{name: value})


WRONG_TERMS = [
    (lambda p, q, old: Term(p, q), r"needs a list of terms and a memory; terms returns \[Term\(pre, post\), ...\]"),
    (lambda p, q, old: [Term(p, q)], "needs a list of terms and a memory; .* got a list of Term"),
    (lambda p, q, old: ([(p, q)], old), "needs a list of terms and a memory"),
    (lambda p, q, old: ([Term(q, p)], old), r"needs as pre a factor of each neuron, \(4, 3\) .* got \(4, 2\)"),
    (lambda p, q, old: ([Term(p[1:], q)], old), r"needs as pre .* got \(3, 3\) in float32"),
    (lambda p, q, old: ([Term(p, q[1:])], old), r"needs as post .* got \(3, 2\) in float32"),
    (lambda p, q, old: ([Term(p, None)], old), "needs as post a factor of each neuron, .* got None"),
    (lambda p, q, old: ([Term(1.0, q)], old), "needs as pre a factor of each neuron, .* got 1.0"),
    (lambda p, q, old: ([Term(p.double(), q)], old), r"got \(4, 3\) in float64 on cpu"),
    (lambda p, q, old: ([Term(p, q, gain=torch.ones(2))], old), r"a number as the gain of a term, got \(2,\)"),
    (lambda p, q, old: ([Term(p, q, factor=2.0)], old), "a function of the weight as the factor of a term, got 2.0"),
    (
        lambda p, q, old: ([Term(p, q, factor=torch.sum)], old),
        r"a number for each weight, \(2, 3\), got \(\) in float32",
    ),
]


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(("terms", "says"), WRONG_TERMS)
def test_terms_of_ones_own_that_cannot_be_are_refused_before_a_kernel_reads_them(terms, says, few):
    mine = type(
        "Mine", (TraceRule,), {"dt": 1e-3, "memory": lambda *_: (), "terms": lambda self, *given: terms(*given)}
    )
    rule, layer, pre, post = mine(), nn.Linear(3, 2, bias=False), torch.ones(4, 3), torch.ones(4, 2)
    if few:
        pre[1:] = post[1:] = 0
    for one in (rule, RewardModulated(rule, tau=0.5)):
        more = {} if one is rule else {"reward": torch.ones(4)}
        with pytest.raises(Refusal, match=says):
            one.step(layer, pre, post, one.init(layer, pre, post), **more)
