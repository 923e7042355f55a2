"""Associative networks (mSTDP, aSTDP): one network that classifies, generates and completes, learning by STDP alone."""

from neuropil.associative.connectivity import Connectivity as Connectivity
from neuropil.associative.network import AssociativeNetwork as AssociativeNetwork
from neuropil.associative.sampling import Samples as Samples
from neuropil.associative.sampling import Sampling as Sampling
from neuropil.associative.settling import Nudge as Nudge
from neuropil.associative.settling import Settled as Settled
from neuropil.associative.settling import Settling as Settling
from neuropil.associative.tasks import CLASSIFY as CLASSIFY
from neuropil.associative.tasks import CLASSIFY_PARTIAL as CLASSIFY_PARTIAL
from neuropil.associative.tasks import GENERATE as GENERATE
from neuropil.associative.tasks import Task as Task
from neuropil.associative.training import AssociativeTraining as AssociativeTraining

__all__ = [
    "CLASSIFY",
    "CLASSIFY_PARTIAL",
    "GENERATE",
    "AssociativeNetwork",
    "AssociativeTraining",
    "Connectivity",
    "Nudge",
    "Samples",
    "Sampling",
    "Settled",
    "Settling",
    "Task",
]
