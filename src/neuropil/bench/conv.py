"""How long a step of a convolutional rule takes, beside its drive and the textbook: unfold, product, ranks, product.

A step is the rule with its own drive, `propose_` and a step of plain SGD. Two others run in the same loop, so that
noise hits all alike. One is the bare product of all patches, already unfolded, with the weight. The other is the
textbook: it unfolds the whole batch, ranks all units of every position and makes a second, dense product.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.bench._graphs import graph_cell, graph_seconds
from neuropil.bench._timing import clock, medians, peak_extra
from neuropil.bench.plasticity import RATE, Law, krotov, scaled, soft
from neuropil.errors import at_least, require
from neuropil.experiments.machine import Machine
from neuropil.plasticity import KrotovHopfield, SoftHebb, propose_

CAPTION = """
A step is the rule with its own drive, propose_ and SGD; medians. Kernels {kernel} x {kernel}, batch {batch}.
{device}, threads: {threads}.
x GEMM: over the bare product of the unfolded patches. faster: the textbook's time over that of the step.
extra: memory beyond weight, gradient and batch.
"""


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        batch: images in a step.
        kernel: side of the kernels.
        repeats: rounds of the loop; every contestant runs once in each.
    """

    batch: int = 256
    kernel: int = 5
    repeats: int = 10

    def __post_init__(self) -> None:
        at_least(1, self, "batch", "kernel", "repeats")
        require(self.kernel <= 28, f"the smaller images have 28 x 28 pixels, got kernels of side {self.kernel}.")


GEOMETRIES = {"28 x 28 x 1, 400 kernels": (1, 28, 400), "32 x 32 x 3, 96 kernels": (3, 32, 96)}


RULES: dict[str, tuple[KrotovHopfield | SoftHebb, Law]] = {  # and the textbook of each
    "Krotov-Hopfield": (KrotovHopfield(normalise=True), scaled(krotov)),
    "SoftHebb": (SoftHebb(normalise=True), scaled(soft)),
}


def main(config: Config) -> list[dict[str, Any]]:
    """One row per rule and geometry; see `row`."""
    return [row(rule, geometry, config) for geometry in GEOMETRIES for rule in RULES]


def row(name: str, geometry: str, config: Config) -> dict[str, Any]:
    """Medians in seconds, ratios between medians of the same loop; `peak_extra_mb` (MiB) as in `bench plasticity`."""
    channels, side, units = GEOMETRIES[geometry]
    rule, textbook = RULES[name]
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, units, config.kernel, bias=False).to(config.device)
    x = torch.rand(config.batch, channels, side, side, device=config.device)
    baseline, optimizer = layer.weight.detach().flatten(1).clone(), torch.optim.SGD(layer.parameters(), lr=RATE)

    def unfolded() -> Tensor:
        return F.unfold(x, config.kernel).transpose(1, 2).flatten(0, 1)

    def step() -> None:
        propose_(layer, rule(layer, x))
        optimizer.step()

    def by_the_book() -> None:
        baseline.add_(textbook(baseline, unfolded()), alpha=RATE)

    bare: Callable[[], object] = partial(F.linear, unfolded(), baseline)
    contestants = {"gemm": bare, "step": step, "textbook": by_the_book}
    times = medians(clock(contestants, repeats=config.repeats, device=config.device))
    return {
        "rule": name,
        "geometry": geometry,
        "step_s": times["step"],
        "gemm_s": times["gemm"],
        "textbook_s": times["textbook"],
        "step_per_gemm": times["step"] / times["gemm"],
        "textbook_per_step": times["textbook"] / times["step"],
        **graph_seconds(contestants, repeats=config.repeats, device=config.device),
        "peak_extra_mb": peak_extra(step, config.device) / 2**20,
        "peak_extra_textbook_mb": peak_extra(by_the_book, config.device) / 2**20,
        **asdict(config),
        "threads": torch.get_num_threads(),
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    return {
        "rule": row["rule"],
        "geometry": row["geometry"],
        "step": f"{1e3 * row['step_s']:.1f} ms",
        **graph_cell(row),
        "x GEMM": f"{row['step_per_gemm']:.2f}",
        "faster": f"{row['textbook_per_step']:.1f} x",
        "extra": f"{row['peak_extra_mb']:.0f} MiB",
        "textbook's": f"{row['peak_extra_textbook_mb']:.0f} MiB",
    }
