"""Attacks on whatever predicts, and the harness that believes none of them."""

from neuropil.evaluate.robustness.attacks.blackbox import Boundary as Boundary
from neuropil.evaluate.robustness.attacks.blackbox import Noise as Noise
from neuropil.evaluate.robustness.attacks.blackbox import Square as Square
from neuropil.evaluate.robustness.attacks.gradient import FGSM as FGSM
from neuropil.evaluate.robustness.attacks.gradient import PGD as PGD
from neuropil.evaluate.robustness.harness import Curve as Curve
from neuropil.evaluate.robustness.harness import accuracy_under as accuracy_under
from neuropil.evaluate.robustness.harness import curve as curve
from neuropil.evaluate.robustness.masking import Check as Check
from neuropil.evaluate.robustness.masking import check_curves as check_curves
from neuropil.evaluate.robustness.masking import is_invalid as is_invalid
from neuropil.evaluate.robustness.norms import L2 as L2
from neuropil.evaluate.robustness.norms import Linf as Linf
from neuropil.evaluate.robustness.suite import Suite as Suite
from neuropil.evaluate.robustness.suite import robustness as robustness
from neuropil.evaluate.robustness.victim import Differentiable as Differentiable
from neuropil.evaluate.robustness.victim import Victim as Victim
from neuropil.evaluate.robustness.victim import ensemble as ensemble
from neuropil.evaluate.robustness.victim import victim_of as victim_of
