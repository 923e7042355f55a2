"""Local learning rules for dense and convolutional layers: a rule proposes a change, the optimiser writes it."""

from neuropil.plasticity.association import Association, associations
from neuropil.plasticity.competitive import ExplainAway, HardWTA, KrotovHopfield, SignedWTA, SoftHebb
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.differential import DifferentialHebb
from neuropil.plasticity.engine import Rule, gains
from neuropil.plasticity.hebbian import BCM, Hebb, Oja, Sanger
from neuropil.plasticity.kernels.ranking import first_and_kth, winner
from neuropil.plasticity.law import Chosen, Dense
from neuropil.plasticity.learner import Learner, attach
from neuropil.plasticity.plan import Plan
from neuropil.plasticity.propose import propose_, surrogate_loss
from neuropil.plasticity.stdp.homeostasis import SynapticScaling
from neuropil.plasticity.stdp.modulated import RewardModulated
from neuropil.plasticity.stdp.pair import InhibitorySTDP, PairSTDP, PostSTDP
from neuropil.plasticity.stdp.rule import TraceRule
from neuropil.plasticity.stdp.terms import Term
from neuropil.plasticity.stdp.triplet import TripletSTDP
from neuropil.plasticity.stdp.voltage import VoltageSTDP
from neuropil.plasticity.stdp.weight_dependence import LogisticBounds, PowerLaw, SoftBounds, constrain_
from neuropil.plasticity.tap import Activity, tap

__all__ = [
    "BCM", "Activity", "Association", "Chosen", "Dense", "DifferentialHebb", "ExplainAway", "HardWTA", "Hebb",
    "InhibitorySTDP", "KrotovHopfield", "Learner", "LogisticBounds", "Oja", "PairSTDP", "Plan", "PostSTDP", "PowerLaw",
    "RewardModulated", "Rule", "Sanger", "SignedWTA", "SoftBounds", "SoftHebb", "SynapticScaling", "Term", "TraceRule",
    "TripletSTDP", "VoltageSTDP", "associations", "attach", "constrain_", "correlate", "first_and_kth", "gains",
    "propose_", "surrogate_loss", "tap", "winner",
]  # fmt: skip

RULES = (BCM, Association, ExplainAway, HardWTA, Hebb, KrotovHopfield, Oja, Sanger, SignedWTA, SoftHebb)
"""Rules that learn from activity, and whose settings are plain numbers and words."""
