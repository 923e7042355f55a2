"""How long a time step of STDP takes, beside the plain line of torch, with many spikes and with few.

A step is the rule with its traces, `propose_` and a step of plain SGD. The plain line runs in the same loop. Its traces
decay in place, two products make the change, which is added to the weight, and traces take up the spikes. It checks
nothing. The last row is a presentation of images to spiking units that compete and learn, compiled as a whole.
"""

import math
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Generator, Tensor, nn

from neuropil.bench._timing import clock, fastest, medians, peak_extra
from neuropil.errors import at_least
from neuropil.experiments.machine import Machine
from neuropil.models import CompetitiveUnits
from neuropil.plasticity import PairSTDP, propose_
from neuropil.plasticity.stdp.pair import Traces

CAPTION = """
{inputs} to {units}, batch {batch}, threads: {threads}. Fastest of {repeats} rounds, which busy machines disturb least.
step: rule with traces, propose_ and SGD. plain: the same law in plain torch, without checks. rule: the rule alone.
extra: memory beyond weight, gradient, spikes and traces. The presentation is {shown} images, one after the other.
"""
RATE = 1e-8  # small enough to leave the weights alone
DENSITIES = {  # of pre- and of postsynaptic spikes in a step
    "50 % spike": (0.5, 0.5),
    "10 %": (0.1, 0.1),
    "1 % of inputs, 10 % of units": (0.01, 0.1),
    "1 %": (0.01, 0.01),
}
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
        repeats: rounds of the loop; every contestant runs once in each.
    """

    inputs: int = 784
    units: int = 400
    batch: int = 128
    repeats: int = 40

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "units", "batch", "repeats")


class Plain:
    """The law of `PairSTDP` in plain torch, everything in place."""

    def __init__(self, weight: Tensor, rule: PairSTDP, trains: Trains):
        self.weight, self.rule, self.trains = weight, rule, cycle(trains)
        self.x, self.y = (torch.zeros_like(side) for side in trains[0])

    def step(self) -> None:
        """One time step."""
        rule, (pre, post) = self.rule, next(self.trains)
        self.x.mul_(math.exp(-rule.dt / rule.tau_plus))
        self.y.mul_(math.exp(-rule.dt / rule.tau_minus))
        change = rule.a_plus * (post.T @ self.x) - rule.a_minus * (self.y.T @ pre)
        self.weight.add_(change, alpha=RATE / len(pre))
        self.x.add_(pre)
        self.y.add_(post)


class Stepper:
    """The rule of the room on a layer, with its memory; spikes of each step are the next of `trains`, over and over."""

    def __init__(self, layer: nn.Linear, rule: PairSTDP, trains: Trains):
        self.layer, self.rule, self.trains = layer, rule, cycle(trains)
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


def main(config: Config) -> list[dict[str, Any]]:
    """A row for each density of spikes, then one for a presentation."""
    rows = [row(name, config) for name in DENSITIES]
    for one in rows:
        one["faster_than_first"] = rows[0]["step_s"] / one["step_s"]
        one["rule_faster_than_first"] = rows[0]["rule_s"] / one["rule_s"]
    return [*rows, presentation(config)]


def spikes(config: Config, density: tuple[float, float]) -> Trains:
    """Pre- and postsynaptic spikes of some steps, with these probabilities."""
    rng = Generator().manual_seed(0)
    sides = tuple(zip((config.inputs, config.units), density))
    made = [[(torch.rand(config.batch, n, generator=rng) < p).float() for n, p in sides] for _ in range(STEPS)]
    return [(pre.to(config.device), post.to(config.device)) for pre, post in made]


def row(name: str, config: Config) -> dict[str, Any]:
    """Fastest and median times in seconds, ratios between times of the same loop."""
    trains = spikes(config, DENSITIES[name])
    layer, rule = nn.Linear(config.inputs, config.units, bias=False).to(config.device), PairSTDP(a_plus=0.9)
    ours, alone = (Stepper(layer, rule, trains) for _ in range(2))
    plain = Plain(layer.weight.detach().clone(), rule, trains)
    contestants = {"step": ours.step, "plain": plain.step, "rule": alone.change}
    times = clock(contestants, repeats=config.repeats, device=config.device)
    best, middle = fastest(times), medians(times)
    return {
        "what": name,
        **{f"{key}_s": value for key, value in best.items()},
        **{f"{key}_median_s": value for key, value in middle.items()},
        "step_per_plain": best["step"] / best["plain"],
        "peak_extra_mb": peak_extra(ours.step, config.device) / 2**20,
        **asdict(config),
        "threads": torch.get_num_threads(),
        "shown": SHOWN,
    }


def presentation(config: Config) -> dict[str, Any]:
    """Seconds in which competing units learn from `SHOWN` images with 19 % of their pixels lit, 250 steps each."""
    rng = Generator().manual_seed(0)
    units = CompetitiveUnits(config.inputs, config.units)
    units.init_(rng)
    images = torch.rand(SHOWN, config.inputs, generator=rng) * (torch.rand(SHOWN, config.inputs, generator=rng) < 0.19)
    times = clock({"learn": lambda: units.learn_(images)}, repeats=min(5, config.repeats), warm=1, before=0)
    best = {"what": "presentation", "step_s": fastest(times)["learn"]}
    return {**best, **asdict(config), "threads": torch.get_num_threads(), "shown": SHOWN}


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    if row["what"] == "presentation":
        return {"what": row["what"], "step": f"{1e3 * row['step_s'] / row['shown']:.2f} ms an image"}
    return {
        "what": row["what"],
        "step": f"{1e3 * row['step_s']:.2f} ms",
        "plain": f"{1e3 * row['plain_s']:.2f} ms",
        "x plain": f"{row['step_per_plain']:.2f}",
        "faster": f"{row['faster_than_first']:.1f} x",
        "rule": f"{1e3 * row['rule_s']:.2f} ms",
        "rule faster": f"{row['rule_faster_than_first']:.1f} x",
        "extra": f"{row['peak_extra_mb']:.0f} MiB",
    }
