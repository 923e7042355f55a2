"""A run is a folder: run.json, metrics.jsonl, weights.safetensors, models/; and a checkpoint while it is unfinished."""

from neuropil.runs.checkpoint import Stateful
from neuropil.runs.files import jsonable
from neuropil.runs.machine import peak_memory_mb
from neuropil.runs.parsing import parse_row, read_rows
from neuropil.runs.recipe_file import load_recipe_file
from neuropil.runs.record import Record, read
from neuropil.runs.rows import (
    AttackRow,
    CheckRow,
    ConfusionRow,
    CorruptionRow,
    DamageRow,
    EpochRow,
    FailedRow,
    ImagesRow,
    LabelsRow,
    MatchedRow,
    MethodRow,
    ResultRow,
    Row,
    SamplesRow,
    UnitsRow,
    WarningRow,
)
from neuropil.runs.run import Run
from neuropil.runs.spike_rows import PotentialsRow, RasterRow, SilenceRow, SpikeTrainsRow, WeightsRow
from neuropil.runs.tracker import NullTracker, TaggedTracker, Tracker

__all__ = [
    "AttackRow", "CheckRow", "ConfusionRow", "CorruptionRow", "DamageRow", "EpochRow", "FailedRow", "ImagesRow",
    "LabelsRow", "MatchedRow", "MethodRow", "NullTracker", "PotentialsRow", "RasterRow", "Record", "ResultRow", "Row",
    "Run", "SamplesRow", "SilenceRow", "SpikeTrainsRow", "Stateful", "TaggedTracker", "Tracker", "UnitsRow",
    "WarningRow", "WeightsRow", "jsonable", "load_recipe_file", "parse_row", "peak_memory_mb", "read", "read_rows",
]  # fmt: skip
