"""STDP of pairs and of triplets: windows, and how a change depends on the frequency of pairs, beside measured synapses.

A synapse sees 60 pairs of spikes at a frequency, pre before post or post before pre. The triplet rules have the
parameters that Pfister & Gerstner 2006 published. The pair rule gets the two amplitudes that fit the measurements best.
Its windows are those of the triplet rules, or the best of many, for all pairs of spikes or the nearest.
Measured are ten changes of synapses in visual cortex (Sjöström et al. 2001), each with its standard error. The error
of a rule is the mean square of its distance from them, in standard errors.

Measured: not random, so n = 1. Error of the pair rule 7.58, with the best windows 2.37. Error of the triplet rules 0.34
(all terms), 0.36 (minimal) and 0.23 (nearest spikes). neuropil run pair_triplet.

Group: STDP. Minutes: 0.2.

Try: neuropil run pair_triplet --out runs/pair_triplet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from neuropil.errors import at_least
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.plasticity import PairSTDP, TraceRule, TripletSTDP
from neuropil.runs import Row, Run

# frequency of pairs, Hz: relative change where pre comes 10 ms before post, its standard error, the same for post
# before pre. Sjöström, Turrigiano & Nelson 2001, Neuron 32, as in Pfister & Gerstner 2006, J. Neurosci. 26, figure 5
MEASURED = {
    0.1: (-0.04, 0.05, -0.29, 0.08),
    10.0: (0.14, 0.10, -0.41, 0.11),
    20.0: (0.29, 0.14, -0.34, 0.10),
    40.0: (0.53, 0.11, 0.56, 0.32),
    50.0: (0.56, 0.26, 0.75, 0.19),
}
SLOW = 1.0  # Hz; pairs that come more seldom do not see each other, so one counts for all
TRIPLETS = {
    "triplet": "visual cortex",
    "triplet, minimal": "visual cortex, minimal",
    "triplet, nearest": "visual cortex, nearest",
}
PAIRINGS = "all", "nearest"
PAIR, BEST = "pair, usual windows", "pair, best windows"
WINDOWS = (PAIR, "triplet, minimal")


@dataclass(frozen=True)
class Config(Machine):
    """The protocol of the experiment. Rules are exact on the grid of steps, so steps of 5 ms are as good as 1 ms."""

    pairs: int = 60  # how often a pair is repeated
    lag: float = 10e-3  # time from the first spike of a pair to the second, s
    dt: float = 5e-3  # length of a step, s; lags and periods are whole numbers of steps
    widths: tuple[float, ...] = (
        5e-3,
        10e-3,
        20e-3,
        35e-3,
        50e-3,
        0.1,
        0.2,
        0.5,
        0.9,
    )  # windows tried for the pair rule, s
    widest: float = 0.1  # largest lag in the windows, s
    window_frequencies: tuple[float, ...] = (0.1, 20.0, 40.0)  # frequencies of pairs in the windows, Hz

    def __post_init__(self) -> None:
        at_least(1, self, "pairs")
        at_least(self.dt, self, "lag", "widest", "widths")
        at_least(0.01, self, "window_frequencies")


def main(config: Config, run: Run) -> None:
    """Frequency dependence of all rules beside the measurements, then windows."""
    lanes = [(frequency, sign * config.lag) for frequency in MEASURED for sign in (1, -1)]
    measured = torch.tensor([one for mean in MEASURED.values() for one in (mean[0], mean[2])], dtype=torch.float64)
    errors = torch.tensor([one for mean in MEASURED.values() for one in (mean[1], mean[3])], dtype=torch.float64)
    rules = best_pairs(lanes, measured, errors, config)
    rules |= {name: TripletSTDP.published(published, config.dt) for name, published in TRIPLETS.items()}
    changes = {name: change_by_pairs(rule, lanes, config) for name, rule in rules.items()}
    for name, change in changes.items():
        away = (change - measured) / errors
        fit = {"rule": name, "error": away.square().mean().item(), "worst": away.abs().max().item()}
        run.log(Row(kind="fit", metrics=fit | {"constants": repr(rules[name])}))
        for (frequency, lag), got, mean, error in zip(lanes, change.tolist(), measured.tolist(), errors.tolist()):
            found = {"rule": name, "frequency": frequency, "lag": lag, "change": got}
            run.log(Row(kind="frequency", metrics={**found, "measured": mean, "standard_error": error}))
    windows = all_windows(rules, config)
    run.save(**{f"window, {name}, {frequency:g} Hz": line for (name, frequency), line in windows.items()})
    plot(changes, windows, config, run)


def change_by_pairs(rule: TraceRule, lanes: Sequence[tuple[float, float]], config: Config) -> Tensor:
    """Change of one synapse for each (frequency of pairs, Hz; lag of the post spike, s), which are independent."""
    seldom = torch.tensor([frequency < SLOW for frequency, _ in lanes])
    pre, post = rasters(lanes, config)
    n = len(lanes)
    layer = nn.Linear(n, n, bias=False, dtype=torch.float64, device=config.device)  # on its diagonal are the synapses
    pre, post = pre.to(config.device), post.to(config.device)
    memory, total = rule.init(layer, pre[0], post[0]), torch.zeros(n, dtype=torch.float64)
    for x, y in zip(pre, post):
        change, memory = rule.step(layer, x, y, memory)
        total += change.diagonal().cpu()
    return torch.where(seldom, config.pairs * total, total)


def rasters(lanes: Sequence[tuple[float, float]], config: Config) -> tuple[Tensor, Tensor]:
    """Pre and post spikes of all synapses, (time, 1, synapses); of seldom pairs there is one."""
    steps = lambda time: round(time / config.dt)
    times = []
    for frequency, lag in lanes:
        count = 1 if frequency < SLOW else config.pairs
        first = torch.arange(count) * steps(1 / frequency)
        times.append((first + max(steps(-lag), 0), first + max(steps(lag), 0)))
    end = 1 + max(int(train[-1]) for both in times for train in both)
    pre, post = torch.zeros(2, end, 1, len(lanes), dtype=torch.float64)
    for k, (before, after) in enumerate(times):
        pre[before, 0, k], post[after, 0, k] = 1, 1
    return pre, post


def best_pairs(
    lanes: Sequence[tuple[float, float]], measured: Tensor, errors: Tensor, config: Config
) -> dict[str, TraceRule]:  # fmt: skip
    """The pair rules nearest to `measured`: with the windows of the triplet rules, and with the best of all tried."""
    usual = ("all", TripletSTDP.tau_plus, TripletSTDP.tau_minus)
    aim, lone, fits = (measured / errors).numpy(), {}, {}
    for pairing, plus, minus in [usual, *product(PAIRINGS, config.widths, config.widths)]:
        given: dict[str, Any] = {"pairing": pairing, "dt": config.dt}
        for tau, up in ((plus, True), (minus, False)):
            rule = PairSTDP(tau, tau, float(up), float(not up), **given)
            if (pairing, tau, up) not in lone:
                lone[pairing, tau, up] = (change_by_pairs(rule, lanes, config) / errors).numpy()
        amplitudes, error = nnls(np.stack([lone[pairing, plus, True], lone[pairing, minus, False]], 1), aim)
        fits[pairing, plus, minus] = error, PairSTDP(plus, minus, *amplitudes.tolist(), **given)
    return {PAIR: fits[usual][1], BEST: min(fits.values(), key=itemgetter(0))[1]}


def all_windows(rules: dict[str, TraceRule], config: Config) -> dict[tuple[str, float], Tensor]:
    """Change against lag for the pair rule and the minimal triplet rule, at several frequencies."""
    return {
        (name, frequency): change_by_pairs(
            rules[name], [(frequency, lag) for lag in lags_of(frequency, config)], config
        )
        for name in WINDOWS
        for frequency in config.window_frequencies
    }


def lags_of(frequency: float, config: Config) -> list[float]:
    """The lags of a window, s: up to the widest, and shorter than half the time between two pairs."""
    most = min(config.widest, 0.5 / frequency if frequency >= SLOW else config.widest)
    steps = int(most / config.dt + 1e-9)
    return [step * config.dt for step in range(-steps, steps + 1) if step]


def plot(
    changes: dict[str, Tensor], windows: dict[tuple[str, float], Tensor], config: Config, run: Run
) -> None:  # fmt: skip
    """Windows on the left, frequency dependence on the right."""
    caption = (
        f"Left and middle: relative change by {config.pairs} pairs against the time of the post spike after the pre "
        f"spike; the darker, the more pairs in a second ({', '.join(f'{f:g}' for f in config.window_frequencies)} Hz). "
        "Right: change against the frequency of pairs 10 ms apart. Circles: pre first, squares: post first, measured "
        "in visual cortex, with standard errors. Lines: rules; solid: pre first, dashed: post first."
    )
    with picture(run.folder, "pair_triplet", caption, columns=3, width=9, height=2.9) as axes:
        for axis, name, colour in zip(axes, WINDOWS, (GREY, ORANGE)):
            for k, frequency in enumerate(config.window_frequencies):
                lags, line = torch.tensor(lags_of(frequency, config)), windows[name, frequency]
                for side in (lags < 0, lags > 0):
                    shade = (k + 1) / len(config.window_frequencies)
                    axis.plot(1000 * lags[side], line[side], ".-", color=colour, alpha=shade, ms=3)
            axis.axhline(0, color=GREY, lw=0.6)
            axis.set(title=name, xlabel="post spike after pre spike, ms", ylabel="relative change")
        frequencies = [*MEASURED]
        for k, (mark, mean) in enumerate((("o", 0), ("s", 2))):
            values, errors = ([row[mean + more] for row in MEASURED.values()] for more in (0, 1))
            axes[2].errorbar(frequencies, values, errors, fmt=mark, color="black", ms=4, elinewidth=0.8)
            for name, colour in ((PAIR, GREY), (BEST, BLUE), ("triplet, minimal", ORANGE)):
                label = name if k == 0 else None
                axes[2].plot(frequencies, changes[name][k::2], color=colour, ls=("-", "--")[k], label=label)
        axes[2].set(title="frequency dependence", xlabel="pairs per second", ylabel="relative change")
        axes[2].legend(frameon=False)
