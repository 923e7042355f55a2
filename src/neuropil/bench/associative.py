"""How long an iteration of settling and a step of learning take, beside the matrix products they cannot avoid.

Two tasks: classify (all pixels clamped, the label is the target) and generate (some pixels clamped, the others are the
target). The bare products run in the same loop, on the same tensors, so that noise hits both alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, Nudge, Settling, Task
from neuropil.associative.learning import clamp_task
from neuropil.bench._graphs import graph_cell, graph_seconds
from neuropil.bench._timing import clock, medians
from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.machine import Machine

CAPTION = """
Medians; {inputs} pixels, {units} classification and {units} generation units, 10 labels; {device}, threads: {threads}.
iteration: one sweep over all free populations. x GEMM: over its bare products. step: settling, nudge and change of the
weights; its x GEMM: over all products of the step. epoch: {images} images, one step for each batch.
"""


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        inputs: pixels of an image.
        units: hidden units of each population.
        batches: sizes of the batch.
        max_iterations: iterations of settling in a step.
        nudge_steps: iterations of the nudged phase in a step.
        epoch_images: images of an epoch.
        repeats: rounds of the loop.
    """

    inputs: int = 784
    units: int = 500
    batches: tuple[int, ...] = (50, 200)
    max_iterations: int = 6
    nudge_steps: int = 3
    epoch_images: int = 60000
    repeats: int = 20

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "units", "batches", "max_iterations", "nudge_steps", "epoch_images", "repeats")


def main(config: Config) -> list[dict[str, Any]]:
    """One row per task and batch size."""
    return [row(task, batch, config) for task in (CLASSIFY, GENERATE) for batch in config.batches]


def row(task: Task, batch: int, config: Config) -> dict[str, Any]:
    """The measurements of one task, s."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(batch, config.inputs, generator=rng) * (torch.rand(batch, 1, generator=rng) < 0.5)
    x, y = x.to(config.device), (torch.arange(batch) % 10).to(config.device)
    most, units, nudge = config.max_iterations, config.units, Nudge(config.nudge_steps)
    settling = Settling(most, step_size=0.8, tolerance=0.0, check_every=most)
    learner = AssociativeNetwork((units,), units, settling=settling, nudge=nudge).initialise_(Split(x, y, 10), rng)
    optimizer = torch.optim.Adam(learner.training.parameter_groups(learner.net_), betas=(0.9, 0.99))
    calls = ready(learner, task, x, y, rng)
    calls["step"] = lambda: learner.train_step_(task, x, y, optimizer, rng)
    times = medians(clock(calls, repeats=config.repeats, device=config.device))
    sweep = times["products of an iteration"]
    bound = times["products once"] + (most + config.nudge_steps) * sweep
    iteration = times["settling"] / most
    return {
        "task": "classify" if task is CLASSIFY else "generate",
        "batch": batch,
        "iteration_s": iteration,
        "iteration_per_gemm": iteration / sweep,
        "step_s": times["step"],
        "step_per_gemm": times["step"] / bound,
        **graph_seconds(calls, repeats=config.repeats, device=config.device),
        "epoch_s": times["step"] * config.epoch_images / batch,
        "epoch_gemm_s": bound * config.epoch_images / batch,
        "threads": torch.get_num_threads(),
        "inputs": config.inputs,
        "units": config.units,
        "images": config.epoch_images,
        "device": config.device,
    }


def ready(
    learner: AssociativeNetwork, task: Task, x: Tensor, y: Tensor, rng: torch.Generator
) -> dict[str, Callable[[], object]]:
    """Settling, and the bare products of its parts, as calls."""
    net, label = learner.net_, torch.nn.functional.one_hot(y, 10).to(x)
    state, free, fixed = clamp_task(net, task, x, label, y, learner.shape_, rng)
    weights = {(pre, post): net.between(pre, post).weight for pre, post in net.projections if post in free}
    inner = [(state[pre], weight) for (pre, _), weight in weights.items() if pre in free]
    outer = [(state[pre], weight) for (pre, _), weight in weights.items() if pre not in free]
    onto = [name for name in net.plastic(task.target) if name in state]
    pairs = [(state[post].T, state[pre].T) for pre, post in net.projections if post in onto]
    multiply = lambda parts: [torch.mm(activity, weight.T) for activity, weight in parts]
    return {
        "settling": lambda: learner.settling(net, state, free, fixed),
        "products of an iteration": lambda: multiply(inner),
        "products once": lambda: multiply(outer + pairs),
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    return {
        "task": row["task"],
        "batch": str(row["batch"]),
        "iteration": f"{1e3 * row['iteration_s']:.3f} ms",
        "x GEMM": f"{row['iteration_per_gemm']:.2f}",
        "step": f"{1e3 * row['step_s']:.2f} ms",
        **graph_cell(row),
        "step x GEMM": f"{row['step_per_gemm']:.2f}",
        "epoch": f"{row['epoch_s']:.1f} s",
    }
