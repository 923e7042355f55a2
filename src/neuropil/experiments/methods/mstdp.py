"""mSTDP: pixels, label and hidden units connected both ways; every synapse changes by STDP. It generates, too.

https://arxiv.org/abs/1912.00009
"""

from torch import Generator

from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Nudge, Settling
from neuropil.associative.training import slowed
from neuropil.data import Split
from neuropil.experiments.methods import Method

NUDGE = Nudge(4)


def build(train: Split, rng: Generator, units: int, *, name: str = "mSTDP", nudge: Nudge = NUDGE) -> Method:
    """As many classification units as the others have hidden units; half as many generation units."""
    rates = slowed({"classification": 2e-3, "label": 1e-2, "generation": 1e-3, "pixels": 1e-2}, train)
    tasks = (CLASSIFY, GENERATE)
    training = AssociativeTraining(tasks, epochs=20, batch=50, learning_rates=rates, lr_decay=0.87, min_steps=200)
    settling = Settling(8, step_size=0.8, check_every=4)
    learner = AssociativeNetwork((units,), units // 2, settling=settling, nudge=nudge, training=training)
    return Method(name, "local", learner, competes=False)
