"""networks that have learned already: a list, what is known of one, and larger ones to be made

usage: neuropil zoo                            all networks
       neuropil zoo NAME                       what is known of one: data, command, accuracy, licence
       neuropil zoo NAME --make [--out FILE]   learn one that is not in the package; resumes if it was stopped

The name of a network stands wherever a command takes a finished run: neuropil generate digits-mstdp
In Python: neuropil.load("digits-mstdp").
Minutes are those of one core of a desktop computer.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional

from neuropil import zoo
from neuropil.cli.settings import parse
from neuropil.errors import require
from neuropil.loading import load, models_of


@dataclass(frozen=True)
class Settings:
    """Which network, and whether to make it."""

    name: Positional[str] = ""
    make: bool = False
    out: Path | None = None


def main(words: list[str]) -> int:
    """`neuropil zoo [NAME] [--make]`."""
    (asked,) = parse(words, Settings)
    require(not asked.make or bool(asked.name), "--make needs the name of a network; neuropil zoo lists them.")
    require(asked.make or asked.out is None, "--out FILE goes with --make.")
    if asked.make:
        return make(zoo.card(asked.name), asked.out or zoo.made(asked.name))
    if asked.name:
        show(zoo.card(asked.name))
    else:
        show_all()
    return 0


def show_all() -> None:
    """All networks, a line each, and their accuracy."""
    table, here = Table.grid(padding=(0, 2)), zoo.list_models()
    for one in map(zoo.card, zoo.list_models(missing=True)):
        where = "" if one.name in here else f"[dim]{one.minutes:g} min to make"
        table.add_row(f"[bold]{one.name}", escape(one.purpose), where)
        table.add_row("", f"[dim]{escape(one.measured)}", "")
    console = Console()
    console.print(table)
    console.print("\none of them: neuropil zoo NAME; in Python: neuropil.load(NAME)", highlight=False)


def show(one: zoo.Card) -> None:
    """The card of one network."""
    facts = {
        "data": f"{one.data} ({one.licence})", "accuracy": one.measured, "in the package": one.shipped,
        "made by": one.command, "takes": f"{one.minutes:g} minutes on one core", "commit": one.commit,
        "weights": f"rounded to {one.precision}",
    }  # fmt: skip
    print(f"{one.name}: {one.purpose}\n")
    for what, said in facts.items():
        if said:
            print(f"{what:15} {said}")
    if one.name in zoo.list_models():
        print(f"\n{load(one.name)}")
    else:
        print(f"\nnot in the package; make it with: neuropil zoo {one.name} --make")


def make(one: zoo.Card, file: Path) -> int:
    """Learn a network by its command and keep it."""
    from neuropil.cli import runner

    print(f"{one.name}: {one.command}\nabout {one.minutes:g} minutes on one core", flush=True)
    folder, (_, verb, *words) = file.with_suffix(".run"), shlex.split(one.command)
    if folder.exists():
        code = runner.resume(folder, runner.Manner())
    else:
        code = runner.do(verb, [*words, "--out", str(folder)])
    if not code:
        (model,) = models_of(folder)
        load(model.path).save(file, about={**model.about, "zoo": one.name}, precision=one.precision)
        print(f"{file}: {one.name}")
    return code
