"""Pair STDP on Poisson spikes of changing rates beside presynaptic rate times change of the postsynaptic rate.

Writes the tables of stdp_limit.md to the terminal and its pictures: ``python docs/results/stdp_limit.py``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from neuropil.plasticity import PairSTDP

RULE = PairSTDP()
SAMPLES, SETTLED, RISE = 40_000, 200, 100  # synapses, steps before and after the rise, steps of the rise
BEFORE = 20.0  # postsynaptic rate before it changes, Hz
RISES = (-20.0, -10.0, 0.0, 10.0, 20.0, 30.0)  # of the postsynaptic rate, Hz
PRE = 40.0  # presynaptic rate, Hz
PICTURES = Path(__file__).parents[1] / "pictures"
SPIKES = (0.3, 1.0, 3.0, 10.0, 30.0)  # of either neuron in the time constant of depression
DELTA = 0.1  # relative change of the postsynaptic rate
LASTS = 3.0  # time with plasticity, in the same time constant


@dataclass(frozen=True)
class Case:
    """What may differ from the law's assumptions."""

    name: str
    rule: PairSTDP = RULE
    pre_rise: float = 0.0  # Hz, at the same time as the postsynaptic rate
    caused: float = 0.0  # probability that a presynaptic spike causes a postsynaptic one 3 ms later


CASES = (
    Case("presynaptic rate is steady"),
    Case("presynaptic rate rises, too, by 40 Hz", pre_rise=40.0),
    Case("windows are not balanced, a_minus = 1.05", PairSTDP(a_minus=1.05)),
    Case("2 % of presynaptic spikes cause a postsynaptic one", caused=0.02),
)


def law(rise: float) -> float:
    """A tau^2 x times the rise of y."""
    return RULE.a_minus * RULE.tau_minus**2 * PRE * rise


def ramp(start: float, rise: float) -> Tensor:
    """A rate that is settled, rises evenly and is settled again, Hz."""
    part = torch.linspace(0, 1, RISE)
    return start + rise * torch.cat([torch.zeros(SETTLED), part, torch.ones(SETTLED)])


def simulated(case: Case, rise: float, rng: torch.Generator) -> tuple[float, float]:
    """Mean change of a synapse and half of its 95 % interval."""
    x, y = ramp(PRE, case.pre_rise) * RULE.dt, ramp(BEFORE, rise) * RULE.dt
    random: Callable[[], Tensor] = lambda: torch.rand(SAMPLES, 1, generator=rng)
    total, memory = torch.zeros(SAMPLES, 1), case.rule.memory(torch.zeros(SAMPLES, 1), torch.zeros(SAMPLES, 1))
    late = [torch.zeros(SAMPLES, 1)] * 3
    for p, q in zip(x, y):
        pre = (random() < p).float()
        post = torch.maximum((random() < q).float(), late.pop(0) * (random() < case.caused))
        late.append(pre)
        terms, memory = case.rule.terms(pre, post, memory)
        total += sum(term.gain * term.pre * term.post for term in terms)
    return float(total.mean()), 1.96 * float(total.std()) / SAMPLES**0.5


def spread(spikes: float, ratio: float, lasts: float = LASTS) -> float:
    """Standard deviation of the change by one event, by law: tau_minus is `ratio` tau_plus, a_minus is 1."""
    return spikes * math.sqrt(lasts * (1 + ratio) / 2 + spikes / ratio + spikes)


def simulated_spread(spikes: float, ratio: float, rng: torch.Generator, synapses: int = 4000) -> float:
    """The same by simulation, in steps in which few spikes fall together."""
    tau, dt = 0.02, 0.02 / max(40.0, 40 * spikes)
    balance = math.expm1(ratio * dt / tau) / math.expm1(dt / tau)
    rule = PairSTDP(tau_plus=tau / ratio, tau_minus=tau, a_plus=balance, dt=dt)
    total, memory = torch.zeros(synapses, 1), rule.memory(torch.zeros(synapses, 1), torch.zeros(synapses, 1))
    fill, learn = round(6 * tau / dt), round(LASTS * tau / dt)
    for step in range(fill + learn):
        pre, post = ((torch.rand(synapses, 1, generator=rng) < spikes * dt / tau).float() for _ in range(2))
        terms, memory = rule.terms(pre, post, memory)
        if step >= fill:
            total += sum(term.gain * term.pre * term.post for term in terms)
    return float(total.std())


def needed(spread: float, spikes: float) -> float:
    """Events after which the mean change is as large as its standard error."""
    return (spread / (spikes**2 * DELTA * (1 - math.exp(-LASTS)))) ** 2


def noise(rng: torch.Generator) -> None:
    """The table and the picture of how many events a synapse needs."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    print("| spikes in the window | law | simulation | law, depression three times as long | simulation |")
    found = {ratio: [needed(simulated_spread(one, ratio, rng), one) for one in SPIKES] for ratio in (1.0, 3.0)}
    laws = {ratio: [needed(spread(one, ratio), one) for one in SPIKES] for ratio in found}
    for row, one in enumerate(SPIKES):
        cells = [f"{value[row]:,.0f}" for ratio in found for value in (laws[ratio], found[ratio])]
        print(f"| {one:g} | " + " | ".join(cells) + " |")
    for ratio, marker in zip(found, "os"):
        (line,) = axes.loglog(SPIKES, laws[ratio], label=f"law, tau_minus = {ratio:g} tau_plus")
        axes.loglog(SPIKES, found[ratio], marker, color=line.get_color())
    axes.set_xlabel("spikes of either neuron in tau_minus")
    axes.set_ylabel("events for one standard error")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "stdp_noise.png", dpi=110)


def main() -> None:
    """The tables and the pictures."""
    rng, figure = torch.Generator().manual_seed(0), Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(RISES, [law(rise) for rise in RISES], color="black", label="law: A tau² x change of y")
    print("| rise of y, Hz | law | " + " | ".join(case.name for case in CASES) + " |")
    found = {case: [simulated(case, rise, rng) for rise in RISES] for case in CASES}
    for row, rise in enumerate(RISES):
        cells = [f"{found[case][row][0]:+.3f} ± {found[case][row][1]:.3f}" for case in CASES]
        print(f"| {rise:+.0f} | {law(rise):+.3f} | " + " | ".join(cells) + " |")
    for case, marker in zip(CASES, "osv^"):
        mean, half = zip(*found[case])
        axes.errorbar(RISES, mean, half, fmt=marker, markersize=5, capsize=2, label=case.name)
    axes.set_xlabel("rise of the postsynaptic rate, Hz")
    axes.set_ylabel("mean change of a synapse")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "stdp_limit.png", dpi=110)
    noise(rng)


if __name__ == "__main__":
    main()
