"""A run is a folder: run.json, metrics.jsonl, weights.safetensors; and a checkpoint while it is unfinished."""

from neuropil.runs.checkpoint import Stateful as Stateful
from neuropil.runs.files import jsonable as jsonable
from neuropil.runs.machine import peak_memory_mb as peak_memory_mb
from neuropil.runs.recipe_file import load_recipe_file as load_recipe_file
from neuropil.runs.record import Record as Record
from neuropil.runs.record import read as read
from neuropil.runs.rows import AttackRow as AttackRow
from neuropil.runs.rows import CheckRow as CheckRow
from neuropil.runs.rows import ConfusionRow as ConfusionRow
from neuropil.runs.rows import CorruptionRow as CorruptionRow
from neuropil.runs.rows import DamageRow as DamageRow
from neuropil.runs.rows import EpochRow as EpochRow
from neuropil.runs.rows import LabelsRow as LabelsRow
from neuropil.runs.rows import MatchedRow as MatchedRow
from neuropil.runs.rows import RasterRow as RasterRow
from neuropil.runs.rows import ResultRow as ResultRow
from neuropil.runs.rows import Row as Row
from neuropil.runs.rows import SamplesRow as SamplesRow
from neuropil.runs.rows import SilenceRow as SilenceRow
from neuropil.runs.rows import UnitsRow as UnitsRow
from neuropil.runs.rows import WarningRow as WarningRow
from neuropil.runs.rows import parse_row as parse_row
from neuropil.runs.run import Run as Run
from neuropil.runs.tracker import NullTracker as NullTracker
from neuropil.runs.tracker import TaggedTracker as TaggedTracker
from neuropil.runs.tracker import Tracker as Tracker
