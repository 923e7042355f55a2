"""Associative networks (mSTDP, aSTDP): one network that classifies, generates and completes, learning by STDP alone."""

from neuropil.associative.connectivity import Connectivity
from neuropil.associative.network import AssociativeNetwork
from neuropil.associative.sampling import Samples, Sampling
from neuropil.associative.settling import Nudge, Settled, Settling
from neuropil.associative.spiking import SpikingAssociation, SpikingAssociativeNetwork, SpikingPhases, balanced
from neuropil.associative.targets import DerivativeTargets
from neuropil.associative.tasks import CLASSIFY, CLASSIFY_PARTIAL, GENERATE, Task
from neuropil.associative.training import AssociativeTraining

__all__ = [
    "CLASSIFY", "CLASSIFY_PARTIAL", "GENERATE", "AssociativeNetwork", "AssociativeTraining", "Connectivity",
    "DerivativeTargets", "Nudge", "Samples", "Sampling", "Settled", "Settling", "SpikingAssociation",
    "SpikingAssociativeNetwork", "SpikingPhases", "Task", "balanced",
]  # fmt: skip
