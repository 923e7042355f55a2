"""Every field of a neuron, a rule, a bound and an encoding is heard: another value of it gives something else."""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import neuropil as npl
from common import rng
from neuropil.plasticity import (
    BCM,
    Association,
    DifferentialHebb,
    InhibitorySTDP,
    LogisticBounds,
    PairSTDP,
    PostSTDP,
    PowerLaw,
    RewardModulated,
    SignedWTA,
    SoftBounds,
    SynapticScaling,
    TripletSTDP,
    VoltageSTDP,
)
from neuropil.spiking import (
    LIF,
    QIF,
    AdaptiveLIF,
    BernoulliEncoding,
    ConductanceLIF,
    CurrentLIF,
    DeltaLIF,
    Izhikevich,
    LatencyEncoding,
    LinearTimeEncoding,
    PoissonEncoding,
    QIFState,
    RateEncoding,
    Theta,
    ThresholdEncoding,
)

DT = 1.3e-3
SPIKES = (torch.rand(60, 3, 9, generator=rng(1)) < 0.3).double()
X = torch.rand(3, 6, generator=rng(2)).double()


def stepped(neuron):
    """All spikes and the last state, from currents or conductances."""
    strength = {Izhikevich: 40.0, ConductanceLIF: 3.0, DeltaLIF: 0.6}.get(type(neuron), 4.0)
    state, outs = neuron.init(SPIKES[0, :, :4]), []
    for now in strength * SPIKES:
        drives = (now[:, :4], now[:, 4:8]) if isinstance(neuron, ConductanceLIF) else (now[:, :4],)
        out, state = neuron.step(*drives, state)
        outs.append(out)
    assert 5 < torch.stack(outs).count_nonzero() < 600
    return [*outs, *state]


def learned(rule):
    """The sum of the changes of a rule that is called step by step."""
    layer = nn.Linear(6, 3, bias=False).double()
    nn.init.uniform_(layer.weight, 0.2, 0.8, generator=rng(4))
    pre, post = SPIKES[..., :6], SPIKES[..., 6:]
    if isinstance(rule, VoltageSTDP):
        post = -0.08 + 0.06 * torch.rand(post.shape, generator=rng(5)).double()
    memory, total = rule.init(layer, pre[0], post[0]), torch.zeros_like(layer.weight)
    for t, (x, y) in enumerate(zip(pre, post)):
        shape = () if isinstance(rule, RewardModulated) and not rule.per_sample else (3,)
        third = {"reward": torch.rand(shape, generator=rng(t)).double()} if isinstance(rule, RewardModulated) else {}
        change, memory = rule.step(layer, x, y, memory, **third)
        total = total + change
    return [total.detach()]


def bounded(dependence):
    return learned(PairSTDP(a_minus=0.7, dependence=dependence, dt=DT))


def changed(rule):
    """The change by a rule of activities, without steps."""
    layer = nn.Linear(6, 40, bias=False).double()
    nn.init.normal_(layer.weight, generator=rng(6))
    if isinstance(rule, DifferentialHebb):
        return [rule(layer, X, layer(X).detach(), post_after=torch.rand(3, 40, generator=rng(7)).double())]
    third = {"label": torch.tensor([1, 0, 3])} if isinstance(rule, Association) else {}
    change = rule(layer, X, **third)
    return [change.to_dense(), torch.tensor(change.is_sparse)]


def averaged(rule):
    layer = nn.Linear(6, 4, bias=False).double()
    nn.init.normal_(layer.weight, generator=rng(8))
    return [*rule.step(layer, X, None, rule.init(layer, 2 * X))[1]]


def encoded(encoding):
    if isinstance(encoding, LatencyEncoding | LinearTimeEncoding | ThresholdEncoding):
        return [encoding(X)]
    return [encoding.raster(X) if isinstance(encoding, RateEncoding) else encoding.raster(X, torch.arange(3), seed=1)]


def flown(neuron):
    """What an event-driven neuron gives as phases, spike times or a flow."""
    if isinstance(neuron, Theta):
        phase = 0.4 * neuron.period * X
        return [neuron.flow(phase, torch.full_like(X, 0.3)), neuron.jump(phase, 2 * X)]
    if isinstance(neuron, QIF):
        state = QIFState(X, 3 * X, torch.zeros_like(X))
        return [neuron.time_to_spike(X, 3 * X), *neuron.normalised_phase(state)]
    return [neuron.time_to_spike(0.3 * X, 9 * X)]


# name: (what comes out, an object, other values; numbers without one are multiplied by 1.3)
CASES = {
    "current": (stepped, CurrentLIF(17e-3, 4e-3, 0.9, -0.2, 0.3, 2.6e-3, DT), {"refractory": 5.2e-3}),
    "delta": (stepped, DeltaLIF(17e-3, 0.9, -0.2, 0.3, 2.6e-3, DT), {"refractory": 5.2e-3}),
    "adaptive": (stepped, AdaptiveLIF(17e-3, 4e-3, 0.03, 0.4, 0.7, 0.05, 0.13, 0.9, -0.2, 0.3, 2.6e-3, DT),
                 {"refractory": 5.2e-3}),
    "conductance": (stepped, ConductanceLIF(tau_e=3e-3, theta_plus=1e-3, tau_theta=5.0, reset=-0.068, e_rev=0.01),
                    {"rest": -0.063, "threshold": -0.05, "reset": -0.07, "i_rev": -0.09, "refractory": 2.6e-3}),
    "izhikevich": (stepped, Izhikevich(substeps=4), {"substeps": 5, "c": -60.0}),
    "theta": (flown, Theta(), {}),
    "QIF": (flown, QIF(), {}),
    "LIF": (flown, LIF(), {}),
    "pair": (learned, PairSTDP(a_minus=0.7, dt=DT), {"pairing": "nearest", "dependence": PowerLaw()}),
    "post spikes": (learned, PostSTDP(dt=DT), {"pairing": "all", "dependence": SoftBounds()}),
    "inhibitory": (learned, InhibitorySTDP(dt=DT), {}),
    "triplet": (learned, TripletSTDP(0.3, 0.6, 0.5, 0.2, dt=DT), {"pairing": "nearest", "dependence": SoftBounds()}),
    "voltage": (learned, VoltageSTDP(theta_minus=-0.0716, theta_plus=-0.0453, dt=DT),
                {"theta_minus": -0.07, "theta_plus": -0.05, "rest": -0.065}),
    "scaling": (learned, SynapticScaling(tau=0.3, dt=DT), {}),
    "reward": (learned, RewardModulated(PairSTDP(dt=DT)), {"rule": TripletSTDP(dt=DT), "per_sample": False}),
    "soft bounds": (bounded, SoftBounds(mu=0.7), {"low": -0.3}),
    "logistic bounds": (bounded, LogisticBounds(), {"low": -0.3}),
    "power law": (bounded, PowerLaw(), {}),
    "BCM": (averaged, BCM(momentum=0.7), {}),
    "association": (changed, Association(4, k=3), {"classes": 5, "k": 2, "columns": 2}),
    "differential": (changed, DifferentialHebb(), {}),
    "explain away": (changed, npl.ExplainAway(), {"k": 7}),
    "hard WTA": (changed, npl.HardWTA(), {}),
    "signed WTA": (changed, SignedWTA(), {}),
    "soft Hebb": (changed, npl.SoftHebb(), {}),
    "Krotov-Hopfield": (changed, npl.KrotovHopfield(), {"k": 3}),
    "Bernoulli": (encoded, BernoulliEncoding(0.4, 20), {"steps": 21}),
    "Poisson": (encoded, PoissonEncoding(100.0, 0.2, DT), {}),
    "rate": (encoded, RateEncoding(100.0, 0.2, DT), {}),
    "latency": (encoded, LatencyEncoding(), {"low": 0.2, "high": 0.7, "levels": 5}),
    "linear time": (encoded, LinearTimeEncoding(), {}),
    "threshold": (encoded, ThresholdEncoding(), {}),
}  # fmt: skip


def other_value(value):
    return not value if isinstance(value, bool) else 1.3 * value


def differ(one, two):
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, two))


@pytest.mark.parametrize("name", CASES)
def test_another_value_of_a_field_gives_something_else(name):
    outcome, usual, others = CASES[name]
    first = outcome(usual)
    assert not differ(first, outcome(usual))
    for field in fields(usual):
        if field.name == "ranking_dtype":  # matters where drives are nearly equal, see test_rules.py
            continue
        value = others.get(field.name, None)
        value = other_value(getattr(usual, field.name)) if value is None else value
        assert differ(first, outcome(replace(usual, **{field.name: value}))), field.name
