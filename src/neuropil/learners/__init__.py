"""What fits and predicts: local features under a readout, and the backprop twin."""

from neuropil.learners.associative import Associative as Associative
from neuropil.learners.backprop import BackpropClassifier as BackpropClassifier
from neuropil.learners.descent import Descent as Descent
from neuropil.learners.hebbian import FeatureClassifier as FeatureClassifier
from neuropil.learners.hebbian import LocalLearning as LocalLearning
from neuropil.learners.layers import BothSigns as BothSigns
from neuropil.learners.layers import Direction as Direction
from neuropil.learners.layers import RePU as RePU
from neuropil.learners.layers import Standardise as Standardise
from neuropil.learners.layers import UnitNorm as UnitNorm
from neuropil.learners.layers import dense_body as dense_body
from neuropil.learners.layers import draw_examples_ as draw_examples_
from neuropil.learners.layers import draw_normal_ as draw_normal_
from neuropil.learners.layers import receptive_fields as receptive_fields
from neuropil.learners.watch import Unwatched as Unwatched
from neuropil.learners.watch import Watch as Watch
