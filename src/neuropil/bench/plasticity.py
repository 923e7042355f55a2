"""How long one step of each learning rule takes, beside the one matrix product that it cannot do without.

A step is all that local learning adds to a batch: the rule with its own drive, `propose_`, and a step of plain SGD.
Two others run in the same loop, so that noise hits all alike. One is the bare drive product `F.linear(batch, weight)`,
the other the textbook formulation of the same law with dense matrices.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.bench._graphs import graph_cell, graph_seconds
from neuropil.bench._timing import clock, fastest, medians, peak_extra
from neuropil.errors import at_least, unknown
from neuropil.experiments.machine import Machine
from neuropil.plasticity import BCM, HardWTA, Hebb, KrotovHopfield, Oja, Rule, Sanger, SoftHebb, propose_
from neuropil.plasticity.geometry import product

CAPTION = """
A step is the rule with its own drive, propose_ and SGD; medians; {inputs} to {units}; {device}, threads: {threads}.
x GEMM: over the time of the bare drive product. faster: the textbook's time over that of the step; the textbook is
the law in dense matrices (drive, post factor of all units, its product with the batch, decay term), added in place.
of limit: fraction of the step that the law's multiply-adds need at the rate of the fastest drive of this loop.
extra: memory beyond weight, gradient and batch.
"""
RATE = 1e-8  # small enough to leave the weights alone
Law = Callable[[Tensor, Tensor], Tensor]  # (weight, batch) -> change


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        inputs: inputs of the dense layer.
        units: its units.
        batches: sizes of the batch.
        repeats: rounds of the loop; every contestant runs once in each.
        rules: names of the rules; empty for all.
    """

    inputs: int = 784
    units: int = 2000
    batches: tuple[int, ...] = (100, 1000)
    repeats: int = 40
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "units", "batches", "repeats")


@dataclass(frozen=True)
class Case:
    """A rule, what it is measured against, and the number of multiply-adds that its law needs at least."""

    rule: Rule
    textbook: Law
    products: Callable[[int, int, int], int]  # (batch, inputs, units) -> multiply-adds
    drive: torch.dtype = torch.float32


def krotov(weight: Tensor, x: Tensor, p: float = 3.0, k: int = 7, delta: float = 0.4) -> Tensor:
    """The change by Krotov & Hopfield with a dense post factor, a second product and a dense decay term.

    It is the published code in torch, made faster in two ways. The drives lie so that the top-k runs along contiguous
    units, and only `scaled(krotov)` divides by the largest entry.
    """
    u = x @ (weight.sign() * weight.abs() ** (p - 1)).T
    ranks = u.topk(k, 1).indices
    g = torch.zeros_like(u)
    g.scatter_(1, ranks[:, k - 1 :], -delta).scatter_(1, ranks[:, :1], 1.0)
    return g.T @ x - (g * u).sum(0)[:, None] * weight


def scaled(law: Law) -> Law:
    """`law` with its change divided by the largest absolute entry, as published."""

    def change(weight: Tensor, x: Tensor) -> Tensor:
        published = law(weight, x)
        return published / published.abs().max()

    return change


def sanger(weight: Tensor, x: Tensor) -> Tensor:
    """The generalised Hebbian algorithm with its triangle of outputs."""
    u = x @ weight.T
    return u.T @ x - (u.T @ u).tril() @ weight


def bcm(weight: Tensor, x: Tensor) -> Tensor:
    """Sliding threshold of one batch."""
    u = x @ weight.T
    return (u * (u - (u**2).mean(0))).T @ x


def instar(weight: Tensor, x: Tensor) -> Tensor:
    """Hard winner-take-all with a dense one-hot factor."""
    y = F.one_hot((x @ weight.T).argmax(1), len(weight)).to(x)
    return y.T @ x - y.sum(0)[:, None] * weight


def soft(weight: Tensor, x: Tensor) -> Tensor:
    """Soft competition."""
    u = x @ weight.T
    y = torch.softmax(u, 1)
    return y.T @ x - (y * u).sum(0)[:, None] * weight


def oja(weight: Tensor, x: Tensor) -> Tensor:
    """Hebb with a decay."""
    u = x @ weight.T
    return u.T @ x - (u**2).sum(0)[:, None] * weight


def one(batch: int, inputs: int, units: int) -> int:
    """Multiply-adds of the drive alone: the post factor is sparse."""
    return batch * inputs * units


def two(batch: int, inputs: int, units: int) -> int:
    """Multiply-adds of the drive and of a dense co-activity."""
    return 2 * batch * inputs * units


def triangle(batch: int, inputs: int, units: int) -> int:
    """`two` and the two half-empty products of a triangular decay term."""
    return two(batch, inputs, units) + (batch + inputs) * units * units // 2


CASES = {
    "Krotov-Hopfield": Case(KrotovHopfield(), krotov, one),
    "Krotov-Hopfield, sparse": Case(KrotovHopfield(sparse=True), krotov, one),
    "Krotov-Hopfield, p = 2": Case(KrotovHopfield(p=2.0), partial(krotov, p=2.0), one),
    "Krotov-Hopfield, p = 2, sparse": Case(KrotovHopfield(p=2.0, sparse=True), partial(krotov, p=2.0), one),
    "Krotov-Hopfield, scaled": Case(KrotovHopfield(normalise=True), scaled(krotov), one),
    "Krotov-Hopfield, bfloat16 drive": Case(KrotovHopfield(ranking_dtype=torch.bfloat16), krotov, one, torch.bfloat16),
    "hard WTA": Case(HardWTA(), instar, one),
    "SoftHebb": Case(SoftHebb(), soft, two),
    "Hebb": Case(Hebb(), lambda weight, x: (x @ weight.T).T @ x, two),
    "Oja": Case(Oja(), oja, two),
    "BCM": Case(BCM(), bcm, two),
    "Sanger": Case(Sanger(), sanger, triangle),
}


def main(config: Config) -> list[dict[str, Any]]:
    """One row per rule and batch size; see `row` for what is in it."""
    rows = []
    for batch in config.batches:
        for name in config.rules or CASES:
            if name not in CASES:
                raise unknown("rule", name, CASES)
            rows.append(row(name, CASES[name], batch, config))
    return rows


def row(name: str, case: Case, batch: int, config: Config) -> dict[str, Any]:
    """The measurements of one rule.

    Seconds are medians; ratios are between medians of the same loop. `of_limit` is the fraction of the step that the
    multiply-adds of the law take at the rate of the fastest drive product of the loop. That product has the
    rule's own dtype and any route. `best_*` are ratios between the fastest rounds, which a busy machine disturbs least.
    `peak_extra_mb` is the most memory (MiB) that a step holds beyond weight, gradient and batch.
    """
    layer, x = sample(config, batch)
    weight, baseline = layer.weight.detach(), layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=RATE)

    def step() -> None:
        propose_(layer, case.rule(layer, x, reduction="sum"))
        optimizer.step()

    low, low_x = weight.to(case.drive), x.to(case.drive)
    contestants: dict[str, Callable[[], object]] = {
        "gemm": lambda: F.linear(x, weight),
        "drive": lambda: product(low_x, low),
        "rule": lambda: case.rule(layer, x, reduction="sum"),
        "step": step,
        "textbook": lambda: baseline.add_(case.textbook(baseline, x), alpha=RATE),
    }
    times = clock(contestants, repeats=config.repeats, device=config.device)
    middle, best = medians(times), fastest(times)
    graphs = graph_seconds(contestants, repeats=config.repeats, device=config.device)
    limit = min(best["drive"], best["gemm"]) * case.products(batch, config.inputs, config.units)
    return {
        "rule": name,
        "batch": batch,
        "step_s": middle["step"],
        "rule_s": middle["rule"],
        "gemm_s": middle["gemm"],
        "textbook_s": middle["textbook"],
        "step_per_gemm": middle["step"] / middle["gemm"],
        "best_step_per_gemm": best["step"] / best["gemm"],
        "textbook_per_step": middle["textbook"] / middle["step"],
        "best_textbook_per_step": best["textbook"] / best["step"],
        "of_limit": limit / one(batch, config.inputs, config.units) / best["step"],
        "peak_extra_mb": peak_extra(step, config.device) / 2**20,
        **graphs,
        "threads": torch.get_num_threads(),
        **{key: value for key, value in asdict(config).items() if key in ("inputs", "units", "device")},
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    return {
        "rule": row["rule"],
        "batch": str(row["batch"]),
        "step": f"{1e3 * row['step_s']:.2f} ms",
        **graph_cell(row),
        "x GEMM": f"{row['step_per_gemm']:.2f}",
        "faster": f"{row['textbook_per_step']:.2f} x",
        "of limit": f"{row['of_limit']:.0%}",
        "extra": f"{row['peak_extra_mb']:.1f} MiB",
    }


def sample(config: Config, batch: int) -> tuple[nn.Linear, Tensor]:
    """A layer with N(0, 1) weights and a batch like images: one pixel in five is on."""
    rng = torch.Generator().manual_seed(0)
    layer = nn.Linear(config.inputs, config.units, bias=False)
    layer.weight.data = torch.randn(config.units, config.inputs, generator=rng)
    x = torch.rand(batch, config.inputs, generator=rng) * (torch.rand(batch, config.inputs, generator=rng) < 0.2)
    return layer.to(config.device), x.to(config.device)
