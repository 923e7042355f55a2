"""How long one training step of spiking neurons takes: forward, loss and backward, exact gradients for everything.

Two others run in the same loop, so that noise hits all alike. One is a rate network of the same sizes (ReLU; for the
recurrent task an RNN of 100 steps, a tenth of a time constant each). The other has the same neurons as a plain PyTorch
scan from event to event under autograd. The scan takes a hundred trials at a time so that memory suffices. One such
chunk is timed, and counted as often as the batch has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.bench._graphs import graph_cell, graph_seconds
from neuropil.bench._spiking_scan import qif_scan, theta_scan
from neuropil.bench._timing import clock, fastest, medians
from neuropil.errors import at_least, require
from neuropil.evaluate.metrics.cost import peak_memory
from neuropil.experiments.machine import Machine
from neuropil.spiking import QIFLayer, QIFState, RecurrentQIF, Theta, ThetaNetwork
from neuropil.spiking.losses import first_spike_loss, spike_time_loss

CAPTION = """
A step is forward, loss and backward; medians; {device}, threads: {threads}.
x rate: over the time of a rate network of the same sizes. faster: the time of a plain PyTorch event scan over its own.
activity: spikes per hidden neuron (one layer: per neuron). extra: memory beyond what was held before the steps.
"""
CHUNK = 100  # trials that the plain scan takes at a time
Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        sizes: neurons of the theta network, from the inputs to the outputs; the QIF layer has the first two.
        batches: numbers of trials in a step of the theta network; the QIF layer takes the first.
        repeats: rounds of the loop; every competitor runs once in each.
        scans: rounds in which the plain scan takes part; 0 leaves it out.
        active_fraction: fraction of the inputs that spike.
    """

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    batches: tuple[int, ...] = (1000, 1)
    repeats: int = 20
    scans: int = 3
    active_fraction: float = 0.13

    def __post_init__(self) -> None:
        at_least(1, self, "batches", "repeats")
        require(0 <= self.scans <= self.repeats, f"scans need 0 <= scans <= repeats, got {self.scans}.")


@dataclass(frozen=True)
class Case:
    """What is timed, and how active it is.

    Attributes:
        name, batch: of the row.
        step, rate: one training step of the spiking and of the rate network.
        scan: one chunk of the plain scan's step.
        activity: spikes per neuron and trial.
    """

    name: str
    batch: int
    step: Step
    rate: Step
    scan: Step
    activity: float


def main(config: Config) -> list[dict[str, Any]]:
    """One row per case; see `row`."""
    cases: list[Callable[[Config], Case]] = [partial(theta_case, batch) for batch in config.batches]
    cases += [partial(qif_case, config.batches[0]), recurrent_case]
    return [row(make, config) for make in cases]


def row(make: Callable[[Config], Case], config: Config) -> dict[str, Any]:
    """Medians in seconds, and ratios between medians of the same loop; `best_*` are between the fastest rounds.

    The scan has a loop of its own, with steps of its own, to which it is compared; `step_s` is that of the first loop.

    `peak_mb` is the most memory (MiB) that the process held while the spiking network took its steps, `extra_mb` what
    of it was not held before.
    """
    held = torch.zeros(1, device=config.device)  # something on a GPU, if it is one, so that its memory is measured
    with peak_memory() as before:
        case = make(config)
    with peak_memory() as peak:
        clock({"step": case.step}, repeats=config.repeats, device=config.device, before=0)
    del held
    pair = {"step": case.step, "rate": case.rate}
    seconds = clock(pair, repeats=config.repeats, device=config.device, before=0)
    graphs = graph_seconds(pair, repeats=config.repeats, device=config.device, before=0)
    if config.scans:
        chunks = ceil(case.batch / CHUNK)
        pair = {"scan": case.scan, "step": case.step}
        found = clock(pair, repeats=config.scans, device=config.device, warm=1, before=0)
        seconds["scan"] = [chunks * value for value in found["scan"]]
    middle, best = medians(seconds), fastest(seconds)
    ratios = {"step_per_rate": middle["step"] / middle["rate"], "best_step_per_rate": best["step"] / best["rate"]}
    if config.scans:  # beside the steps of its own loop
        ratios["scan_per_step"] = middle["scan"] / medians(found)["step"]
        ratios["best_scan_per_step"] = best["scan"] / fastest(found)["step"]
    return {
        "network": case.name,
        "batch": case.batch,
        **{f"{name}_s": value for name, value in middle.items()},
        **ratios,
        **graphs,
        "activity": case.activity,
        "extra_mb": peak.mb - before.mb,
        "peak_mb": peak.mb,
        "threads": torch.get_num_threads(),
        "device": config.device,
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    return {
        "network": row["network"],
        "batch": str(row["batch"]),
        "step": f"{1e3 * row['step_s']:.2f} ms",
        **graph_cell(row),
        "x rate": f"{row['step_per_rate']:.2f}",
        "faster": f"{row['scan_per_step']:.0f} x" if "scan_s" in row else "",
        "activity": f"{row['activity']:.2f}",
        "extra": f"{row['extra_mb']:.0f} MiB",
        "peak": f"{row['peak_mb']:.0f} MiB",
    }


def theta_case(batch: int, config: Config) -> Case:
    """The paper's network for MNIST, its hidden neurons as active as trained ones: 0.42 spikes each."""
    net, times, labels = sample(batch, config)
    with torch.no_grad():
        spikes = sum(int(train.isfinite().sum()) for train in net(times).spikes[:-1])
    rate, x = rate_network(config.sizes).to(times.device), times.isfinite().to(times)
    weights, phases = zip(*((part.weight.detach(), part.phase.detach()) for part in net.stack()))
    chunk = times[:CHUNK, :, None]
    return Case(
        "theta " + "-".join(map(str, config.sizes)),
        batch,
        lambda: learn(first_spike_loss(net(times).times[..., 0], labels, net.t_end)),
        lambda: learn(F.cross_entropy(rate(x), labels)),
        lambda: scan_theta(chunk, weights, phases, labels[:CHUNK], net.neuron, net.t_end),
        spikes / batch / max(1, sum(config.sizes[1:-1])),
    )


def scan_theta(
    times: Tensor, weights: tuple[Tensor, ...], phases: tuple[Tensor, ...], labels: Tensor, neuron: Theta, end: float
) -> Tensor:
    """The theta network's step as a plain scan."""
    learned = [[part.double().cpu().requires_grad_() for part in parts] for parts in (weights, phases)]
    layers = theta_scan(times.double().cpu(), learned[0], learned[1], neuron, end)
    phase = torch.zeros(len(times), len(weights[0]), dtype=torch.float64)
    for weight, (_, last) in zip(learned[0], layers):
        phase = neuron.with_drive(last, neuron.rate(phase) @ weight)
    return learn(first_spike_loss(neuron.with_pseudospikes(layers[-1][0], phase, end)[..., 0], labels.cpu(), end))


def sample(batch: int, config: Config) -> tuple[ThetaNetwork, Tensor, Tensor]:
    """A network whose hidden neurons fire 0.42 times on average in a trial, its input times and labels."""
    rng = torch.Generator().manual_seed(0)
    net = ThetaNetwork(config.sizes)
    for layer in net.stack():
        nn.init.uniform_(layer.weight, -1, 1, generator=rng).data.div_(len(layer.weight) ** 0.5)
        nn.init.uniform_(layer.phase, 2.75, 5.0, generator=rng)
    on = torch.rand(batch, config.sizes[0], generator=rng) < config.active_fraction
    times, labels = torch.where(on, 0.0201, torch.inf), torch.randint(config.sizes[-1], (batch,), generator=rng)
    return net.to(config.device), times.to(config.device), labels.to(config.device)


def rate_network(sizes: tuple[int, ...]) -> nn.Module:
    """The same sizes with ReLU."""
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.ReLU(), nn.Linear(a, b))))[1:]


def qif_case(batch: int, config: Config) -> Case:
    """One layer of QIF neurons whose inputs come at different times."""
    rng = torch.Generator().manual_seed(0)
    inputs, outputs = config.sizes[:2]
    layer = QIFLayer(inputs, outputs, t_end=4.0).init_(rng, mean=0.02, std=0.6).to(config.device)
    on = torch.rand(batch, inputs, generator=rng) < config.active_fraction
    times = torch.where(on, 2 * torch.rand(batch, inputs, generator=rng), torch.inf).to(config.device)
    rate, x = rate_network((inputs, outputs)).to(config.device), times.isfinite().to(times)
    labels = torch.randint(outputs, (batch,), generator=rng).to(config.device)
    neuron, end = layer.neuron, layer.t_end

    def scan() -> Tensor:
        weight, potential, current = (part.detach().double().cpu().requires_grad_() for part in layer.parameters())
        inner, chunk = torch.zeros(outputs, outputs, dtype=torch.float64), times[:CHUNK, :, None].double().cpu()
        found = qif_scan(chunk, weight, inner, potential, current, neuron, end)
        late = neuron.with_pseudospikes(found[0], QIFState(*found[1:]), end)[..., 0]
        return learn(first_spike_loss(late, labels[:CHUNK].cpu(), end))

    return Case(
        f"QIF {inputs}-{outputs}",
        batch,
        lambda: learn(first_spike_loss(layer(times).times[..., 0], labels, end)),
        lambda: learn(F.cross_entropy(rate(x), labels)),
        scan,
        float(layer(times).spikes[0].isfinite().sum()) / batch / outputs,
    )


def recurrent_case(config: Config) -> Case:
    """The recurrent task: ten QIF neurons for ten time constants, two of them with target times; float64."""
    rng, neurons, t_end = torch.Generator().manual_seed(0), 10, 10.0
    gaps = torch.empty(1, 2 * neurons, 60, dtype=torch.float64).exponential_(1.0, generator=rng)
    times = torch.where(gaps.cumsum(-1) < t_end, gaps.cumsum(-1), torch.inf).to(config.device)
    targets = torch.arange(1.0, 9.0, dtype=torch.float64, device=config.device).expand(2, -1)
    net = RecurrentQIF(2 * neurons, neurons, t_end=t_end, dtype=torch.float64)
    with torch.no_grad():
        own = 5 * torch.eye(neurons, dtype=torch.float64)
        net.weight.copy_(torch.cat([own, -own]))
        net.recurrent.normal_(0, 5, generator=rng)
    net = net.to(config.device)
    rnn = nn.RNN(2 * neurons, neurons, nonlinearity="relu", dtype=torch.float64, device=config.device)
    x = torch.rand(int(10 * t_end), 1, 2 * neurons, generator=rng, dtype=torch.float64).to(config.device)
    baseline = RecurrentQIF(2 * neurons, neurons, t_end=t_end, dtype=torch.float64)
    baseline.load_state_dict(net.state_dict())

    def step() -> Tensor:
        return learn(spike_time_loss(net(times, targets.shape[1]).times[0, :2], targets))

    def scan() -> Tensor:
        inner, given = baseline.recurrent * baseline.mask, times.cpu()
        neuron, start = baseline.neuron, (baseline.potential, baseline.current)
        spikes, angle, current = qif_scan(given, baseline.weight, inner, *start, neuron, t_end)
        drive = neuron.rate(QIFState(angle, torch.zeros_like(current))) @ (baseline.recurrent * baseline.mask)
        late = neuron.with_pseudospikes(spikes, QIFState(angle, current, drive), t_end, targets.shape[1])
        return learn(spike_time_loss(late[0, :2], targets.cpu()))

    return Case(
        f"recurrent QIF {neurons}",
        1,
        step,
        lambda: learn(rnn(x)[0].square().mean()),
        scan,
        float(net(times).spikes[0].isfinite().sum()) / neurons,
    )


def learn(loss: Tensor) -> Tensor:
    """The loss, after its backward pass."""
    loss.backward()
    return loss.detach()
