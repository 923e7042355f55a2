"""How many steps an associative network needs to settle, against the momentum of settling.

A network learns to name, draw and complete digits. Then the same test images are named, and completed from their upper
half, with every momentum and step size, until no free unit is further than the tolerance from where its drive sends
it; accuracy and error are those of the settled state.

Measured: n = 5: to name digits it takes 1059 +- 137 steps of size 0.05, 183 +- 16 with momentum 0.8; 85 +- 11 of size
0.5, 41 +- 10 with 0.4; 30 +- 4 of size 1, 26 +- 12 with 0.2; accuracy is the same wherever it settled.

Try: neuropil run momentum --seeds 5 --out runs/momentum
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.associative import AssociativeNetwork, Settling
from neuropil.associative.tasks import half_images
from neuropil.experiments.associative import associative
from neuropil.experiments.comparison import data_splits
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, ORANGE, keep, panels
from neuropil.recipes import digits_mstdp
from neuropil.runs import Row, Run, TaggedTracker


@dataclass(frozen=True)
class Config(Machine):
    """What is tried."""

    seed: int = 0
    """of the split, of weights and of the order of images"""
    momenta: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
    """of settling"""
    sizes: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)
    """of a step of settling"""
    tolerance: float = 1e-4
    """settled when no free unit is further than this from where its drive sends it"""
    most: int = 2000
    """steps after which it counts as not settled"""
    epochs: int = 30
    """passes over the images before the test"""
    threads: int = 1
    """threads of the CPU; 0 for as many as torch takes by itself"""


def main(config: Config, run: Run) -> None:
    """Learn once, then settle with every momentum and step size."""
    train, test = data_splits("digits", 0, config.seed, device=config.device)
    run.update_metadata(data={"digits": {"train": train.checksum(), "test": test.checksum()}})
    rng = torch.Generator().manual_seed(config.seed)
    method = associative(digits_mstdp.Config(seed=config.seed, epochs=config.epochs), train, rng)
    tracker = TaggedTracker(run, learner=method.name, family="local", data="digits", seed=config.seed)
    learner: AssociativeNetwork = method.learner.fit(train, rng=rng, tracker=tracker)
    upper = half_images(test.x.shape[1:])[0].to(config.device)
    found: dict[str, dict[tuple[float, float], float]] = {"naming": {}, "completing": {}}
    for size in config.sizes:
        for momentum in config.momenta:
            settling = Settling(config.most, step=size, momentum=momentum, tolerance=config.tolerance, check=1)
            for task, row in settle_both(learner, settling, test.x, test.y, upper).items():
                metrics = {"task": task, "step": size, "momentum": momentum, **row}
                tracker.log(Row(kind="settling", metrics=metrics))
                found[task][size, momentum] = row["steps"]
    draw(found, config, run)


def settle_both(
    learner: AssociativeNetwork, settling: Settling, x: Tensor, y: Tensor, upper: Tensor
) -> dict[str, dict[str, float]]:
    """Steps and quality when `x` is named, and when it is completed from its `upper` half and its label `y`."""
    pixels, names = x.flatten(1), torch.nn.functional.one_hot(y, learner.classes_).to(x)
    free_label: dict[str, Tensor | None] = {"label": None}
    state, free, _ = learner.first_state(pixels, torch.zeros_like(names), free_label, "label")
    named = settling(learner.net_, state, free)
    right = (named.state["label"].argmax(1) == y).float().mean().item()
    missing = (1 - upper).expand_as(pixels)
    state, free, _ = learner.first_state(pixels * upper, names, {"pixels": missing}, "pixels")
    filled = settling(learner.net_, state, free)
    error = ((filled.state["pixels"] - pixels) * missing).square().sum() / missing.sum()
    return {
        "naming": {"steps": named.steps, "settled": float(named.done), "accuracy": right},
        "completing": {"steps": filled.steps, "settled": float(filled.done), "squared_error": error.item()},
    }


def draw(found: dict[str, dict[tuple[float, float], float]], config: Config, run: Run) -> None:
    """Steps against momentum, one panel for each task, one line for each step size."""
    with panels(1, 2, width=7, height=2.8) as (figure, axes):
        for axis, (task, steps) in zip(axes, found.items()):
            for k, size in enumerate(config.sizes):
                shade = (k + 1) / len(config.sizes)
                line = [steps[size, momentum] for momentum in config.momenta]
                axis.plot(config.momenta, line, "o-", color=BLUE if task == "naming" else ORANGE, alpha=shade)
                beside = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
                axis.annotate(f"{size:g}", (config.momenta[0], line[0]), **beside)
            axis.set(title=task, xlabel="momentum", ylabel="steps to settle", yscale="log")
            axis.margins(x=0.15)
        caption = (
            f"Steps until no free unit is further than {config.tolerance:g} from where its drive sends it, on all test "
            f"images; the number beside a line is the size of a step. {config.most} steps mean that it never settled."
        )
        keep(figure, run.folder, "momentum", caption)
