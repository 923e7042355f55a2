"""Outcomes of spiking neurons, networks, encodings, losses and statistics: odd times, floors, masks, gradients."""

import torch
from torch import nn

from common import rng
from neuropil.models import PlasticLayer
from neuropil.plasticity import InhibitorySTDP, PairSTDP, PostSTDP
from neuropil.spiking import (
    LIF,
    QIF,
    AdaptiveLIF,
    AxonalDelay,
    BernoulliEncoding,
    ConductanceLIF,
    CurrentLIF,
    DeltaLIF,
    Izhikevich,
    LatencyEncoding,
    LIFNetwork,
    LinearTimeEncoding,
    PoissonEncoding,
    QIFNetwork,
    RateEncoding,
    RecurrentLIF,
    RecurrentQIF,
    SpikingSequential,
    Theta,
    ThetaNetwork,
    ThresholdEncoding,
    firing_rates,
    flatten_events,
    from_raster,
    interval_cv,
    lateral_inhibition,
    scatter_events,
    simulate,
    synchrony,
    to_raster,
)
from neuropil.spiking.losses import first_spike_loss, first_to_fire, peak_potential, spike_count, spike_time_loss

DT = 1.3e-3
NEURONS = {
    "current": CurrentLIF(tau=17e-3, tau_syn=4e-3, threshold=0.9, reset=-0.1, bias=0.2, refractory=3e-3, dt=DT),
    "delta": DeltaLIF(tau=17e-3, threshold=0.9, reset=0.1, bias=0.2, refractory=3e-3, dt=DT),
    "adaptive": AdaptiveLIF(tau=17e-3, tau_syn=4e-3, tau_w=0.03, a=0.3, b=0.2, dt=DT),
    "izhikevich": Izhikevich(a=0.03, b=0.23, c=-61.0, d=7.0, substeps=7, dt=DT),
}
ENCODINGS = {
    "threshold": ThresholdEncoding(0.43, 0.03),
    "latency": LatencyEncoding(last=1.3, low=0.1, high=0.9),
    "latency, levels": LatencyEncoding(last=1.3, levels=5),
    "linear": LinearTimeEncoding(span=1.1),
}


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=rng(seed), dtype=torch.float64)


def clock():
    for name, neuron in NEURONS.items():
        strength = 30.0 if name == "izhikevich" else 0.6
        for steps in 7, 131:
            drive = (drawn(steps, 3, 5) < 0.3) * drawn(steps, 3, 5, seed=1) * strength
            run = simulate(neuron, drive)
            yield f"{name}, {steps}", [run.counts, *[one for one in run.state if isinstance(one, torch.Tensor)]]
            more = simulate(neuron, drive[:31] * 0.7, state=run.state)
            yield f"{name}, {steps}, goes on", more.counts
    layers = nn.Linear(5, 6, dtype=torch.float64), NEURONS["delta"], nn.Linear(6, 4, dtype=torch.float64)
    for k, layer in enumerate(layers[::2]):
        nn.init.uniform_(layer.weight, -0.1, 0.9, generator=rng(k))
        nn.init.zeros_(layer.bias)
    delays = AxonalDelay(torch.tensor([0, 2, 1, 0, 7, 3]) * DT, dt=DT)
    network = SpikingSequential(layers[0], layers[1], delays, layers[2], NEURONS["current"])
    spikes = (drawn(100, 3, 5) < 0.2).double()
    yield "layers", simulate(network, spikes).counts
    yield "raster", simulate(network, spikes, record=lambda out, state: {"spikes": out}).recorded["spikes"].sum((1, 2))


def plastic():
    rules = {
        "pair": PairSTDP(17e-3, 29e-3, 0.07, 0.09, dt=DT),
        "post": PostSTDP(tau=13e-3, offset=0.37, dt=DT),
        "inhibitory": InhibitorySTDP(rate=7.1, tau=17e-3, dt=DT),
    }
    for name, rule in rules.items():
        for bounds in {}, {"low": 0.0, "high": 0.5}:
            layer = nn.Linear(5, 4, bias=False, dtype=torch.float64)
            nn.init.uniform_(layer.weight, -0.1, 0.9, generator=rng(3))
            learns = PlasticLayer(layer, NEURONS["delta"], rule, lr=0.13, **bounds)
            run = simulate(learns, (drawn(90, 3, 5) < 0.3).double())
            yield f"{name}, {len(bounds)}", (run.counts, layer.weight)


def encoded():
    x = drawn(3, 2, 4).float()
    for name, encode in ENCODINGS.items():
        yield name, encode(x)
    yield "rate", RateEncoding(97.0, 0.1, DT).raster(x)
    yield "regular", RateEncoding(1 / 3 / DT, 0.1, DT).raster(torch.ones(1, 2, dtype=torch.float64))
    for encode in BernoulliEncoding(0.37, 9), PoissonEncoding(97.0, 0.023, DT):
        for index in torch.arange(3), torch.tensor([5, 0, 17]):
            yield f"{type(encode).__name__}, {index[0]}", encode.raster(x, index, 3)


def times_in(n, lines, spikes, t_end):
    times = drawn(n, lines, spikes) * 1.4 * t_end
    return times.where(times < t_end, torch.inf).sort(-1).values


def events():
    kinds = {"theta": (ThetaNetwork, Theta(1.7, 1.1)), "qif": (QIFNetwork, QIF(1.3)), "lif": (LIFNetwork, LIF(1.3))}
    for name, (kind, neuron) in kinds.items():
        for t_end in 1.3, 2.7:
            net = kind((5, 4, 3), neuron=neuron, t_end=t_end)
            net.init_(rng(1))
            net = net.double()
            for layer in net.stack():
                layer.weight.data.mul_(3)
            times = times_in(7, 5, 2, t_end).requires_grad_()
            output = net(times, 3)
            loss = first_spike_loss(output.times[..., 0], torch.arange(7) % 3, t_end, early_weight=0.03)
            yield f"{name}, {t_end}", (output.times, output.spikes, loss)
            yield (
                f"{name}, {t_end}, gradients",
                torch.autograd.grad(loss, [times, *net.parameters()], allow_unused=True),
            )
    for kind in RecurrentQIF, RecurrentLIF:
        layer = kind(3, 4, t_end=2.3, mask=1 - torch.eye(4), dtype=torch.float64)
        for part in layer.parameters():
            nn.init.uniform_(part, -0.7, 1.7 if part.ndim > 1 else 0.9, generator=rng(2))
        times = times_in(5, 3, 3, 2.3).requires_grad_()
        trains = layer(times, 4)
        while not isinstance(trains, torch.Tensor):
            trains = trains[0]
        loss = trains.clamp(max=9).sum()
        yield kind.__name__, (trains, torch.autograd.grad(loss, [times, *layer.parameters()], allow_unused=True))


def measures():
    times = times_in(5, 3, 4, 2.0)
    yield "events", [*flatten_events(times)]
    flat = flatten_events(times)
    yield "spread", scatter_events(flat.time.nan_to_num(posinf=0.0), flat, times.shape)
    for targets in (drawn(1, 3, 4) * 2, drawn(5, 3, 4) * 2):
        yield f"loss, {len(targets)}", spike_time_loss(times.clamp(max=3), targets, offset=1.7)
    yield "first", (first_to_fire(times), spike_count(times, drawn(5, 3), 1.3))
    yield "peak", peak_potential(times[..., 0], torch.linspace(-1, 2, 12).double().reshape(3, 4), 2.0, tau=0.7)
    for dt, t_end in ((0.1, 0.3), (0.7, 2.0), (0.3, 2.0)):
        raster = to_raster(times.where(times < t_end, torch.inf), dt, t_end)
        yield f"raster, {dt}", (raster, from_raster(raster, dt))
    raster = (drawn(40, 5) < drawn(1, 5, seed=1)).double()
    yield "statistics", (firing_rates(raster, DT), interval_cv(raster), synchrony(raster, DT, window=4e-3))
    yield "inhibition", lateral_inhibition(raster[:3], 0.7)
    neuron = ConductanceLIF(theta_plus=3e-4, dt=7e-4)
    state = neuron.init(drawn(2, 4))
    for drive in (drawn(60, 2, 4) < 0.4) * drawn(60, 2, 4, seed=1) * 3:
        spikes, state = neuron.step(drive, 0.3 * drive, state)
    yield "conductances", (spikes, *state)


CASES = {"clock": clock, "plastic": plastic, "encodings": encoded, "events": events, "spike measures": measures}
