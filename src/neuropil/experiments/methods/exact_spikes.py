"""Theta neurons trained end to end by exact gradients: bright pixels spike early, who fires first names the class.

https://arxiv.org/abs/2309.14523
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import Method
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.spiking import LatencyEncoding


def build(train: Split, rng: Generator, units: int) -> Method:
    """One hidden layer of `units` neurons, most of them and all outputs silent at first."""
    low, high = (float(value) for value in train.pixels().aminmax())
    training = SpikeTimeTraining(
        epochs=20, batch=50, lr=5e-3, lr_time_constant=None, min_steps=300, flip_probability=0.0,
        inverse_temperature=3.0, late_weight=0.1, margin=0.1, clip=0.1,
    )  # fmt: skip
    encode = LatencyEncoding(1.5, low=low, high=high, levels=16)
    learner = SpikingClassifier((units,), encode=encode, t_end=2.75, training=training)
    return Method("exact spikes", "spiking", learner)
