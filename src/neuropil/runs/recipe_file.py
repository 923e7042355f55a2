"""The code of a user's own recipe, which is run where the user named its file, and nowhere else."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from neuropil.errors import Refusal


def load_recipe_file(path: Path) -> ModuleType:
    """Run a file of the user, with its own folder to import from, as Python does.

    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "mine.py"
    >>> _ = file.write_text("units = 60")
    >>> load_recipe_file(file).units
    60
    """
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise Refusal(f"{path}{line}: {message}.") from error
    spec = spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and help texts look there
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module
