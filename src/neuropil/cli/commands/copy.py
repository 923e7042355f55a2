"""an editable copy of a recipe, which neuropil run ./FILE.py runs

usage: neuropil copy NAME FILE.py

Of a variant, such as fashion_krotov, the recipe that it is based on is copied; the settings to run it with are printed.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from neuropil.cli.recipes import is_file, resolve, source
from neuropil.cli.settings import parse
from neuropil.errors import require
from neuropil.runs.files import write_atomically


@dataclass(frozen=True)
class Settings:
    """What to copy where."""

    name: Positional[str]
    file: Positional[Path]


def main(words: list[str]) -> int:
    """`neuropil copy NAME FILE`."""
    (asked,) = parse(words, Settings)
    text, file = source(asked.name).read_bytes(), asked.file
    ours = is_file(str(file))
    require(ours, f"a recipe is a Python file, got {str(file)!r}; did you mean {str(file.with_suffix('.py'))!r}?")
    require(not os.path.lexists(file), f"{file} exists already; name another file.")
    require(file.parent.is_dir(), f"{file}: No such file or directory.")
    write_atomically(file, text)
    run = str(file) if file.is_absolute() else f"./{file}"
    print(f"{file} is yours to edit; run it with: neuropil run {shlex.join([run, *resolve(asked.name, [])[1]])}")
    return 0
