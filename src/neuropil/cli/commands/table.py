"""the results of runs as a table: on the terminal, or as Markdown, LaTeX, CSV or JSON

usage: neuropil table DIR... [--format markdown|latex|csv|json] [--out FILE]

DIR is the folder of a run, or one that holds folders of runs. Every mean has n and a 95 % interval.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from neuropil.cli.settings import parse
from neuropil.errors import require


@dataclass(frozen=True)
class Settings:
    """Which runs, and what of them."""

    folders: Positional[tuple[Path, ...]]
    format: Annotated[Literal["text", "markdown", "latex", "csv", "json"], arg(help="what the table is written in")] = (
        "text"
    )
    out: Annotated[Path | None, arg(help="a file that gets the table, in place of the terminal")] = None


def main(words: list[str]) -> int:
    """`neuropil table DIR...`."""
    (asked,) = parse(words, Settings)
    require(bool(asked.folders), "name the folders of one or more runs: neuropil table DIR... [--format latex]")
    require(
        asked.format != "text" or asked.out is None,
        "a file needs a format: neuropil table DIR... --format csv --out FILE",
    )

    from neuropil import report

    results = report.gather(asked.folders)
    names = ", ".join(map(str, asked.folders))
    require(bool(results.summaries), f"no run in {names} has results of learners; its numbers are in metrics.jsonl.")
    if asked.format == "text":
        Console().print(report.table(results))
    elif asked.out is None:
        print(report.export(results, asked.format), end="")
    else:
        from neuropil.runs.files import write_atomically

        write_atomically(asked.out, report.export(results, asked.format).encode())
        print(f"table: {asked.out}")
    return 0
