"""Scores, selection and warnings: everything that measures a learner and nothing that trains one."""

from neuropil.evaluate.metrics.accuracy import Predicts as Predicts
from neuropil.evaluate.metrics.accuracy import accuracy as accuracy
from neuropil.evaluate.metrics.accuracy import confusion as confusion
from neuropil.evaluate.metrics.accuracy import fraction_correct as fraction_correct
from neuropil.evaluate.metrics.accuracy import majority_rate as majority_rate
from neuropil.evaluate.metrics.assignment import AssignedUnits as AssignedUnits
from neuropil.evaluate.metrics.assignment import assign_units as assign_units
from neuropil.evaluate.metrics.cost import peak_memory as peak_memory
from neuropil.evaluate.metrics.fit_and_score import fit_and_score as fit_and_score
from neuropil.evaluate.metrics.generation import GenerationScores as GenerationScores
from neuropil.evaluate.metrics.generation import ReferenceClassifier as ReferenceClassifier
from neuropil.evaluate.metrics.generation import evaluate_samples as evaluate_samples
from neuropil.evaluate.metrics.selection import Selection as Selection
from neuropil.evaluate.metrics.selection import sample_efficiency as sample_efficiency
from neuropil.evaluate.metrics.selection import select as select
from neuropil.evaluate.metrics.units import UnitStatistics as UnitStatistics
from neuropil.evaluate.metrics.units import count_wins as count_wins
from neuropil.evaluate.metrics.units import log_units as log_units
from neuropil.evaluate.metrics.units import participation_ratio as participation_ratio
from neuropil.evaluate.metrics.units import unit_statistics as unit_statistics
from neuropil.evaluate.metrics.units import unit_warnings as unit_warnings
