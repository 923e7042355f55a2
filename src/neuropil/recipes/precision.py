"""Accuracy against the number of bits of a weight, for every model of a finished run: what a chip designer asks.

Nothing is trained. The weights of each model are rounded once, after learning: to float16, and to 8, 4, 3, 2 and 1
bits. Each layer has one scale, or each unit. Biases and activity stay float32.

Measured: digits, n = 5, 95 % interval, points that 4 and 3 bits cost: Krotov-Hopfield 0.4 +- 0.5 and 0.8 +- 0.8,
association 0.4 +- 0.4 and 1.9 +- 1.8, mSTDP 0.8 +- 0.8 and 6.2 +- 3.3, backprop 0.1 +- 0.4 and 0.1 +- 0.7.

Group: robustness. Minutes: 1.

Try: neuropil run digits_mstdp --seeds 3 --out runs/digits, then neuropil run precision --of runs/digits --out runs/bits
"""

from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from rich.console import Console
from rich.table import Table

from neuropil.data import Split
from neuropil.errors import Refusal, require
from neuropil.evaluate import accuracy
from neuropil.evaluate.robustness.precision import accuracy_with_bits
from neuropil.evaluate.robustness.victim import victim_of
from neuropil.experiments.comparison import Origin
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.experiments.robustness import loaded
from neuropil.loading import saved_models
from neuropil.models.saving import Header
from neuropil.report.stats import interval, percent
from neuropil.runs import Row, Run, WarningRow

Found = dict[tuple[str, str], dict[int, list[float]]]  # learner and its family, bits: accuracies of the seeds
FULL = 32


@dataclass(frozen=True)
class Config(Machine):
    """Which models, and how many bits."""

    of: str = ""  # folder of a finished run, or of several; or the name of a network of the zoo
    bits: tuple[int, ...] = (16, 8, 4, 3, 2, 1)  # bits of a weight, from 1 to 8; 16 stands for float16
    scale: Literal["layer", "unit"] = "layer"  # whether each layer has a scale of its own, or each unit
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself


def main(config: Config, run: Run) -> None:
    """Every model with every number of bits, on all test examples."""
    require(bool(config.of), "setting 'of' is needed: the folder of the run whose models are rounded.")
    headers, found = saved_models(config.of), Found()
    require(bool(headers), f"{config.of} left no models.")
    several = len({header.about["data"] for header in headers}) > 1
    for header in headers:
        test, (method,) = test_of(header, config.device), loaded([header], config.device)
        tracker = method.tracker(run, header.about["data"], header.about["seed"])
        try:
            rounded = list(accuracy_with_bits(method.learner, test, config.bits, config.scale))
        except Refusal as refusal:  # the others go on
            tracker.log(WarningRow(message=f"its weights are not rounded: {refusal}"))
            continue
        name = f"{method.name}, {header.about['data']}" if several else method.name
        full = accuracy(victim_of(method.learner, test.classes), test)
        for bits, right in [(FULL, full), *rounded]:
            tracker.log(Row(kind="precision", metrics={"bits": bits, "scale": config.scale, "accuracy": right}))
            found.setdefault((name, method.family), {}).setdefault(bits, []).append(right)
    require(bool(found), f"none of the models of {config.of} has weights to round.")
    show(found)
    plot(found, run)


def test_of(header: Header, device: str) -> Split:
    """The test examples of a model."""
    origin = header.about["origin"]
    known = origin is not None and not origin["data_set"].endswith(".py")
    require(known, f"{header.path} does not say where its test examples come from, or takes them from a file of code.")
    return Origin(**origin).test(header.about["seed"], device)


def show(found: Found) -> None:
    """Print the accuracy of each learner, %, by bits: mean over its n seeds, with a 95 % interval."""
    bits = sorted({count for by_bits in found.values() for count in by_bits}, reverse=True)
    table = Table("accuracy, %", "n", *(f"{count} bits" for count in bits), box=None)
    for (name, _), by_bits in found.items():
        table.add_row(name, str(len(by_bits[FULL])), *(percent(*interval(by_bits[count])) for count in bits))
    Console().print(table)


def plot(found: Found, run: Run) -> None:
    """Mean accuracy of each learner over its seeds, against bits."""
    caption = "Accuracy on the test examples with weights of few bits, mean over seeds."
    with picture(run.folder, "precision", caption, width=4, height=2.8) as (axis,):
        for marker, ((name, family), by_bits) in zip(cycle("os^Dv"), found.items()):
            color = ORANGE if family == "local" else BLUE if name.startswith("backprop") else GREY
            means = [100 * sum(values) / len(values) for values in by_bits.values()]
            axis.plot([str(bits) for bits in by_bits], means, f"{marker}-", color=color, label=name)
        axis.set(xlabel="bits of a weight", ylabel="accuracy, %")
        axis.legend(frameon=False)
