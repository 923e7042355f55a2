"""Attacks on whatever predicts, and the harness that believes none of them."""

from neuropil.evaluate.attack.blackbox import Boundary as Boundary
from neuropil.evaluate.attack.blackbox import Noise as Noise
from neuropil.evaluate.attack.blackbox import Square as Square
from neuropil.evaluate.attack.gradient import FGSM as FGSM
from neuropil.evaluate.attack.gradient import PGD as PGD
from neuropil.evaluate.attack.harness import Curve as Curve
from neuropil.evaluate.attack.harness import accuracy_under as accuracy_under
from neuropil.evaluate.attack.harness import curve as curve
from neuropil.evaluate.attack.masking import Check as Check
from neuropil.evaluate.attack.masking import check_curves as check_curves
from neuropil.evaluate.attack.masking import void as void
from neuropil.evaluate.attack.norms import L2 as L2
from neuropil.evaluate.attack.norms import Linf as Linf
from neuropil.evaluate.attack.victim import Differentiable as Differentiable
from neuropil.evaluate.attack.victim import Victim as Victim
from neuropil.evaluate.attack.victim import ensemble as ensemble
from neuropil.evaluate.attack.victim import victim_of as victim_of
