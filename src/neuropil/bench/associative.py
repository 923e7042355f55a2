"""How long a settling step and a trial of an associative network take, beside the matrix products they cannot avoid.

Two trials: naming (all pixels given, the label taught) and drawing (some pixels given, the others taught). The bare
products run in the same loop, on the same tensors, so that noise hits both alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from neuropil.associative import DRAW, NAME, AssociativeNetwork, AssociativeTraining, Settling, Teacher, Trial
from neuropil.bench.plasticity import clock
from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.machine import Machine

CAPTION = """
Medians; {inputs} pixels, {units} units for naming and {units} for drawing, 10 labels; {device}, threads: {threads}.
step: one sweep over all free groups. x GEMM: over its bare products. trial: settling, teacher event and change of the
weights; its x GEMM: over all products of the trial. epoch: {images} images, one trial each.
"""


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        inputs, units: pixels, and hidden units of each population.
        batches: sizes of the batch.
        settle, teach: steps of settling and of a teacher event in a trial.
        images: of an epoch.
        repeats: rounds of the loop.
    """

    inputs: int = 784
    units: int = 500
    batches: tuple[int, ...] = (50, 200)
    settle: int = 6
    teach: int = 3
    images: int = 60000
    repeats: int = 20

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "units", "batches", "settle", "teach", "images", "repeats")


def main(config: Config) -> list[dict[str, Any]]:
    """One row per kind of trial and batch size."""
    return [row(trial, batch, config) for trial in (NAME, DRAW) for batch in config.batches]


def row(trial: Trial, batch: int, config: Config) -> dict[str, Any]:
    """The measurements of one kind of trial, s."""
    rng = torch.Generator().manual_seed(0)
    x = (torch.rand(batch, config.inputs, generator=rng) * (torch.rand(batch, 1, generator=rng) < 0.5)).to(
        config.device
    )
    y = (torch.arange(batch) % 10).to(config.device)
    settling = Settling(config.settle, step=0.8, tolerance=0.0, check=config.settle)
    learner = AssociativeNetwork(
        (config.units,),
        config.units,
        settling=settling,
        teacher=Teacher(config.teach),
        practice=AssociativeTraining((NAME, DRAW)),
    )
    train = Split(x, y, 10)
    learner.net_, learner.shape_, learner.classes_ = learner.fresh(train, rng), x.shape[1:], 10
    optimizer = torch.optim.Adam(learner.groups_(), betas=(0.9, 0.99))
    calls = ready(learner, trial, x, y, rng)
    calls["trial"] = lambda: learner.practise_(trial, x, y, optimizer, rng)
    clocked = clock(calls, repeats=config.repeats, device=config.device)
    times = {name: median(values) for name, values in clocked.items()}
    settle, sweep = config.settle, times["products of a sweep"]
    bound = times["products once"] + (settle + config.teach) * sweep
    step = times["settling"] / settle
    return {
        "trial": "naming" if trial is NAME else "drawing",
        "batch": batch,
        "step_s": step,
        "step_per_gemm": step / sweep,
        "trial_s": times["trial"],
        "trial_per_gemm": times["trial"] / bound,
        "epoch_s": times["trial"] * config.images / batch,
        "epoch_gemm_s": bound * config.images / batch,
        "threads": torch.get_num_threads(),
        "inputs": config.inputs,
        "units": config.units,
        "images": config.images,
        "device": config.device,
    }


def ready(
    learner: AssociativeNetwork, trial: Trial, x: Tensor, y: Tensor, rng: torch.Generator
) -> dict[str, Callable[[], object]]:
    """Settling, and the bare products of its parts, as calls."""
    names = torch.nn.functional.one_hot(y, 10).to(x)
    state, free, fixed = learner.given(trial, x, names, y, rng)
    net = learner.net_
    weights = {(pre, post): net.between(pre, post).weight for pre, post in net.routes if post in free}
    inner = [(state[pre], weight) for (pre, _), weight in weights.items() if pre in free]
    outer = [(state[pre], weight) for (pre, _), weight in weights.items() if pre not in free]
    onto = [name for name in learner.plastic(trial.taught) if name in state]
    pairs = [(state[post].T, state[pre].T) for pre, post in net.routes if post in onto]
    multiply = lambda parts: [torch.mm(activity, weight.T) for activity, weight in parts]
    return {
        "settling": lambda: learner.settling(net, state, free, fixed),
        "products of a sweep": lambda: multiply(inner),
        "products once": lambda: multiply(outer + pairs),
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    return {
        "trial": row["trial"],
        "batch": str(row["batch"]),
        "step": f"{1e3 * row['step_s']:.3f} ms",
        "x GEMM": f"{row['step_per_gemm']:.2f}",
        "trial takes": f"{1e3 * row['trial_s']:.2f} ms",
        "trial x GEMM": f"{row['trial_per_gemm']:.2f}",
        "epoch": f"{row['epoch_s']:.1f} s",
    }
