"""How many iterations an associative network needs to settle, against the momentum of settling.

A network learns to classify, generate and complete digits. Then the same test images are classified, and completed from
their upper half, with every momentum and step size. Settling ends when no free unit is further than the tolerance from
where its drive sends it. Accuracy and error are those of the settled state.

Measured: n = 5, iterations to classify digits. Step size 0.05: 1059 +- 137, with momentum 0.8 183 +- 16.
Step size 0.5: 85 +- 11, with momentum 0.4 41 +- 10. Step size 1: 30 +- 4, with momentum 0.2 26 +- 12.
Accuracy is the same wherever it settled.

Group: associative. Minutes: 2. Data: digits.

Try: neuropil run momentum --seeds 5 --out runs/momentum
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.associative import AssociativeNetwork, AssociativeTraining, Nudge, Settled, Settling
from neuropil.associative.inference import initial_state, state_to_classify
from neuropil.associative.tasks import CLASSIFY, CLASSIFY_PARTIAL, GENERATE
from neuropil.data.masks import image_mask
from neuropil.experiments.comparison import data_splits
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, ORANGE, picture
from neuropil.models import Distort
from neuropil.runs import Row, Run, TaggedTracker

Found = dict[str, dict[tuple[float, float], float]]  # task, (step size, momentum): iterations


@dataclass(frozen=True)
class Config(Machine):
    """What is tried."""

    seed: int = 0  # seed of the split, the weights and the order of images
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself
    momenta: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)  # values of the momentum of settling
    step_sizes: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)  # step sizes of settling
    tolerance: float = 1e-4  # activity has settled when no free unit is further than this from where its drive sends it
    max_iterations: int = 2000  # iterations after which it counts as not settled
    epochs: int = 30  # passes over the training images before the test


def main(config: Config, run: Run) -> None:
    """Learn once, then settle with every momentum and step size."""
    train, test = data_splits("digits", 0, config.seed, device=config.device)
    run.update_metadata(data={"digits": {"train": train.checksum(), "test": test.checksum()}})
    rng = torch.Generator().manual_seed(config.seed)
    tracker = TaggedTracker(run, learner="mSTDP", family="local", data="digits", seed=config.seed)
    learner = network(config.epochs).fit(train, rng=rng, tracker=tracker)
    upper = image_mask("top", test.x.shape[1:]).flatten().to(config.device)
    found: Found = {"classify": {}, "complete": {}}
    for size in config.step_sizes:
        for momentum in config.momenta:
            settling = Settling(config.max_iterations, size, momentum, config.tolerance, check_every=1)
            for task, row in settle_both(learner, settling, test.x, test.y, upper).items():
                metrics = {"task": task, "step_size": size, "momentum": momentum, **row}
                tracker.log(Row(kind="settling", metrics=metrics))
                found[task][size, momentum] = row["iterations"]
    plot(found, config, run)


def network(epochs: int) -> AssociativeNetwork:
    """The network of `digits_mstdp`."""
    tasks, augment = (CLASSIFY, CLASSIFY_PARTIAL, GENERATE), Distort(rotation=8.0, scale=0.05, shear=0.05, shift=0.5)
    lr = {"classification": 3e-3, "completion": 3e-3, "label": 1e-2, "generation": 2e-3, "pixels": 1e-2}
    training = AssociativeTraining(tasks, epochs, 50, lr, lr_decay=0.95, augment=augment)
    settling, nudge = Settling(4, step_size=1.0, check_every=2), Nudge(3)
    gains = {"classification": 1.0, "completion": 1.0}
    return AssociativeNetwork((256,), 128, 128, settling=settling, nudge=nudge, training=training, init_gains=gains)


def settle_both(
    learner: AssociativeNetwork, settling: Settling, x: Tensor, y: Tensor, upper: Tensor
) -> dict[str, dict[str, float]]:
    """Iterations and quality when `x` is classified, and when it is completed from its `upper` half and label `y`."""
    net, pixels, label = learner.net_, x.flatten(1), torch.nn.functional.one_hot(y, learner.classes_).to(x)
    classified = settling(net, *state_to_classify(net, pixels))
    accuracy = (classified.state["label"].argmax(1) == y).float().mean().item()
    missing = (1 - upper).expand_as(pixels)
    completed = settling(net, *initial_state(net, pixels * upper, label, {"pixels": missing}, "pixels"))
    error = ((completed.state["pixels"] - pixels) * missing).square().sum() / missing.sum()
    ended: Callable[[Settled], dict[str, float]] = lambda s: {"iterations": s.iterations, "settled": float(s.converged)}
    completion = {**ended(completed), "squared_error": error.item()}
    return {"classify": {**ended(classified), "accuracy": accuracy}, "complete": completion}


def plot(found: Found, config: Config, run: Run) -> None:
    """Iterations against momentum, one panel for each task, one line for each step size."""
    caption = (
        f"Iterations until no free unit is further than {config.tolerance:g} from where its drive sends it, on all "
        f"test images. The number beside a line is the step size. {config.max_iterations} iterations mean that it "
        "never settled."
    )
    with picture(run.folder, "momentum", caption, columns=2, width=7, height=2.8) as axes:
        for axis, (task, iterations) in zip(axes, found.items()):
            for k, size in enumerate(config.step_sizes):
                shade = (k + 1) / len(config.step_sizes)
                line = [iterations[size, momentum] for momentum in config.momenta]
                axis.plot(config.momenta, line, "o-", color=BLUE if task == "classify" else ORANGE, alpha=shade)
                beside = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
                axis.annotate(f"{size:g}", (config.momenta[0], line[0]), **beside)
            axis.set(title=task, xlabel="momentum", ylabel="iterations to settle", yscale="log")
            axis.margins(x=0.15)
