"""Why QIF neurons: their spike times move without a jump when weights or inputs move; those of LIF neurons jump.

One neuron has an excitatory input at 0.5 and an inhibitory one. The figure follows its first spike while the excitatory
weight grows, and while the inhibitory input comes later and later. A spike of a QIF neuron vanishes through the end of
the trial, and a pseudospike goes on from there. A LIF neuron loses it in the middle of the trial. The lower panels show
the exact gradient (line) and finite differences (dots).

Measured: with steps four times as fine the largest change from point to point of a QIF spike shrinks.
It goes from 0.098 to 0.025 tau (weight) and from 0.020 to 0.0051 tau (time); LIF spikes jump by 2.0 and 2.2 tau at
either. Gradients and differences agree
to 1e-9 (relative). Nothing is random here; neuropil run concept.

Group: spiking. Minutes: 0.5.

Try: neuropil run concept --out runs/concept
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropil.errors import at_least
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.runs import Row, Run
from neuropil.spiking import LIF, QIF, simulate_lif, simulate_qif

EXCITATION = 0.5  # when the excitatory input comes, in membrane time constants


@dataclass(frozen=True)
class Config(Machine):
    """Chosen so that every curve has a spike that vanishes."""

    points: int = 1000  # points of every curve; four times as many in the finer one, whose largest jump is compared
    t_end: float = 3.0  # end of the trial, in membrane time constants
    qif_weight: float = 6.5  # excitatory weight of the QIF neuron while the inhibitory input moves
    lif_weight: float = 5.0  # the same for the LIF neuron
    inhibition: float = 4.0  # size of the inhibitory weight

    def __post_init__(self) -> None:
        at_least(2, self, "points")


Curve = Callable[[Tensor], Tensor]
FirstSpike = Callable[[Tensor, Tensor, float], Tensor]


def first_of(neuron: QIF | LIF) -> FirstSpike:
    """First spikes of neurons at rest for (n, inputs) times and weights: (n,).

    Pseudospikes continue those of QIF neurons; of a silent LIF neuron it is inf.
    """

    def first(times: Tensor, weights: Tensor, t_end: float) -> Tensor:
        rest, late = times.new_zeros(1), []
        for t, w in zip(times.unbind(), weights.unbind()):
            if isinstance(neuron, LIF):
                at, weight, start = t[None].cpu(), w[:, None].cpu(), rest.cpu()  # LIF neurons run on the CPU only
                late.append(simulate_lif(at, weight, start, start, neuron, t_end)[0][0, 0, 0].to(t.device))
            else:
                spikes, state = simulate_qif(t[None], w[:, None], rest, rest, neuron, t_end)
                late.append(neuron.with_pseudospikes(spikes, state, t_end)[0, 0, 0])
        return torch.stack(late)

    return first


def by_weight(first: FirstSpike, inhibition: float, t_end: float) -> Curve:
    """The first spike as a function of the excitatory weight; inhibition comes at twice its time."""
    times = torch.tensor([EXCITATION, 2 * EXCITATION], dtype=torch.float64)
    weights = lambda w: torch.stack((w, torch.full_like(w, -inhibition)), 1)
    return lambda w: first(times.to(w).expand(len(w), 2), weights(w), t_end)


def by_time(first: FirstSpike, weight: float, inhibition: float, t_end: float) -> Curve:
    """The first spike as a function of the time of inhibition."""
    weights = torch.tensor([weight, -inhibition], dtype=torch.float64)
    times = lambda t: torch.stack((torch.full_like(t, EXCITATION), t), 1)
    return lambda t: first(times(t), weights.to(t).expand(len(t), 2), t_end)


def main(config: Config, run: Run) -> None:
    """Four curves: two neurons, two ways to make a spike vanish."""
    end, inhibition, qif, lif = config.t_end, config.inhibition, first_of(QIF()), first_of(LIF())
    curves: dict[str, tuple[Curve, float, float]] = {
        "QIF, excitatory weight": (by_weight(qif, inhibition, end), 2.0, 20.0),
        "LIF, excitatory weight": (by_weight(lif, inhibition, end), 2.0, 10.0),
        "QIF, time of inhibition": (by_time(qif, config.qif_weight, inhibition, end), 0.01, 2.0),
        "LIF, time of inhibition": (by_time(lif, config.lif_weight, inhibition, end), 0.01, 2.0),
    }
    plotted = torch.full((len(curves), 4, config.points), torch.nan, dtype=torch.float64)
    for index in run.loop("curves", len(curves), plotted=plotted):
        name = list(curves)[index]
        curve, low, high = curves[name]
        points = partial(torch.linspace, low, high, dtype=torch.float64, device=config.device)
        at = points(config.points)
        time, slope, difference = follow(curve, at)
        finer = curve(points(4 * config.points))
        errors = (slope - difference).abs() / (1 + slope.abs())
        worst = errors[errors.isfinite()].max()  # a LIF neuron without a spike has no slope, at its jump no difference
        numbers = {"jump": jump(time, end), "jump_finer": jump(finer, end), "gradient_error": worst.item()}
        run.log(Row(kind="concept", metrics={"curve": name, **numbers}))
        plotted[index] = torch.stack((at, time, slope, difference))
    caption = "First spike against a weight or a time; below, its exact gradient (line), finite differences (dots)."
    with picture(run.folder, "concept", caption, rows=2, columns=len(curves), width=12, height=5) as axes:
        for upper, lower, values, name in zip(axes, axes[len(curves) :], plotted, curves):
            plot_curve(upper, lower, values, end, name)


def follow(curve: Curve, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The curve, its exact slope and its central difference, NaN where there is no spike to either side."""
    at = at.clone().requires_grad_()
    time = curve(at)
    (slope,) = torch.autograd.grad(torch.where(time.isfinite(), time, 0).sum(), at)
    with torch.no_grad():
        difference = (curve(at + 1e-6) - curve(at - 1e-6)) / 2e-6
    return time.detach(), torch.where(time.isfinite(), slope, torch.nan), difference


def jump(time: Tensor, t_end: float) -> float:
    """The largest change from one point to the next, a missing spike counted as one at the end of the trial."""
    return torch.where(time.isfinite(), time, t_end).diff().abs().max().item()


def plot_curve(upper: Any, lower: Any, values: Tensor, end: float, name: str) -> None:
    """One column of the figure, from where, time, slope and difference: (4, points)."""
    at, time, slope, difference = values.numpy()
    step, limits = max(1, len(at) // 30), (at[0], at[-1])
    colour = BLUE if name.startswith("QIF") else ORANGE
    pseudo, silent = (time > end) & np.isfinite(time), np.isinf(time)
    upper.plot(at, np.where(pseudo, time, np.nan), color=colour, ls=":", label="pseudospike")
    upper.plot(at, np.where(silent, 1.5 * end, np.nan), color=colour, lw=4, alpha=0.3, label="no spike")
    upper.plot(at, np.where(pseudo | silent, np.nan, time), color=colour, label="spike")
    upper.legend(frameon=False)
    upper.axhline(end, color=GREY, lw=0.8)
    upper.set(title=name, ylabel="first spike (tau)", ylim=(0, 1.7 * end), xlim=limits)
    lower.plot(at, slope, color=colour)
    lower.plot(at[::step], difference[::step], "o", color="black", ms=2.5)
    lower.set(xlabel=name.split(", ")[1], ylabel="its gradient", ylim=(-6, 6), xlim=limits)
