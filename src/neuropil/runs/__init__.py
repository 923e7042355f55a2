"""A run is a folder: run.json, metrics.jsonl, weights.safetensors; and a checkpoint while it is unfinished."""

from neuropil.runs.checkpoint import Part as Part
from neuropil.runs.files import jsonable as jsonable
from neuropil.runs.kept import Keeper as Keeper
from neuropil.runs.kept import Replay as Replay
from neuropil.runs.kept import kept_path as kept_path
from neuropil.runs.machine import peak_memory_mb as peak_memory_mb
from neuropil.runs.recipe_file import load_recipe_file as load_recipe_file
from neuropil.runs.record import Record as Record
from neuropil.runs.record import read as read
from neuropil.runs.run import Run as Run
from neuropil.runs.tracker import NullTracker as NullTracker
from neuropil.runs.tracker import TaggedTracker as TaggedTracker
from neuropil.runs.tracker import Tracker as Tracker
