"""Plot LIF beside QIF: accuracy seed by seed, and the output time of one neuron that starts silent, from four runs.

Run `python docs/results/lif_qif.py runs/lif_qif runs/lif_qif_mnist runs/single_lif runs/single_qif
docs/pictures/lif_qif.png`: two comparisons, then `single_neuron` with each kind of neuron.
"""

import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from neuropil.runs import read

LIF, QIF, INK, FAINT = "#D55E00", "#0072B2", "#1f2430", "#d9dce1"  # Okabe & Ito
SHOWN = {"LIF": LIF, "LIF, weights bumped": "#E69F00", "QIF": QIF, "backprop": "#767676", "linear": "#000000"}
T_END = 10.0  # of the single neuron, in membrane time constants


def plot(folders: list[Path]) -> Figure:
    """Two panels of accuracies, two of output times: from silence, and from too many spikes."""
    figure = Figure(figsize=(11.5, 2.9), dpi=190, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 1.1))
    for axes, folder, title in zip(panels, folders, ("Yin-Yang", "MNIST by spike times")):
        accuracies(axes, folder, title)
    kept = {"LIF": read(folders[2]).tensors(), "QIF": read(folders[3]).tensors()}
    for axes, start in zip(panels[2:], ("from silence", "from too many")):
        times(axes, {name: tensors[f"{start}: path"] for name, tensors in kept.items()}, start)
    return figure


def accuracies(axes: Any, folder: Path, title: str) -> None:
    """A dot for each seed."""
    found: dict[str, list[float]] = {}
    for seed in sorted(folder.glob("seed-*")):
        for row in read(seed).rows:
            if row["kind"] == "result":
                found.setdefault(row["learner"], []).append(100 * row["accuracy"])
    for place, (name, colour) in enumerate(SHOWN.items()):
        values = found[name]
        axes.plot([place] * len(values), values, "o", color=colour, alpha=0.7, ms=5)
        axes.plot([place - 0.25, place + 0.25], [sum(values) / len(values)] * 2, color=colour, lw=2)
    axes.set_xticks(range(len(SHOWN)), ["LIF", "bumped", "QIF", "backprop", "linear"])
    axes.set_ylim(0, 101)
    dress(axes, f"{title}: test accuracy, %")


def times(axes: Any, paths: dict[str, Any], start: str) -> None:
    """The first two output times of each kind of neuron; at the end of the trial where there is none."""
    for (name, path), colour in zip(paths.items(), (LIF, QIF)):
        for spike in (0, 1):
            axes.plot(path[:, spike].clamp(max=13).numpy(), color=colour, lw=1.6, label=name if spike == 0 else None)
    for target in (2.5, 7.5):
        axes.axhline(target, color=INK, lw=0.8, ls=":")
    axes.axhline(T_END, color=INK, lw=0.8)
    axes.set_xlabel("update", fontsize=8.5, color=INK)
    axes.set_xlim(-10, 500)
    axes.legend(frameon=False, fontsize=8, loc=(0.7, 0.4))
    dress(axes, f"one neuron, {start}: spikes, tau")


def dress(axes: Any, title: str) -> None:
    """Title, size of labels, grid."""
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.grid(axis="y", color=FAINT, lw=0.7)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    *runs, picture = map(Path, sys.argv[1:])
    plot(runs).savefig(picture)
