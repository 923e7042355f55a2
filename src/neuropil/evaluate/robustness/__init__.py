"""Attacks on whatever predicts, and the harness that believes none of them."""

from neuropil.evaluate.robustness.attacks.blackbox import Noise, Square
from neuropil.evaluate.robustness.attacks.gradient import FGSM, PGD
from neuropil.evaluate.robustness.attacks.labels import Boundary, HopSkipJump
from neuropil.evaluate.robustness.harness import Curve, accuracy_under, curve
from neuropil.evaluate.robustness.masking import Check, check_curves, is_invalid
from neuropil.evaluate.robustness.norms import L2, Linf
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.evaluate.robustness.victim import Differentiable, Victim, ensemble, victim_of

__all__ = [
    "FGSM", "L2", "PGD", "Boundary", "Check", "Curve", "Differentiable", "HopSkipJump", "Linf", "Noise", "Square",
    "Suite", "Victim", "accuracy_under", "check_curves", "curve", "ensemble", "is_invalid", "robustness", "victim_of",
]  # fmt: skip
