"""How many sweeps an associative network needs to settle: plainly, with momentum, or with derivatives as targets.

A network learns to classify, generate and complete digits. Then the same test images are classified, and completed from
their upper half, in every way of settling. Settling ends when no free unit is further than the tolerance from where its
drive sends it. Accuracy and error are those of the settled state. Sweeps are counted for the whole batch, which waits
for its slowest image, and for each image by itself.

Measured: n = 5, 95 % interval, sweeps to classify digits at step size 1. Plain: 4.5 +- 0.5 for the mean image,
14.2 +- 1.6 for the slowest twentieth, 30 +- 4 for the batch. Momentum 0.2: 7.3 +- 0.6, 16.0 +- 0.9, 26 +- 12.
Targets by derivative: 3.1 +- 0.2, 6.4 +- 0.7, 16 +- 3. At step size 0.05 the batch needs 1059 +- 137 plainly, and
183 +- 16 with momentum 0.8.
Accuracy is the same wherever it settled.

Group: associative. Minutes: 2. Data: digits.

Try: neuropil run momentum --seeds 5 --out runs/momentum
Then: neuropil run momentum --of mnist-mstdp --step-sizes 1 --momenta 0 0.2 --out runs/mnist
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import neuropil
from neuropil.associative import (
    AssociativeNetwork,
    AssociativeTraining,
    DerivativeTargets,
    Nudge,
    Settled,
    Settling,
)
from neuropil.associative.connectivity import State
from neuropil.associative.inference import initial_state, state_to_classify
from neuropil.associative.settling import Masks
from neuropil.associative.tasks import CLASSIFY, CLASSIFY_PARTIAL, GENERATE
from neuropil.data import Split
from neuropil.data.masks import image_mask
from neuropil.experiments.comparison import data_splits
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.models import Distort
from neuropil.runs import Row, Run, TaggedTracker

NONE, CONSTANT, OWN = "none", "constant reach", "own derivative"
Way = tuple[str, Settling]  # what label units take for their target, and how activity settles
Start = tuple[State, Masks, State]
BATCH = 2000  # images at a time


@dataclass(frozen=True)
class Config(Machine):
    """What is tried."""

    seed: int = 0  # seed of the split, the weights and the order of images
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself
    of: str = ""  # run of an associative network, or one of the zoo, to be settled in place of a new network
    momenta: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)  # values of the momentum of settling
    step_sizes: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)  # step sizes of settling
    first_reach: float = 1.5  # how many times their pull label units move at first, where they set targets
    most_reach: float = 2.5  # how many times at most, by their own derivative
    constant_reach: float = 1.4  # how many times in the baseline, where label units reach further without derivative
    tolerance: float = 1e-4  # activity has settled when no free unit is further than this from where its drive sends it
    max_iterations: int = 2000  # iterations after which it counts as not settled
    epochs: int = 30  # passes over the training images before the test


def main(config: Config, run: Run) -> None:
    """Learn once, then settle in every way; the first way of each step size is what the others are compared with."""
    learner, test, tracker = learned(config, run)
    found: dict[str, dict[Way, Tensor]] = {}
    for task in ("classify", "complete") if learner.net_.generates else ("classify",):
        found[task] = {}
        for size in config.step_sizes:
            plain: State = {}
            for targets, settling in ways(config, size, task):
                batch, each = settle_both(learner, settling, task, test)
                found[task][targets, settling] = torch.where(each.residual < config.tolerance, each.sweeps, torch.inf)
                metrics = {"task": task, "step_size": size, "momentum": settling.momentum, "targets": targets}
                plain = plain or batch.state
                metrics |= counts(batch, each) | quality(task, test, batch.state) | beside(plain, batch.state)
                tracker.log(Row(kind="settling", metrics=metrics))
    plot_momentum(found, config, run)
    plot_sweeps(found["classify"], config, run)


def learned(config: Config, run: Run) -> tuple[AssociativeNetwork, Split, TaggedTracker]:
    """The network, its test images, and where rows go."""
    if config.of:
        learner: AssociativeNetwork = neuropil.load(config.of, can="complete", device=config.device)
        about = neuropil.saved_models(config.of, can="complete")[0].about
        data, seed = about["origin"]["data_set"], about["seed"]
    else:
        data, seed = "digits", config.seed
    train, test = data_splits(data, 0, seed, device=config.device)
    run.update_metadata(data={data: {"train": train.checksum(), "test": test.checksum()}})
    tracker = TaggedTracker(run, learner="mSTDP", family="local", data=data, seed=seed)
    if not config.of:
        learner = network(config.epochs).fit(train, rng=torch.Generator().manual_seed(seed), tracker=tracker)
    return learner, replace(test, x=test.pixels()), tracker


def network(epochs: int) -> AssociativeNetwork:
    """The network of `digits_mstdp`."""
    tasks, augment = (CLASSIFY, CLASSIFY_PARTIAL, GENERATE), Distort(rotation=8.0, scale=0.05, shear=0.05, shift=0.5)
    lr = {"classification": 3e-3, "completion": 3e-3, "label": 1e-2, "generation": 2e-3, "pixels": 1e-2}
    training = AssociativeTraining(tasks, epochs, 50, lr, lr_decay=0.95, augment=augment)
    settling, nudge = Settling(4, step_size=1.0, check_every=2), Nudge(3)
    gains = {"classification": 1.0, "completion": 1.0}
    return AssociativeNetwork((256,), 128, 128, settling=settling, nudge=nudge, training=training, init_gains=gains)


def ways(config: Config, size: float, task: str) -> Iterator[Way]:
    """Every momentum; where the label is free, a constant reach of its units too, and one by their own derivative."""
    settling = partial(Settling, config.max_iterations, size, tolerance=config.tolerance, check_every=1)
    for momentum in config.momenta:
        yield NONE, settling(momentum)
    if task == "classify":
        constant = config.constant_reach
        yield CONSTANT, settling(targets=DerivativeTargets(constant, constant, constant))
        yield OWN, settling(targets=DerivativeTargets(config.first_reach, most=config.most_reach))


def settle_both(learner: AssociativeNetwork, settling: Settling, task: str, test: Split) -> tuple[Settled, Settled]:
    """Where all images end together, and each by itself, when `test` is classified or completed."""
    batch, each = list[Settled](), list[Settled]()
    for rows in torch.arange(len(test)).split(BATCH):
        for ended, how in ((batch, settling), (each, settling.each)):
            state, free, _ = start(learner, task, test[rows])
            ended.append(how(learner.net_, state, free))
    return joined(batch), joined(each)


def start(learner: AssociativeNetwork, task: str, part: Split) -> Start:
    """First activity: of all pixels, or of the upper half and the label."""
    pixels = part.x.flatten(1)
    if task == "classify":
        return state_to_classify(learner.net_, pixels)
    known, label = upper(part), F.one_hot(part.y, learner.classes_).to(pixels)
    return initial_state(learner.net_, pixels * known, label, {"pixels": (1 - known).expand_as(pixels)}, "pixels")


def upper(part: Split) -> Tensor:
    """1 for the pixels of the upper half of an image, and 0 for the others."""
    return image_mask("top", part.x.shape[1:]).flatten().to(part.x)


def joined(parts: list[Settled]) -> Settled:
    """The same of all images."""
    state = {name: torch.cat([part.state[name] for part in parts]) for name in parts[0].state}
    residual, sweeps = (torch.cat([getattr(part, name) for part in parts]) for name in ("residual", "sweeps"))
    converged = all(part.converged for part in parts)
    return Settled(state, max(part.iterations for part in parts), residual, converged, sweeps)


def counts(batch: Settled, each: Settled) -> dict[str, float]:
    """Sweeps of the batch, of the mean image and of the slowest twentieth; work is sweeps times images."""
    sweeps = each.sweeps.double()
    return {
        "iterations": batch.iterations,
        "settled": float(batch.converged),
        "mean_sweeps": sweeps.mean().item(),
        "p95_sweeps": sweeps.quantile(0.95).item(),
        "batch_work": batch.sweeps.sum().item(),
        "work": each.sweeps.sum().item(),
    }


def quality(task: str, test: Split, state: State) -> dict[str, float]:
    """Accuracy, or squared error of a missing pixel."""
    if task == "classify":
        return {"accuracy": (state["label"].argmax(1) == test.y).float().mean().item()}
    missing = (1 - upper(test)).expand_as(state["pixels"])
    error = ((state["pixels"] - test.x.flatten(1)) * missing).square().sum() / missing.sum()
    return {"squared_error": error.item()}


def beside(plain: State, state: State) -> dict[str, float]:
    """Fraction of images with the label that plain settling gives, and the largest difference of an activity."""
    same = plain["label"].argmax(1) == state["label"].argmax(1)
    apart = max((plain[name] - state[name]).abs().max().item() for name in plain)
    return {"same_label": same.float().mean().item(), "apart": apart}


def plot_momentum(found: dict[str, dict[Way, Tensor]], config: Config, run: Run) -> None:
    """Iterations against momentum, one panel for each task, one line for each step size."""
    caption = (
        f"Iterations until no free unit is further than {config.tolerance:g} from where its drive sends it, on all "
        f"test images. The number beside a line is the step size. {config.max_iterations} iterations mean that it "
        "never settled."
    )
    with picture(run.folder, "momentum", caption, columns=len(found), width=3.5 * len(found), height=2.8) as axes:
        for axis, (task, sweeps) in zip(axes, found.items()):
            most = {(s.step_size, s.momentum): each.max().item() for (name, s), each in sweeps.items() if name == NONE}
            for k, size in enumerate(config.step_sizes):
                shade = (k + 1) / len(config.step_sizes)
                line = [min(most[size, momentum], config.max_iterations) for momentum in config.momenta]
                axis.plot(config.momenta, line, "o-", color=BLUE if task == "classify" else ORANGE, alpha=shade)
                place = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
                axis.annotate(f"{size:g}", (config.momenta[0], line[0]), **place)
            axis.set(title=task, xlabel="momentum", ylabel="iterations to settle", yscale="log")
            axis.margins(x=0.15)


def plot_sweeps(sweeps: dict[Way, Tensor], config: Config, run: Run) -> None:
    """How many images still move after each sweep, at the largest step size."""
    size = max(config.step_sizes)
    caption = f"Fraction of the test images that have not settled, classification, step size {size:g}."
    with picture(run.folder, "sweeps", caption, width=4, height=2.8) as (axis,):
        for (name, settling), each in sweeps.items():
            if settling.step_size != size or settling.momentum not in config.momenta[:2]:
                continue
            label = name if name != NONE else f"momentum {settling.momentum:g}"
            moving = [(each > k).float().mean().item() for k in range(1, 31)]
            color = {CONSTANT: GREY, OWN: ORANGE}.get(name, BLUE)
            axis.plot(range(1, 31), moving, color=color, ls="--" if settling.momentum else "-", label=label)
        axis.set(xlabel="sweeps", ylabel="still settling", yscale="log")
        axis.legend(frameon=False)
