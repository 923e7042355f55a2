"""Learning without the global backward pass, in PyTorch, measured fairly against it.

Names are loaded when they are first used: ``import neuropil as npl`` loads neither torch nor data.

>>> import neuropil as npl
>>> train, test = npl.load_data("digits")
>>> train
Split(1438 examples of (1, 8, 8), 10 classes)
"""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuropil.loading import load as load
    from neuropil.loading import saved_models as saved_models

__version__ = "0.1.0"

_PLACES = {
    "neuropil.loading": "load saved_models",
}
_HOME = {name: module for module, names in _PLACES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """The public object `name`, from the room where it lives."""
    if name not in _HOME:
        near = get_close_matches(name, _HOME, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise AttributeError(f"neuropil has no {name!r}{hint}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
