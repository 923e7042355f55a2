"""scikit-learn estimators: local learning by `fit(X, y)`, in pipelines, searches and cross-validation."""

from neuropil.sklearn.association import AssociationRuleClassifier
from neuropil.sklearn.features import HebbianFeatures
from neuropil.sklearn.hebbian import HebbianClassifier
from neuropil.sklearn.networks import SpikeTimeClassifier, STDPNetworkClassifier

__all__ = [
    "AssociationRuleClassifier", "HebbianClassifier", "HebbianFeatures", "STDPNetworkClassifier", "SpikeTimeClassifier",
]  # fmt: skip
