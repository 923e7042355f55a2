"""Local learning rules for any PyTorch layer: a rule proposes a change, the optimiser writes it."""

import torch

from neuropil.plasticity.association import Association as Association
from neuropil.plasticity.association import associations as associations
from neuropil.plasticity.competitive import HardWTA as HardWTA
from neuropil.plasticity.competitive import KrotovHopfield as KrotovHopfield
from neuropil.plasticity.competitive import SoftHebb as SoftHebb
from neuropil.plasticity.correlate import correlate as correlate
from neuropil.plasticity.differential import DifferentialHebb as DifferentialHebb
from neuropil.plasticity.hebbian import BCM as BCM
from neuropil.plasticity.hebbian import Hebb as Hebb
from neuropil.plasticity.hebbian import Oja as Oja
from neuropil.plasticity.hebbian import Sanger as Sanger
from neuropil.plasticity.tap import Activity as Activity
from neuropil.plasticity.tap import propose_ as propose_
from neuropil.plasticity.tap import tap as tap

# glibc gives freed blocks back to the system above a threshold that slides with the largest block ever freed, and a
# rule would pay for thousands of page faults in every step to get them again (3 x the time at 784 -> 2000, batch 100).
# Freeing one block of almost 32 MiB, which nobody ever touched, slides the threshold to its end. No effect elsewhere.
torch.empty(31 << 20, dtype=torch.uint8)
