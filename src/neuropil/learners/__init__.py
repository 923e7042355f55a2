"""What fits and predicts: local features under a readout, spiking networks, and the backprop twin."""

from neuropil.learners.adabelief import AdaBelief as AdaBelief
from neuropil.learners.augment import Distort as Distort
from neuropil.learners.backprop import BackpropClassifier as BackpropClassifier
from neuropil.learners.convolution import PatchNormConv2d as PatchNormConv2d
from neuropil.learners.convolution import Triangle as Triangle
from neuropil.learners.descent import Descent as Descent
from neuropil.learners.encodings import Bright as Bright
from neuropil.learners.encodings import Delay as Delay
from neuropil.learners.encodings import Latency as Latency
from neuropil.learners.hebbian import FeatureClassifier as FeatureClassifier
from neuropil.learners.layers import BothSigns as BothSigns
from neuropil.learners.layers import Direction as Direction
from neuropil.learners.layers import RePU as RePU
from neuropil.learners.layers import Standardise as Standardise
from neuropil.learners.layers import UnitNorm as UnitNorm
from neuropil.learners.layers import dense_body as dense_body
from neuropil.learners.layers import draw_examples_ as draw_examples_
from neuropil.learners.layers import draw_normal_ as draw_normal_
from neuropil.learners.layers import receptive_fields as receptive_fields
from neuropil.learners.local import LocalLearning as LocalLearning
from neuropil.learners.local import rate_by_norm as rate_by_norm
from neuropil.learners.spiking import ExactSpikes as ExactSpikes
from neuropil.learners.spiking import SpikingClassifier as SpikingClassifier
from neuropil.learners.watch import Unwatched as Unwatched
from neuropil.learners.watch import Watch as Watch
