"""one page with tables and figures over one or many runs

usage: neuropil report DIR... [--out FILE]

DIR is the folder of a run or of a sweep, or one that holds folders of runs. FILE is DIR/report.html if there is one
DIR, else ./report.html; a report that is there already is replaced.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from neuropil.cli.settings import parse
from neuropil.errors import require


@dataclass(frozen=True)
class Settings:
    """Which runs, and where to."""

    folders: Positional[tuple[Path, ...]]
    out: Path | None = None


def main(words: list[str]) -> int:
    """`neuropil report DIR... [--out FILE]`."""
    (asked,) = parse(words, Settings)
    folders = list(asked.folders)
    require(bool(folders), "name the folders of one or more runs: neuropil report DIR... [--out FILE]")

    if len(folders) == 1 and (folders[0] / "sweep.json").is_file():
        from neuropil.cli import sweeper

        return sweeper.report(folders[0], asked.out)
    from neuropil.cli.runner import report

    return report(folders, asked.out or (folders[0] if len(folders) == 1 else Path()) / "report.html")
