"""Local learning rules for any PyTorch layer: a rule proposes a change, the optimiser writes it."""

from neuropil.plasticity.compete import HardWTA as HardWTA
from neuropil.plasticity.compete import KrotovHopfield as KrotovHopfield
from neuropil.plasticity.compete import SoftHebb as SoftHebb
from neuropil.plasticity.correlate import correlate as correlate
from neuropil.plasticity.hebb import BCM as BCM
from neuropil.plasticity.hebb import Hebb as Hebb
from neuropil.plasticity.hebb import Oja as Oja
from neuropil.plasticity.hebb import Sanger as Sanger
from neuropil.plasticity.tap import Activity as Activity
from neuropil.plasticity.tap import propose_ as propose_
from neuropil.plasticity.tap import tap as tap
