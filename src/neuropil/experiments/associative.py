"""What baselines of associative networks share: hidden layers, how these learn, and the changes of their images."""

from collections import OrderedDict

from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments.baselines import LINEAR, backprop, frozen_features
from neuropil.experiments.comparison import Method
from neuropil.experiments.examples import start_at_examples_
from neuropil.models import Distort, SupervisedTraining


def hidden_layers(train: Split, units: tuple[int, ...], rng: Generator) -> nn.Sequential:
    """Dense layers with the activation of associative networks, min(max(u, 0), 1), initialised by Glorot's rule."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    sizes = (train.x[0].numel(), *units)
    for k, (inputs, outputs) in enumerate(zip(sizes, units), start=1):
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(layer.weight, generator=rng)
        nn.init.zeros_(layer.bias)
        layers["hidden" if k == 1 else f"hidden{k}"] = layer
        layers[f"active{k}"] = nn.Hardtanh(0, 1)
    return nn.Sequential(layers)


def end_to_end(
    train: Split, rng: Generator, *, units: tuple[int, ...], epochs: int, min_steps: int, augment: Distort | None
) -> Method:
    """The same hidden layers, all weights trained by backpropagation.

    https://doi.org/10.1038/323533a0
    """
    training = SupervisedTraining(epochs=epochs, batch=100, lr=2e-3, min_steps=min_steps, augment=augment)
    return backprop(hidden_layers(train, units, rng), training)


def random_features(train: Split, rng: Generator, *, units: tuple[int, ...]) -> Method:
    """The same hidden layers with frozen random weights, and a trained readout.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    return frozen_features(hidden_layers(train, units, rng), LINEAR)


def random_examples(train: Split, rng: Generator, *, units: tuple[int, ...]) -> Method:
    """The same hidden layers with training images as weights, frozen, and a trained readout.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    network = hidden_layers(train, units, rng).to(train.x.device)
    start_at_examples_(network, train, rng, spread=0.25)  # chosen on held-out images of MNIST
    return frozen_features(network, LINEAR, name="random examples")


def distortion(rotation: float, scale: float, shift: float) -> Distort | None:
    """How images are changed when they are classified; None if nothing is."""
    return Distort(rotation, scale, scale, shift) if rotation or scale or shift else None
