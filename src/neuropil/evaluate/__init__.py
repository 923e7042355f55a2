"""Scores, choices and alarms: everything that judges a learner and nothing that trains one."""

from neuropil.evaluate.assign import Assigned as Assigned
from neuropil.evaluate.assign import assign_units as assign_units
from neuropil.evaluate.cost import peak_memory as peak_memory
from neuropil.evaluate.generation import Judge as Judge
from neuropil.evaluate.generation import Verdict as Verdict
from neuropil.evaluate.generation import judge_drawings as judge_drawings
from neuropil.evaluate.probe import Choice as Choice
from neuropil.evaluate.probe import choose as choose
from neuropil.evaluate.probe import sample_efficiency as sample_efficiency
from neuropil.evaluate.robustness import Suite as Suite
from neuropil.evaluate.robustness import robustness as robustness
from neuropil.evaluate.scores import Predicts as Predicts
from neuropil.evaluate.scores import accuracy as accuracy
from neuropil.evaluate.scores import confusion as confusion
from neuropil.evaluate.scores import share_right as share_right
from neuropil.evaluate.trial import trial as trial
from neuropil.evaluate.units import UnitStatistics as UnitStatistics
from neuropil.evaluate.units import alarms as alarms
from neuropil.evaluate.units import count_wins as count_wins
from neuropil.evaluate.units import examine_units as examine_units
from neuropil.evaluate.units import unit_statistics as unit_statistics
