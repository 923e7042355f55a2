"""Spiking units learn MNIST without labels by STDP alone, 400 units, beside k-means of the same size and backprop.

Units with conductances see Poisson spikes of an image, inhibit each other and tire. Pairs of spikes change their
synapses. After learning each unit is assigned to the class of training images that it answers most, and they vote.
Of the published network the inhibitory neurons are left out: a spike of a unit inhibits all others directly.

Measured: 91.80 +- 0.62 % (n = 3, 95 % interval); k-means 91.75 +- 1.34, random training images 84.09 +- 1.23. With all
labels: random features 93.57 +- 0.09, linear 92.75 +- 0.12, backprop 98.51 +- 0.10. Published: 87.0.

Group: STDP. Minutes: 4. Data: mnist.

Try: neuropil run diehl_cook --seeds 3 --out runs/diehl_cook
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.baselines import backprop, frozen_features, methods, relu_network
from neuropil.experiments.comparison import Method, run_comparison
from neuropil.experiments.k_means import k_means_centres
from neuropil.experiments.settings import FeatureSettings
from neuropil.models import CompetitiveLearning, CompetitiveUnits, VotingClassifier, Winner
from neuropil.plasticity import PairSTDP
from neuropil.runs import Run
from neuropil.spiking import ConductanceLIF, PoissonEncoding


@dataclass(frozen=True)
class Config(FeatureSettings):
    """Chosen on 10,000 images held out of the training images; see docs/results/stdp.md."""

    data: str = "mnist"  # data set, or images of your own, by path
    units: int = 400  # spiking units; also centres of k-means, and units of all other baselines
    epochs: int = 1  # passes of the spiking units over the images, without labels
    rate: float = 128.0  # spikes of a white pixel in a second
    duration: float = 0.25  # of a presentation, s
    dt: float = 1e-3  # length of a time step, s
    a_plus: float = 1e-2  # change of a synapse by a spike of its unit just after an input spike
    a_minus: float = 5e-5  # change by an input spike just after one of the unit
    mean_weight: float = 0.1  # to which the weights of each unit are normalised before an image
    excitation: float = 125.0  # conductance if all inputs spiked at once, in units of the leak
    inhibition: float = 17.0  # conductance that a spike opens in all other units, in units of the leak
    theta_plus: float = 3e-5  # by how much a spike raises the threshold of its unit, V
    tau_theta: float = 1e4  # time in which this is forgotten, s
    max_labelled: int = 10_000  # training images by whose labels units are assigned

    def __post_init__(self) -> None:
        at_least(1, self, "units", "epochs", "max_labelled")


def diehl_cook(config: Config, train: Split, rng: Generator) -> Method:
    """Spiking units that compete and learn from images by STDP; assigned to classes afterwards, they vote.

    https://doi.org/10.3389/fncom.2015.00099
    """
    inputs = train.x[0].numel()
    total = config.mean_weight * inputs
    neuron = ConductanceLIF(theta_plus=config.theta_plus, tau_theta=config.tau_theta, dt=config.dt)
    rule = PairSTDP(a_plus=config.a_plus, a_minus=config.a_minus, pairing="nearest", dt=config.dt)
    encoding = PoissonEncoding(config.rate, config.duration, config.dt)
    hidden = CompetitiveUnits(
        inputs, config.units, neuron, rule, encoding, excitation=config.excitation / total,
        inhibition=config.inhibition, total=total, seed=config.seed,
    )  # fmt: skip
    hidden.init_(rng)
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden))
    learner = VotingClassifier(body, learning=CompetitiveLearning(config.epochs), max_labelled=config.max_labelled)
    return Method("STDP", "local", learner)


def k_means(config: Config, train: Split, rng: Generator) -> Method:
    """As many centres of mini-batch k-means; the nearest answers an image, and centres vote as spiking units do.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    found = k_means_centres(train.pixels().flatten(1), config.units, config.seed).cpu()
    return nearest("k-means", found, config, train)


def random_examples(config: Config, train: Split, rng: Generator) -> Method:
    """As many training images, chosen at random, in the place of the centres.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    chosen = torch.randperm(len(train), generator=rng)[: config.units]
    return nearest("random examples", train[chosen.to(train.y.device)].pixels().flatten(1).cpu(), config, train)


def nearest(name: str, centres: Tensor, config: Config, train: Split) -> Method:
    """Units of which the one with the nearest centre answers."""
    hidden = nn.Linear(centres.shape[1], len(centres)).requires_grad_(False)
    hidden.weight.copy_(2 * centres)
    hidden.bias.copy_(-centres.square().sum(1))
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden, winner=Winner()))
    return Method(name, "baseline", VotingClassifier(body, max_labelled=len(train)))


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """As many units with frozen random weights, under a linear readout that learns from all labels.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    return frozen_features(relu_network([train.x[0].numel(), config.units], rng), config.readout())


def end_to_end(config: Config, train: Split, rng: Generator) -> Method:
    """A network with as many hidden units, trained with backpropagation.

    https://doi.org/10.1038/323533a0
    """
    network = relu_network([train.x[0].numel(), config.units], rng)
    return backprop(network, config.end_to_end(config.backprop_min_steps))


METHODS = methods(diehl_cook, k_means, random_examples, random_features, backprop=end_to_end)


def main(config: Config, run: Run) -> None:
    """Train all methods with one seed, score them on the test images, log everything."""
    run_comparison(config.plan(METHODS, config.data), config.labels, run)
