"""Plot what is left of old classes while new ones come: accuracy after each task, from folders of runs.

Run `python docs/results/continual.py runs/continual_mnist ... docs/pictures/continual.png`: a panel for each folder.
"""

import sys
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from neuropil.report.results import gather
from neuropil.report.stats import interval

INK, FAINT = "#1f2430", "#d9dce1"
COLOURS = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#E69F00", "#767676", "#D55E00", "#000000")  # Okabe & Ito
SHOWN = {
    "local + lateral inhibition": "local features, lateral inhibition",
    "random + lateral inhibition": "random features, lateral inhibition",
    "local + prototypes": "local features, prototypes",
    "random + class means": "random features, class means",
    "random + association": "random features, association",
    "random + delta rule": "backprop of the readout only",
    "backprop": "backprop",
    "backprop + EWC": "backprop with EWC",
}


def curves(folder: Path) -> tuple[str, dict[str, list[tuple[float, float]]]]:
    """The data set, and of each learner mean and half width after each task, in per cent."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    data = ""
    for one in gather([folder]).series:
        if one.stage == "after each task":
            data = one.data
            for task, value in zip(*one.numbers["accuracy"]):
                found[one.learner][task].append(100 * value)
    return data, {name: [interval(values) for _, values in sorted(own.items())] for name, own in found.items()}


def plot(folders: list[Path]) -> Figure:
    """One panel for each folder."""
    figure = Figure(figsize=(3.1 * len(folders) + 2.3, 3.1), dpi=190, facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(folders), sharey=True, squeeze=False)[0]
    for axes, folder in zip(panels, folders):
        data, found = curves(folder)
        for colour, (name, said) in zip(COLOURS, SHOWN.items()):
            if name in found:
                middle, half = zip(*found[name])
                style = "--" if "backprop" in said else "-"
                axes.errorbar(range(1, len(middle) + 1), middle, half, fmt=style, color=colour, label=said, lw=1.6)
        axes.set_title(data, fontsize=9.5, color=INK, loc="left")
        axes.set_xlabel("tasks so far, two classes each", fontsize=8.5, color=INK)
        axes.set(ylim=(0, 101), xticks=range(1, 6))
        axes.tick_params(length=0, labelsize=8.5, labelcolor=INK)
        axes.grid(axis="y", color=FAINT, lw=0.7)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("accuracy on all classes so far, %", fontsize=8.5, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    *given, out = map(Path, sys.argv[1:])
    plot(given).savefig(out)
