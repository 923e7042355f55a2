"""Data by name, by path, or by a file of one's own whose function gives examples: ``--data ./mine.py``."""

from inspect import signature
from pathlib import Path

from neuropil.data import Split, held_out, hold_out, in_reach, is_own, load
from neuropil.data.own import HELD_OUT, paired
from neuropil.errors import Refusal, require
from neuropil.runs import load_recipe_file


def examples(name: str, seed: int) -> tuple[Split, Split]:
    """(train, test) of a data set of ours, a path (see `neuropil.data.load`), or what the code of a file.py gives.

    The file defines a function of its own name, or ``load(seed)``. It returns (train, test), or one `Split`, of which a
    fifth is held out. The argument `seed` may be left out.
    """
    path = Path(name).expanduser()
    if path.suffix != ".py":
        return load(name, seed=seed)
    require(path.is_file(), f"there is no file {path}.")
    module = load_recipe_file(path)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    make = own.get(path.stem, own.get("load"))
    if not callable(make):
        raise Refusal(f"{path} needs a function {path.stem}(seed) or load(seed) that returns (train, test).")
    with held_out(None, seed):  # what the file makes is held out once, and not what it makes it from
        made = make(**({"seed": seed} if "seed" in signature(make).parameters else {}))
    made = hold_out(made, HELD_OUT, seed) if isinstance(made, Split) else made
    if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, Split) for part in made)):
        raise TypeError(f"{path} needs to return one Split or a pair of them, got {type(made).__name__}.")
    return in_reach(*paired(*made))


def title_of(name: str) -> str:
    """What a data set is called in tables: its name, or that of the file or folder."""
    return Path(name).resolve().stem if is_own(name) else name
