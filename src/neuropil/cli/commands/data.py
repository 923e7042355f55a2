"""the data sets: which there are, fetching one, checking its files

usage: neuropil data list
       neuropil data fetch NAME      download it into $NEUROPIL_DATA, or the user cache
       neuropil data check NAME      compare every file with its checksum
"""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional

from neuropil import data
from neuropil.cli.settings import parse
from neuropil.errors import require, unknown


@dataclass(frozen=True)
class OneSet:
    """Which data set."""

    name: Positional[str]


def main(words: list[str]) -> int:
    """`neuropil data list|fetch|check`."""
    verbs: dict[str, Callable[..., None]] = {"list": _list, "fetch": _fetch, "check": _check}
    require(bool(words), "say what to do: neuropil data list, neuropil data fetch NAME, neuropil data check NAME")
    verb, *rest = words
    if verb not in verbs:
        raise unknown("data command", verb, verbs)
    kinds = [] if verb == "list" else [OneSet]
    verbs[verb](*(asked.name for asked in parse(rest, *kinds)))
    return 0


def _list() -> None:
    table = Table("name", "train", "test", "here", "what, and where it is looked for", box=None, pad_edge=False)
    for row in data.list_sets():
        train, test = (f"{n:,}" for n in row.examples)
        what = f"{escape(row.purpose)}\n[dim]{escape(row.where)}"
        table.add_row(row.name, train, test, "yes" if row.present else "no", what)
    Console().print(table, highlight=False)


def _fetch(name: str) -> None:
    for path in data.fetch(name):
        print(path)


def _check(name: str) -> None:
    rows = data.check(name)
    for row in rows:
        print(f"{row.status:<8} {row.path}")
    bad = [f"{row.path.name} ({row.status})" for row in rows if row.status != "ok"]
    require(not bad, f"data set {name!r} is not whole: {', '.join(bad)}. Fetch it with: neuropil data fetch {name}")
    if not rows:
        print(f"{name} is made on this machine; there are no files to check.")
