"""How many random patches are worth a learned kernel: accuracy against the number of kernels, from folders of runs.

Run `python docs/results/wide.py runs/wide100 runs/wide200 ... docs/pictures/wide.png`: a folder for each width. For
each seed and width it asks how many random patches have the accuracy of a learner. Between two widths the accuracy of
random patches is taken as linear in the logarithm of their number; beyond the widest nothing is said.
"""

import sys
from collections import defaultdict
from math import log2
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from neuropil.report.stats import interval
from neuropil.runs import read

PATCHES = "random patches"
COLOURS = {"signed winner-take-all": "#D55E00", "k-means": "#0072B2", PATCHES: "#767676"}  # Okabe & Ito
Found = dict[str, dict[int, dict[int, float]]]  # learner, kernels, seed: accuracy, per cent


def gathered(folders: list[Path]) -> Found:
    """Accuracies of all runs below the folders."""
    found: Found = defaultdict(lambda: defaultdict(dict))
    for folder in folders:
        for part in sorted(folder.glob("seed-*")):
            run = read(part)
            for row in run.rows:
                if row["kind"] == "result":
                    found[row["learner"]][run.config["units"]][row["seed"]] = 100 * row["accuracy"]
    return found


def worth(found: Found, learner: str, units: int) -> list[float]:
    """Of each seed the number of random patches that have the accuracy of `learner`, relative to its `units`."""
    ratios = []
    for seed, accuracy in found[learner][units].items():
        curve = sorted((own[seed], log2(width)) for width, own in found[PATCHES].items() if seed in own)
        values, widths = zip(*curve)
        if not values[0] <= accuracy <= values[-1]:
            return []
        ratios.append(2 ** float(np.interp(accuracy, values, widths)) / units)
    return ratios


def plot(found: Found) -> Figure:
    """Mean and 95 % interval of each learner at each width."""
    figure = Figure(figsize=(4.6, 3.1), dpi=190, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for learner, colour in COLOURS.items():
        widths = sorted(units for units, own in found[learner].items() if len(own) > 1)
        middle, half = zip(*(interval([*found[learner][units].values()]) for units in widths))
        axes.errorbar(widths, middle, half, fmt="-o", ms=3, color=colour, label=learner, lw=1.6)
    axes.set_xscale("log", base=2)
    every = sorted(found[PATCHES])
    axes.set_xticks(every, [str(units) for units in every])
    axes.set_xlabel("kernels", fontsize=9)
    axes.set_ylabel("test accuracy, %", fontsize=9)
    axes.tick_params(length=0, labelsize=8.5)
    axes.minorticks_off()
    axes.grid(color="#d9dce1", lw=0.7)
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    *given, out = map(Path, sys.argv[1:])
    every = gathered(given)
    for learner in COLOURS:
        for units in sorted(every[learner]):
            ratios = [] if learner == PATCHES else worth(every, learner, units)
            middle, half = interval([*every[learner][units].values()])
            more = " = {:.2f} +- {:.2f} times as many random patches".format(*interval(ratios)) if ratios else ""
            print(f"{learner}, {units}: {middle:.2f} +- {half:.2f}{more}")
    plot(every).savefig(out)
