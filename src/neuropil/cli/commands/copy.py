"""an editable copy of a recipe, which neuropil run ./FILE.py runs

usage: neuropil copy NAME FILE.py

Of a variant, such as fashion_krotov, the recipe that it is based on is copied; the settings to run it with are printed.
"""

import shlex
from pathlib import Path

from neuropil.cli.argv import only
from neuropil.cli.recipes import is_file, resolve, source
from neuropil.errors import require


def main(words: list[str]) -> int:
    """`neuropil copy NAME FILE`."""
    name, word = only(words, "neuropil copy NAME FILE.py", least=2, most=2)
    text, file = source(name).read_text(encoding="utf-8"), Path(word)
    require(is_file(word), f"a recipe is a Python file, got {word!r}; did you mean {str(file.with_suffix('.py'))!r}?")
    require(not file.exists(), f"{file} exists already; name another file.")
    file.write_text(text, encoding="utf-8")
    run = str(file) if file.is_absolute() else f"./{file}"
    print(f"{file} is yours to edit; run it with: neuropil run {shlex.join([run, *resolve(name, [])[1]])}")
    return 0
