"""what a rule needs to know: the proof by number that it is local, or that it is not

usage: neuropil audit                    every rule, beside backprop and the exact gradients of spikes
       neuropil audit NAME ... [settings] [--json FILE]
       neuropil audit ./mine.py          your own: `rule = ...`, or step(model, images, labels) that leaves gradients
"""

from importlib import import_module
from itertools import takewhile

from rich.console import Console

from neuropil.cli.commands.bench import TableOptions, table, write_rows
from neuropil.cli.settings import parse, show, use_machine


def main(words: list[str]) -> int:
    """`neuropil audit [NAME ...] [settings] [--json FILE]`."""
    room = import_module("neuropil.experiments.audited")
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    words = words[len(names) :]
    if {"-h", "--help"} & set(words):
        about = f"{(__doc__ or '').strip()}\n\nnames: {', '.join(room.audited_names())}"
        show("neuropil audit", about, room.Config, TableOptions)
        return 0
    settings, options = parse(words, room.Config, TableOptions)
    rows = room.main(use_machine(settings), names)
    Console().print(table([room.cells(row) for row in rows]))
    print(room.CAPTION, end="")
    write_rows(options.json, rows)
    return 0
