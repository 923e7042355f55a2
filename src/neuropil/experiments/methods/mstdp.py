"""mSTDP: pixels, label and hidden units wired both ways, every synapse changed by STDP; it draws, too."""

from torch import Generator

from neuropil.associative import DRAW, NAME, AssociativeNetwork, AssociativeTraining, Settling, Teacher
from neuropil.data import Split
from neuropil.experiments.methods import Method

TEACHER = Teacher(4)


def build(train: Split, rng: Generator, units: int, *, name: str = "mSTDP", teacher: Teacher = TEACHER) -> Method:
    """As many units name as the others have; half as many more draw."""
    rates = {"naming": 2e-3, "label": 1e-2, "drawing": 1e-3, "pixels": 1e-2}
    practice = AssociativeTraining(trials=(NAME, DRAW), epochs=20, batch=50, rates=rates, lr_decay=0.87, min_steps=200)
    settling = Settling(8, step=0.8, check=4)
    learner = AssociativeNetwork((units,), units // 2, settling=settling, teacher=teacher, practice=practice)
    return Method(name, "local", learner, competes=False)
