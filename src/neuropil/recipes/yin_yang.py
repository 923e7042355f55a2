"""Yin-Yang by spike times: 120 hidden QIF neurons, exact gradients, with and without pseudospikes, beside baselines.

The four coordinates of a point are four spike times; a fifth input spikes at 0. The output neuron that fires first
names the class. Pseudospikes continue the spikes past the end of the trial, so that silent neurons have gradients too.
The loss asks the label's neuron to fire within the trial. Then ordinary spikes alone, all that neuromorphic hardware
would see, say the same. Settings were chosen on the published validation points (seed 41).

Measured: test, n = 5 seeds, mean and 95 % interval; 99.48 +- 0.14 % with pseudospikes, 99.12 +- 0.42 % from ordinary
spikes alone; backprop 98.72 +- 0.16 %, random features 95.6 +- 1.4 %, linear 63.9 %.

Group: start here. Minutes: 2. Data: yin_yang.

Try: neuropil run yin_yang --seeds 5 --out runs/yin_yang
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.comparison import Method, run_comparison
from neuropil.experiments.pictures import picture
from neuropil.experiments.settings import ComparisonSettings
from neuropil.models import SpikeTimeTraining, SpikingClassifier, SupervisedTraining
from neuropil.runs import ResultRow, Run, TaggedTracker
from neuropil.spiking import QIF, LinearTimeEncoding


@dataclass(frozen=True)
class Config(ComparisonSettings):
    """Chosen on the validation points."""

    shares: ClassVar[bool] = True
    units: int = 120  # number of hidden neurons, of every network that has them
    t_end: float = 4.0  # end of the trial, in membrane time constants
    span: float = 2.5  # when a coordinate of 1 spikes; a coordinate of 0 spikes at 0
    epochs: int = 100  # passes over the training points
    batch: int = 50  # points in one optimiser step
    lr: float = 5e-3  # first learning rate of AdaBelief; it falls to 0
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself


def exact_spikes(config: Config, train: Split, rng: Generator) -> Method:
    """Neurons that spike, trained end to end by exact gradients of their spike times.

    https://arxiv.org/abs/2309.14523
    """
    training = SpikeTimeTraining(
        epochs=config.epochs, batch=config.batch, lr=config.lr, lr_time_constant=None, flip_probability=0.0,
        inverse_temperature=10.0, early_weight=0.02, late_weight=0.2, margin=0.3, clip=1.0,
    )  # fmt: skip
    encode = LinearTimeEncoding(config.span)
    learner = SpikingClassifier((config.units,), encode=encode, neuron=QIF(), t_end=config.t_end, training=training)
    return Method("exact spikes", "spiking", learner)


def backprop(config: Config, train: Split, rng: Generator) -> Method:
    """A ReLU network with as many hidden units, trained end to end.

    https://doi.org/10.1038/323533a0
    """
    training = SupervisedTraining(epochs=config.epochs, lr=1e-2, weight_decay=1e-4)
    return baselines.backprop(hidden_layer(config), training)


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """The same with frozen random weights under a trained readout.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    head = SupervisedTraining(epochs=100, lr=1e-2)
    return baselines.frozen_features(hidden_layer(config), head)


def hidden_layer(config: Config) -> nn.Sequential:
    """A ReLU layer with weights N(0, 1) and thresholds spread over the square."""
    body = nn.Sequential(OrderedDict(hidden=nn.Linear(4, config.units), on=nn.ReLU()))
    rng = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.normal_(generator=rng)
    return body


METHODS = baselines.methods(exact_spikes, backprop, random_features)


def main(config: Config, run: Run) -> None:
    """One seed of the spiking network and its baselines: fitted, scored on the test points, logged and saved."""
    run_comparison(config.plan(METHODS, "yin_yang"), (), run, after=log_ordinary_spikes)


def log_ordinary_spikes(method: Method, train: Split, test: Split, tracker: TaggedTracker) -> None:
    """Log the accuracy from ordinary spikes alone and their number, and plot first spike times over the square."""
    if method.family != "spiking":
        return
    learner = method.learner
    accuracy = (learner.predict_from_spikes(test.x) == test.y).float().mean().item()
    layers = learner.activity(test.x)
    numbers = {"hidden_spikes": layers[0].float().mean().item(), "output_spikes": layers[1].float().mean().item()}
    name, data, seed = "exact spikes, ordinary only", tracker.data, tracker.seed
    alone = TaggedTracker(tracker.run, learner=name, family=method.family, data=data, seed=seed)
    alone.log(ResultRow(n_train=len(train), accuracy=accuracy, metrics=numbers))
    plot_times(learner, test, tracker.run)


def plot_times(learner: SpikingClassifier, test: Split, run: Run) -> None:
    """The classes, and when each output neuron fires first, over the square."""
    side = torch.linspace(0, 1, 200)
    x, y = torch.meshgrid(side, side, indexing="xy")
    grid = torch.stack((x, y, 1 - x, 1 - y), -1).view(-1, 4).to(test.x.device)
    times, classes = -learner.decision_function(grid).cpu(), learner.predict(grid).cpu()
    square: dict[str, Any] = {"origin": "lower", "extent": (0, 1, 0, 1)}
    caption = (
        "Yin-Yang: which output fires first, and when. Times at the top of the scale lie past the end of the trial."
    )
    with picture(run.folder, "yin_yang", caption, columns=4, width=11, height=2.9) as axes:
        axes[0].imshow(classes.view(200, 200).numpy(), **square, cmap="Pastel1")
        wrong = learner.predict(test.x) != test.y
        axes[0].scatter(*test.x[wrong, :2].T.cpu().numpy(), s=14, marker="x", color="black")
        axes[0].set_title(f"class; {int(wrong.sum())} of {len(test)} test points are wrong (x)")
        for k, axis in enumerate(axes[1:]):
            shown = axis.imshow(times[:, k].view(200, 200).numpy(), **square, vmax=learner.t_end)
            axis.set_title(f"first spike of output {k} (tau)")
            axis.figure.colorbar(shown, ax=axis, shrink=0.8)
