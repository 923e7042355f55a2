"""How long a time step of STDP takes, beside the plain line of torch, with many spikes and with few.

A step is the rule with its traces, `propose_` and a step of plain SGD. The plain line runs in the same loop. Its traces
decay in place, two products make the change, which is added to the weight, and traces take up the spikes. It checks
nothing. So do the two bare products alone, which bound a step of many spikes, and BindsNET where it is installed. The
same for a convolution, by step and by presentation with neurons that spike. Then `simulate` of the dense layer and its
neurons, which learn nothing, beside a loop over steps. The last row is a presentation of images to spiking units that
compete and learn, compiled as a whole.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from neuropil.bench import _peers
from neuropil.bench._timing import clock, fastest, medians, peak_extra
from neuropil.errors import at_least
from neuropil.experiments.machine import Machine
from neuropil.models import CompetitiveUnits
from neuropil.plasticity import PairSTDP, propose_
from neuropil.plasticity.stdp.pair import Traces
from neuropil.spiking import CurrentLIF, DeltaLIF, SpikingSequential, simulate

CAPTION = """
{inputs} to {units}, batch {batch}, threads: {threads}. Fastest of {repeats} rounds, which busy machines disturb least.
Convolution: {maps} to {kernels} maps of {side} x {side}, kernels of {kernel} x {kernel}, batch {conv_batch}.
step: rule with traces, propose_ and SGD. plain: the same law in plain torch, without checks. rule: the rule alone.
of bound: the two bare products over the step. GB/s: bytes that no step can do without, over the step.
extra: memory beyond weight, gradient, spikes and traces. A presentation is 16 steps of a convolution with its neurons,
or {shown} images for units that compete, one after the other. simulate: 64 steps, nothing learns; plain: a loop.
"""
RATE = 1e-8  # small enough to leave the weights alone
DENSITIES = {  # of pre- and of postsynaptic spikes in a step
    "50 % spike": (0.5, 0.5),
    "10 %": (0.1, 0.1),
    "1 % of inputs, 10 % of units": (0.01, 0.1),
    "1 %": (0.01, 0.01),
}
CONVOLUTION = "convolution, 10 %"
PRESENTED = "convolution, presentation"
SIMULATED = "simulate"
STEPS = 16  # with different spikes, so that traces fill up
SHOWN = 20  # images
Trains = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        inputs: inputs of the dense layer.
        units: its units.
        batch: samples in a step.
        maps, side, kernels, kernel, conv_batch: of the convolution: input maps, their width, kernels, width of these,
            samples in a step.
        repeats: rounds of the loop; every contestant runs once in each.
    """

    inputs: int = 784
    units: int = 400
    batch: int = 128
    maps: int = 6
    side: int = 28
    kernels: int = 30
    kernel: int = 5
    conv_batch: int = 4
    repeats: int = 40

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "units", "batch", "maps", "kernels", "kernel", "conv_batch", "repeats")
        at_least(self.kernel, self, "side")


def product(weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """Post times pre, summed over samples and positions, as plain torch has it: shaped like the weight."""
    return post.T @ pre if weight.ndim == 2 else conv2d_weight(pre, list(weight.shape), post)


class Plain:
    """The law of `PairSTDP` in plain torch, everything in place; `neuron` makes the spikes of a presentation."""

    def __init__(self, weight: Tensor, rule: PairSTDP, trains: Trains, neuron: DeltaLIF | None = None):
        self.weight, self.rule, self.trains, self.neuron = weight, rule, cycle(trains), neuron
        self.x, self.y = (torch.zeros_like(side) for side in trains[0])
        self.v = torch.zeros_like(self.y)
        self.samples = self.y[:, :1].numel()

    def step(self) -> None:
        """One time step."""
        self.learn(*next(self.trains))

    def learn(self, pre: Tensor, post: Tensor) -> None:
        """What spikes do."""
        rule = self.rule
        self.x.mul_(math.exp(-rule.dt / rule.tau_plus))
        self.y.mul_(math.exp(-rule.dt / rule.tau_minus))
        change = product(self.weight, self.x, post).mul_(rule.a_plus)
        change.sub_(product(self.weight, pre, self.y), alpha=rule.a_minus)
        self.weight.add_(change, alpha=RATE / self.samples)
        self.x.add_(pre)
        self.y.add_(post)

    def present(self) -> None:
        """`STEPS` steps of the convolution, its neurons and the rule, from rest."""
        assert self.neuron is not None
        for state in (self.x, self.y, self.v):
            state.zero_()
        for _ in range(STEPS):
            pre, _ = next(self.trains)
            self.v.mul_(math.exp(-self.neuron.dt / self.neuron.tau)).add_(F.conv2d(pre, self.weight))
            post = (self.v >= self.neuron.threshold).float()
            self.v.masked_fill_(post > 0, self.neuron.reset)
            self.learn(pre, post)


class Stepper:
    """The rule of the room on a layer, with its memory; spikes of each step are the next of `trains`, over and over."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rule: PairSTDP, trains: Trains, neuron: DeltaLIF | None = None):
        self.layer, self.rule, self.trains, self.neuron, self.first = layer, rule, cycle(trains), neuron, trains[0]
        self.memory: Traces = rule.init(layer, *trains[0])
        self.optimizer = torch.optim.SGD(layer.parameters(), lr=RATE)

    def change(self) -> Tensor:
        """What the rule says in a time step."""
        change, self.memory = self.rule.step(self.layer, *next(self.trains), self.memory)
        return change

    def step(self) -> None:
        """One time step, after which the weight has changed."""
        propose_(self.layer, self.change())
        self.optimizer.step()

    def present(self) -> None:
        """`STEPS` steps of the layer, its neurons and the rule, from rest."""
        assert self.neuron is not None
        memory, state = self.rule.init(self.layer, *self.first), self.neuron.init(self.first[1])
        for _ in range(STEPS):
            pre, _ = next(self.trains)
            with torch.no_grad():
                post, state = self.neuron.step(self.layer(pre), state)
            change, memory = self.rule.step(self.layer, pre, post, memory)
            propose_(self.layer, change)
            self.optimizer.step()


def main(config: Config) -> list[dict[str, Any]]:
    """A row for each density of spikes, two for a convolution, one for a simulation and one for a presentation."""
    rows = [row(name, config) for name in DENSITIES]
    for one in rows:
        one["faster_than_first"] = rows[0]["step_s"] / one["step_s"]
        one["rule_faster_than_first"] = rows[0]["rule_s"] / one["rule_s"]
    return [*rows, row(CONVOLUTION, config), convolved(config), simulated(config), presentation(config)]


def spikes(config: Config, density: tuple[float, float], shapes: tuple[tuple[int, ...], ...] = ()) -> Trains:
    """Pre- and postsynaptic spikes of some steps, with these probabilities; for the dense layer, or shaped so."""
    rng = Generator().manual_seed(0)
    both = tuple(zip(shapes or ((config.batch, config.inputs), (config.batch, config.units)), density))
    made = [[(torch.rand(shape, generator=rng) < p).float() for shape, p in both] for _ in range(STEPS)]
    return [(pre.to(config.device), post.to(config.device)) for pre, post in made]


def case(name: str, config: Config) -> tuple[nn.Linear | nn.Conv2d, Trains]:
    """A layer, and spikes of both of its sides."""
    if name in DENSITIES:
        return nn.Linear(config.inputs, config.units, bias=False).to(config.device), spikes(config, DENSITIES[name])
    layer, out = nn.Conv2d(config.maps, config.kernels, config.kernel, bias=False), config.side - config.kernel + 1
    like = (config.conv_batch, config.maps, config.side, config.side), (config.conv_batch, config.kernels, out, out)
    return layer.to(config.device), spikes(config, (0.1, 0.1), like)


def least(layer: nn.Linear | nn.Conv2d, pre: Tensor, post: Tensor) -> dict[str, int]:
    """Operations of the two products, and bytes that have to be read or written: weight, traces, spikes."""
    size, sides = layer.weight.numel(), pre.numel() + post.numel()
    fan_in = size // len(layer.weight)
    return {"operations": 2 * 2 * post.numel() * fan_in, "bytes": 4 * (2 * size + 3 * sides)}


def row(name: str, config: Config) -> dict[str, Any]:
    """Fastest and median times in seconds, ratios between times of the same loop."""
    (layer, trains), rule = case(name, config), PairSTDP(a_plus=0.9)
    ours, alone = (Stepper(layer, rule, trains) for _ in range(2))
    weight, (pre, post) = layer.weight.detach().clone(), trains[0]
    plain = Plain(weight, rule, trains)
    bare = lambda: (product(weight, pre, post), product(weight, pre, post))
    contestants: dict[str, Callable[[], object]] = {
        "step": ours.step, "plain": plain.step, "rule": alone.change, "products": bare,
    }  # fmt: skip
    peer = _peers.bindsnet(weight, rule, trains, RATE) if name in DENSITIES and config.device == "cpu" else None
    if peer:
        contestants["peer"] = peer[1]
    times = clock(contestants, repeats=config.repeats, device=config.device)
    best = fastest(times)
    found: dict[str, Any] = _times(best, medians(times)) | least(layer, pre, post)
    found["of_bound"] = best["products"] / best["step"]
    if peer:
        found |= {"peer": peer[0], "peer_per_step": best["peer"] / best["step"]}
    memory = peak_extra(ours.step, config.device) / 2**20
    return {"what": name, **found, "peak_extra_mb": memory, **_setting(config)}


def _times(best: dict[str, float], middle: dict[str, float]) -> dict[str, float]:
    """Times by name, and how much longer our step takes than the plain line."""
    found = {f"{key}_s": value for key, value in best.items()} | {f"{key}_median_s": v for key, v in middle.items()}
    return found | {"step_per_plain": best["step"] / best["plain"]}


def _setting(config: Config) -> dict[str, Any]:
    return {**asdict(config), "threads": torch.get_num_threads(), "shown": SHOWN}


def convolved(config: Config) -> dict[str, Any]:
    """A presentation of `STEPS` steps to a convolution whose neurons spike at 3 % and learn, beside plain torch."""
    (layer, trains), rule, neuron = case(PRESENTED, config), PairSTDP(a_plus=0.9), DeltaLIF(threshold=1.0)
    nn.init.uniform_(layer.weight, 0, 1.2 / layer.weight[0].numel() ** 0.5, generator=_seeded(config))
    ours, plain = Stepper(layer, rule, trains, neuron), Plain(layer.weight.detach().clone(), rule, trains, neuron)
    contestants = {"step": ours.present, "plain": plain.present}
    times = clock(contestants, repeats=min(10, config.repeats), device=config.device, warm=1, before=0)
    return {"what": PRESENTED, **_times(fastest(times), medians(times)), **_setting(config)}


def simulated(config: Config) -> dict[str, Any]:
    """64 steps of the dense layer with neurons: `simulate` beside a loop over the same network's steps."""
    layer, trains = case("10 %", config)
    nn.init.uniform_(layer.weight, 0, 12 / config.inputs, generator=_seeded(config))
    network, drive = SpikingSequential(layer, CurrentLIF()), torch.stack([pre for pre, _ in trains] * 4)
    contestants = {"step": lambda: simulate(network, drive).counts, "plain": lambda: stepped(network, drive)}
    times = clock(contestants, repeats=min(10, config.repeats), device=config.device, warm=1, before=0)
    return {"what": SIMULATED, **_times(fastest(times), medians(times)), **_setting(config)}


@torch.no_grad()
def stepped(network: SpikingSequential, drive: Tensor) -> Tensor:
    """What a loop over steps counts, (batch, *out)."""
    state = network.init(drive[0])
    counts, state = network.step(drive[0], state)
    for x in drive[1:]:
        out, state = network.step(x, state)
        counts += out
    return counts


def _seeded(config: Config) -> Generator:
    return Generator(config.device).manual_seed(0)


def presentation(config: Config) -> dict[str, Any]:
    """Seconds in which competing units learn from `SHOWN` images with 19 % of their pixels lit, 250 steps each."""
    rng = Generator().manual_seed(0)
    units = CompetitiveUnits(config.inputs, config.units)
    units.init_(rng)
    images = torch.rand(SHOWN, config.inputs, generator=rng) * (torch.rand(SHOWN, config.inputs, generator=rng) < 0.19)
    times = clock({"learn": lambda: units.learn_(images)}, repeats=min(5, config.repeats), warm=1, before=0)
    best = {"what": "presentation", "step_s": fastest(times)["learn"]}
    return {**best, **_setting(config)}


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    if row["what"] == "presentation":
        return {"what": row["what"], "step": f"{1e3 * row['step_s'] / row['shown']:.2f} ms an image"}
    shown = {
        "what": row["what"],
        "step": f"{1e3 * row['step_s']:.2f} ms",
        "plain": f"{1e3 * row['plain_s']:.2f} ms",
        "x plain": f"{row['step_per_plain']:.2f}",
    }
    if "rule_s" in row:
        shown |= {
            "of bound": f"{100 * row['of_bound']:.0f}%",
            "GB/s": f"{row['bytes'] / row['step_s'] / 1e9:.1f}",
            "faster": f"{row['faster_than_first']:.1f} x" if "faster_than_first" in row else "",
            "rule": f"{1e3 * row['rule_s']:.2f} ms",
            "rule faster": f"{row['rule_faster_than_first']:.1f} x" if "rule_faster_than_first" in row else "",
            "extra": f"{row['peak_extra_mb']:.0f} MiB",
        }
    return shown | ({row["peer"]: f"{row['peer_per_step']:.1f} x the step"} if "peer" in row else {})
