"""The zoo: small networks that have learned already, in the package, and larger ones that one command makes."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neuropil.data.files import data_root
from neuropil.errors import Refusal, unknown

__all__ = ["Card", "card", "file_of", "list_models", "made"]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """What is known of one network of the zoo.

    Attributes:
        name: by which `neuropil.load` knows it.
        purpose: in one line.
        command: that learned it, from `commit` of the code; without it, it is not in the package.
        minutes: that the command takes on one core.
        data: the data set; `licence` of these data.
        measured: accuracy on the test examples over all seeds, with the 95 % interval.
        shipped: test accuracy of the very network in the package, with its weights rounded to `precision`.
        correct: how many of the first `of` test examples it classifies correctly.
    """

    name: str
    purpose: str
    command: str
    minutes: float
    data: str
    licence: str
    measured: str
    precision: str = "int8"
    commit: str = ""
    shipped: str = ""
    correct: int = 0
    of: int = 1000


@cache
def _cards() -> dict[str, Card]:
    table = tomllib.loads((HERE / "networks.toml").read_text(encoding="utf-8"))
    licences: dict[str, str] = table.pop("licences")
    return {name: Card(name, **row, licence=licences[row["data"]]) for name, row in table.items()}


def card(name: str) -> Card:
    """The card of a network of the zoo.

    Raises:
        Refusal: there is none of that name.

    Examples:
        >>> card("digits-mstdp").data
        'digits'
    """
    if name not in _cards():
        raise unknown("network of the zoo", name, _cards())
    return _cards()[name]


def list_models(*, missing: bool = False) -> list[str]:
    """Names of networks that have learned already; `neuropil.load` brings one, `neuropil.zoo.card` says what it is.

    Args:
        missing: whether to name those too that have to be made first, by ``neuropil zoo NAME --make``.

    Examples:
        >>> import neuropil as npl
        >>> "mnist-krotov-2000" in npl.list_models()
        True
        >>> npl.load("digits-mstdp")
        AssociativeNetwork(classification_units=(256,), generation_units=128, completion_units=128)
    """
    return [name for name in _cards() if missing or _place(name).is_file()]


def file_of(name: str) -> Path:
    """The file of a network of the zoo.

    Raises:
        Refusal: there is none of that name, or it has to be made first.

    >>> file_of("digits-mstdp").name
    'digits-mstdp.safetensors'
    """
    found, known = _place(card(name).name), card(name)
    if not found.is_file():
        cure = f"make it with: neuropil zoo {name} --make (about {known.minutes:g} minutes, from {known.data})"
        raise Refusal(f"the network {name!r} is too large for the package; {cure}.")
    return found


def _place(name: str) -> Path:
    """Where it is, or would be once it was made."""
    ours = HERE / f"{name}.safetensors"
    return ours if ours.is_file() else made(name)


def made(name: str) -> Path:
    """Where ``neuropil zoo NAME --make`` puts a network.

    >>> made("mnist-mstdp-2000").name
    'mnist-mstdp-2000.safetensors'
    """
    return data_root() / "zoo" / f"{name}.safetensors"
