"""Associative networks (mSTDP, aSTDP): one network that names, draws and completes, learning by STDP alone."""

from neuropil.learners.associative.asked import Drawn as Drawn
from neuropil.learners.associative.completing import Sampling as Sampling
from neuropil.learners.associative.learner import Associative as Associative
from neuropil.learners.associative.memory import from_tensors as from_tensors
from neuropil.learners.associative.memory import to_tensors as to_tensors
from neuropil.learners.associative.practice import Practice as Practice
from neuropil.learners.associative.settling import Settled as Settled
from neuropil.learners.associative.settling import Settling as Settling
from neuropil.learners.associative.settling import Teacher as Teacher
from neuropil.learners.associative.trials import DRAW as DRAW
from neuropil.learners.associative.trials import NAME as NAME
from neuropil.learners.associative.trials import NAME_PART as NAME_PART
from neuropil.learners.associative.trials import Trial as Trial
from neuropil.learners.associative.wiring import Wiring as Wiring
