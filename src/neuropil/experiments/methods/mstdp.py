"""mSTDP: pixels, label and hidden units connected both ways; every synapse changes by STDP. It generates, too.

https://arxiv.org/abs/1912.00009
"""

from torch import Generator

from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Nudge, Settling
from neuropil.data import Split
from neuropil.experiments.methods import Method

NUDGE = Nudge(4)
INK = 105.0  # sum of an image's pixels up to which the rates hold; digits of MNIST have 103 on average


def build(train: Split, rng: Generator, units: int, *, name: str = "mSTDP", nudge: Nudge = NUDGE) -> Method:
    """As many classification units as the others have hidden units; half as many generation units.

    Adam moves every weight by about its rate, and so what a unit gets from an image by the rate times the image's sum.
    Where images have more ink than digits, units that see them learn more slowly by as much. Else they saturate.
    """
    slower = min(1.0, INK / max(1.0, mean_sum(train)))
    rates = {"classification": 2e-3 * slower, "label": 1e-2, "generation": 1e-3 * slower, "pixels": 1e-2}
    tasks = (CLASSIFY, GENERATE)
    training = AssociativeTraining(tasks, epochs=20, batch=50, learning_rates=rates, lr_decay=0.87, min_steps=200)
    settling = Settling(8, step_size=0.8, check_every=4)
    learner = AssociativeNetwork((units,), units // 2, settling=settling, nudge=nudge, training=training)
    return Method(name, "local", learner, competes=False)


def mean_sum(train: Split) -> float:
    """The sum of the values of an example, on average over the first thousand."""
    return train[:1000].pixels().flatten(1).abs().sum(1).mean().item()
