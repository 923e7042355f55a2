"""Associative networks (mSTDP, aSTDP): one network that names, draws and completes, learning by STDP alone."""

from neuropil.associative.connectivity import Wiring as Wiring
from neuropil.associative.inference import Drawn as Drawn
from neuropil.associative.network import AssociativeNetwork as AssociativeNetwork
from neuropil.associative.sampling import Sampling as Sampling
from neuropil.associative.settling import Settled as Settled
from neuropil.associative.settling import Settling as Settling
from neuropil.associative.settling import Teacher as Teacher
from neuropil.associative.state import from_tensors as from_tensors
from neuropil.associative.state import to_tensors as to_tensors
from neuropil.associative.tasks import DRAW as DRAW
from neuropil.associative.tasks import NAME as NAME
from neuropil.associative.tasks import NAME_PART as NAME_PART
from neuropil.associative.tasks import Trial as Trial
from neuropil.associative.training import AssociativeTraining as AssociativeTraining
