"""Scores, selection and warnings: everything that measures a learner and nothing that trains one."""

from neuropil.evaluate.metrics.accuracy import Predicts, accuracy, confusion, fraction_correct, majority_rate
from neuropil.evaluate.metrics.assignment import AssignedUnits, assign_units
from neuropil.evaluate.metrics.cost import peak_memory
from neuropil.evaluate.metrics.fit_and_score import fit_and_score
from neuropil.evaluate.metrics.generation import GenerationScores, ReferenceClassifier, evaluate_samples
from neuropil.evaluate.metrics.locality import Locality, locality
from neuropil.evaluate.metrics.probe import linear_probe
from neuropil.evaluate.metrics.selection import Selection, label_counts, sample_efficiency, select
from neuropil.evaluate.metrics.units import (
    UnitStatistics,
    count_wins,
    log_units,
    participation_ratio,
    unit_statistics,
    unit_warnings,
)

__all__ = [
    "AssignedUnits", "GenerationScores", "Locality", "Predicts", "ReferenceClassifier", "Selection", "UnitStatistics",
    "accuracy", "assign_units", "confusion", "count_wins", "evaluate_samples", "fit_and_score", "fraction_correct",
    "label_counts", "linear_probe", "locality", "log_units", "majority_rate", "participation_ratio", "peak_memory",
    "sample_efficiency", "select", "unit_statistics", "unit_warnings",
]  # fmt: skip
