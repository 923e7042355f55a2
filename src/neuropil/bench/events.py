"""How long one training step of a spiking network takes: forward, loss and backward, exact gradients for everything.

Beside it, in the same loop so that noise hits all alike: a rate network (ReLU) of the same sizes; and, a hundred trials
at a time so that memory suffices, the same network as a plain PyTorch scan from event to event under autograd. The
network is as active as a trained one: 0.42 spikes per hidden neuron.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.bench._event_scan import theta_scan
from neuropil.checks import require
from neuropil.evaluate.cost import peak_memory
from neuropil.events import ThetaNetwork
from neuropil.events.losses import first_spike_loss

Step = Callable[[], object]


@dataclass(frozen=True)
class Config:
    """What to measure.

    Attributes:
        sizes: neurons from the inputs to the outputs.
        batches: numbers of trials in a step.
        repeats: rounds of the loop; every contestant runs once in each.
        scans: rounds in which the plain scan takes part; 0 leaves it out.
        threads: threads of the CPU; 0 leaves torch's choice.
        bright: share of the inputs that spike.
    """

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    batches: tuple[int, ...] = (1000, 1)
    repeats: int = 20
    scans: int = 2
    threads: int = 1
    bright: float = 0.13

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"a benchmark needs repeats >= 1, got {self.repeats}.")
        require(0 <= self.scans <= self.repeats, f"scans need 0 <= scans <= repeats, got {self.scans}.")


def main(config: Config) -> list[dict[str, Any]]:
    """One row per batch size; see `row`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    return [row(batch, config) for batch in config.batches]


def row(batch: int, config: Config) -> dict[str, Any]:
    """Medians in seconds, and ratios between medians of the same loop; `best_*` are between the fastest rounds.

    `peak_mb` is the most memory (MiB) that the process held while the spiking network and the rate network took turns.
    """
    net, times, labels = sample(batch, config)
    rate, x = rate_network(config.sizes), times.isfinite().to(times)
    steps = {"step": spiking(net, times, labels), "rate": lambda: F.cross_entropy(rate(x), labels).backward()}
    with torch.no_grad():
        trains = net(times).trains[:-1]
    activity = sum(float(t.isfinite().sum()) for t in trains) / batch / max(1, sum(config.sizes[1:-1]))
    with peak_memory() as peak:
        seconds = clock(steps, config.repeats, 3)
    if config.scans:
        seconds |= clock({"scan": scan(net, times)}, config.scans, 0)
    middle = {name: median(values) for name, values in seconds.items()}
    best = {name: min(values) for name, values in seconds.items()}
    found = {"step_per_rate": middle["step"] / middle["rate"], "best_step_per_rate": best["step"] / best["rate"]}
    if config.scans:
        found |= {"scan_per_step": middle["scan"] / middle["step"], "best_scan_per_step": best["scan"] / best["step"]}
    return {
        "network": "theta " + "-".join(map(str, config.sizes)),
        "batch": batch,
        **{f"{name}_s": value for name, value in middle.items()},
        **found,
        "activity": activity,
        "peak_mb": peak.mb,
        "threads": torch.get_num_threads(),
    }


def sample(batch: int, config: Config) -> tuple[ThetaNetwork, Tensor, Tensor]:
    """A network whose hidden neurons fire 0.42 times on average in a trial, its input times and labels."""
    rng = torch.Generator().manual_seed(0)
    net = ThetaNetwork(config.sizes)
    for layer in net.stack():
        nn.init.uniform_(layer.weight, -1, 1, generator=rng).data.div_(len(layer.weight) ** 0.5)
        nn.init.uniform_(layer.phase, 2.65, 5.0, generator=rng)
    on = torch.rand(batch, config.sizes[0], generator=rng) < config.bright
    return net, torch.where(on, 0.0201, torch.inf), torch.randint(config.sizes[-1], (batch,), generator=rng)


def rate_network(sizes: tuple[int, ...]) -> nn.Module:
    """The same sizes with ReLU."""
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.ReLU(), nn.Linear(a, b))))[1:]


def spiking(net: ThetaNetwork, times: Tensor, labels: Tensor) -> Step:
    """Forward, loss, backward."""
    return lambda: first_spike_loss(net(times).times[..., 0], labels, net.horizon).backward()


def scan(net: ThetaNetwork, times: Tensor) -> Step:
    """The same work as a scan over the events of the network, under autograd; in float64, because in float32 the
    potential of a neuron that has just spiked is lost in rounding.
    """

    def step() -> None:
        weights, phases = zip(*((layer.weight.double(), layer.phase.double()) for layer in net.stack()))
        for part in times.double().split(100):
            out, phase = theta_scan(part[..., None], weights, phases, net.neuron, net.horizon)[-1]
            net.neuron.continued(out, phase, net.horizon).sum().backward()

    return step


def clock(contestants: dict[str, Step], repeats: int, warm: int) -> dict[str, list[float]]:
    """Seconds of every contestant in every round, after `warm` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(warm + repeats):
        for name, run in contestants.items():
            start = perf_counter()
            run()
            seconds[name].append(perf_counter() - start)
    return {name: values[warm:] for name, values in seconds.items()}
