"""measure speed and memory, as a table and as JSON

usage: neuropil bench NAME [settings] [--json FILE]
       neuropil bench NAME --help
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

import neuropil
from neuropil.cli.settings import config_of, parse, show, use_machine
from neuropil.errors import require, unknown

BENCH = Path(neuropil.__file__).parent / "bench"


def bench_names() -> list[str]:
    """The benchmarks are the files in the folder; there is no list to keep."""
    return sorted(file.stem for file in BENCH.glob("[!_]*.py"))


@dataclass(frozen=True)
class TableOptions:
    """Where else the rows go."""

    json: Annotated[Path | None, arg(help="a file that gets the rows as JSON")] = None


def main(words: list[str]) -> int:
    """`neuropil bench NAME [settings] [--json FILE]`."""
    named = bool(words) and not words[0].startswith("-")
    require(named, f"name a benchmark: neuropil bench {'|'.join(bench_names()) or 'NAME'} [settings] [--json FILE]")
    name, *words = words
    if name not in bench_names():
        raise unknown("benchmark", name, bench_names())
    module = import_module(f"neuropil.bench.{name}")
    config = config_of(module, name)
    if {"-h", "--help"} & set(words):
        show(f"neuropil bench {name}", (module.__doc__ or "").strip(), config, TableOptions)
        return 0
    settings, options = parse(words, config, TableOptions)
    settings = use_machine(settings)
    rows = module.main(settings)
    cells = getattr(module, "cells", _cells)
    Console().print(table([cells(row) for row in rows]))
    print(getattr(module, "CAPTION", "").format(**rows[-1]), end="")
    write_rows(options.json, rows)
    return 0


def write_rows(file: Path | None, rows: list[dict[str, Any]]) -> None:
    """The rows as JSON, if a file is named."""
    if file:
        from neuropil.runs.files import json_bytes, write_atomically

        write_atomically(file, json_bytes(rows, indent=1) + b"\n")


def table(rows: list[dict[str, str]]) -> Table:
    """One column per key, in the order in which the keys come; the first names the row."""
    table = Table(box=None, pad_edge=False)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        table.add_column(key, justify="left" if key == keys[0] else "right")
    for row in rows:
        table.add_row(*(row.get(key, "") for key in keys))
    return table


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items()}
