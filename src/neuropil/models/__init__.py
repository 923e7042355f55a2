"""What fits and predicts: local features under a readout, spiking networks, and the backprop baseline."""

# isort: off
from neuropil.models.association import AssociationClassifier, AssociationTraining
from neuropil.models.backprop import BackpropClassifier
from neuropil.models.competition import CompetitiveLearning, CompetitiveUnits, VotingClassifier, Winner
from neuropil.models.contract import FeatureLayer, Model, OnlineModel
from neuropil.models.description import savable
from neuropil.models.features import FeatureClassifier
from neuropil.models.heads import AssociationReadout, DeltaReadout, Head, Prototypes
from neuropil.models.least_squares import LateralReadout, LeastSquares
from neuropil.models.nn.convolution import Beside, MirrorMean, PatchNormConv2d, Triangle, gather_statistics_
from neuropil.models.nn.convolution import init_kernels_, init_patches_, stacked
from neuropil.models.nn.first_spikes import ContrastLatency, FirstSpikeConv2d
from neuropil.models.nn.layers import CentredUnitNorm, CReLU, RePU, SignedPower, SignedStep, Standardise, UnitNorm
from neuropil.models.nn.layers import dense_body, init_examples_, init_normal_, receptive_fields
from neuropil.models.nn.plastic import PlasticLayer, PlasticState
from neuropil.models.online import OnlineClassifier
from neuropil.models.online_backprop import OnlineBackprop
from neuropil.models.spiking import SpikeTimeTraining, SpikingClassifier
from neuropil.models.training.adabelief import AdaBelief
from neuropil.models.training.augment import Distort, Mirror
from neuropil.models.training.banded import BandedRidge
from neuropil.models.training.local import LocalLearning, rate_by_norm
from neuropil.models.training.ridge import RidgeRegression
from neuropil.models.training.supervised import SupervisedTraining
# isort: on

__all__ = [
    "AdaBelief", "AssociationClassifier", "AssociationReadout", "AssociationTraining", "BackpropClassifier",
    "BandedRidge", "Beside", "CReLU", "CentredUnitNorm", "CompetitiveLearning", "CompetitiveUnits",
    "ContrastLatency", "DeltaReadout", "Distort", "FeatureClassifier", "FeatureLayer", "FirstSpikeConv2d", "Head",
    "LateralReadout", "LeastSquares", "LocalLearning", "Mirror", "MirrorMean", "Model", "OnlineBackprop",
    "OnlineClassifier", "OnlineModel", "PatchNormConv2d", "PlasticLayer", "PlasticState", "Prototypes", "RePU",
    "RidgeRegression", "SignedPower", "SignedStep", "SpikeTimeTraining", "SpikingClassifier", "Standardise",
    "SupervisedTraining", "Triangle", "UnitNorm", "VotingClassifier", "Winner", "dense_body", "gather_statistics_",
    "init_examples_", "init_kernels_", "init_normal_", "init_patches_", "rate_by_norm", "receptive_fields",
    "savable", "stacked",
]  # fmt: skip
