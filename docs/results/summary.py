"""Plot `summary.csv`: where local learning is ahead of its baselines and where it is behind.

Run `python docs/results/summary.py` after an edit of the table; it writes `docs/pictures/summary.png`.
"""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
AHEAD, LEVEL, BEHIND, INK, FAINT = "#0072B2", "#767676", "#D55E00", "#1f2430", "#d9dce1"  # Okabe & Ito
PANELS = (
    ("minus_backprop", "minus backprop"),
    ("minus_frozen", "minus frozen random weights"),
    ("minus_patches", "minus frozen images or patches"),
)
LIMITS = (-7.8, 10.5)


def positions(rows: list[dict[str, str]]) -> list[float]:
    """Height of each row from the top, with a gap before the rows with few labels."""
    first_few = next(i for i, row in enumerate(rows) if row["labels"] == "few")
    return [-i - (1.2 if i >= first_few else 0.0) for i in range(len(rows))]


def plot_row(axes: Axes, y: float, difference: str, interval: str) -> None:
    """One difference with its interval: filled beyond zero, hollow where the interval holds it."""
    mean, half = float(difference), float(interval)
    colour = AHEAD if mean - half > 0 else BEHIND if mean + half < 0 else LEVEL
    if mean > LIMITS[1]:
        axes.annotate("", (LIMITS[1] - 0.1, y), (LIMITS[1] - 1.5, y), arrowprops={"arrowstyle": "-|>", "color": colour})
    else:
        axes.plot([mean - half, mean + half], [y, y], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
        face = "white" if colour == LEVEL else colour
        axes.plot(mean, y, "o", color=colour, markerfacecolor=face, ms=5.5, zorder=3)
    number = difference.replace("-", "−") if mean <= 0 else f"+{difference}"
    axes.text(LIMITS[1] + 0.25, y, number, va="center", color=colour, fontsize=8.5)


def plot(rows: list[dict[str, str]]) -> Figure:
    """Three panels over the same rows: the local learner minus each baseline of the same width, in points."""
    figure = Figure(figsize=(11.0, 6.6), dpi=190, facecolor="white")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    figure.subplots_adjust(left=0.325, right=0.95, top=0.865, bottom=0.085, wspace=0.23)
    heights = positions(rows)
    for axes, (column, title) in zip(panels, PANELS):
        axes.axvline(0, color=INK, lw=0.9, zorder=1)
        for y, row in zip(heights, rows):
            if row[f"{column}_ci"]:
                plot_row(axes, y, row[column], row[f"{column}_ci"])
            else:
                axes.text(0.25, y, row[column] or "not run", va="center", color=LEVEL, fontsize=8.5)
        axes.set_title(title, fontsize=9.5, color=INK, loc="left", pad=9)
        axes.set_xlim(*LIMITS)
        axes.set_xticks([-4, 0, 4, 8], ["−4", "0", "+4", "+8"])
        axes.tick_params(length=0, labelsize=8.5, labelcolor=INK)
        axes.grid(axis="x", color=FAINT, lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    panels[0].set_ylim(heights[-1] - 0.6, 0.6)
    panels[0].set_yticks(heights, [f"{row['task']}: {row['method']}, n = {row['n']}" for row in rows])
    few = next(y for y, row in zip(heights, rows) if row["labels"] == "few")
    for y, text in ((1.0, "all labels"), (few + 1, "few labels")):
        panels[0].text(LIMITS[0] - 0.35, y, text, fontsize=9.5, fontweight="bold", color=INK, ha="right", va="center")
    title = "Local learning against its baselines: test accuracy, points, 95 % interval over seeds"
    figure.text(0.012, 0.968, title, fontsize=10.5, fontweight="bold", color=INK, va="center")
    key = ((0.52, AHEAD, "● ahead"), (0.64, LEVEL, "○ level within the interval"), (0.885, BEHIND, "● behind"))
    for x, colour, text in key:
        figure.text(x, 0.02, text, fontsize=8.5, color=colour, va="center")
    return figure


if __name__ == "__main__":
    with open(HERE / "summary.csv", encoding="utf-8", newline="") as table:
        plot(list(csv.DictReader(table))).savefig(HERE.parent / "pictures" / "summary.png")
