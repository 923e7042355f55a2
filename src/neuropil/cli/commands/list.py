"""show the recipes: what each is for, how long it takes, which data it needs

usage: neuropil list                 one or two lines for each
       neuropil list --measured      with their results

Minutes are those of one seed on one core of a desktop computer, with the settings that a recipe has by default.
"""

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from neuropil.cli.recipes import about, recipe_names
from neuropil.cli.settings import parse

HEADINGS = ("start here", "Hebbian features", "association", "STDP", "spiking", "associative", "robustness", "searches")


@dataclass(frozen=True)
class Settings:
    """What to show."""

    measured: bool = False


def main(words: list[str]) -> int:
    """`neuropil list`."""
    (asked,) = parse(words, Settings)
    said = {name: about(name) for name in recipe_names()}
    groups = {recipe.group for recipe in said.values()}
    console = Console()
    for heading in [*(one for one in HEADINGS if one in groups), *sorted(groups - set(HEADINGS))]:
        table = Table.grid(padding=(0, 2))
        for name, recipe in ((name, recipe) for name, recipe in said.items() if recipe.group == heading):
            minutes = "" if recipe.minutes is None else f"{recipe.minutes:g} min"
            table.add_row(f"  [bold]{name}", minutes, escape(recipe.purpose))
            if recipe.data:
                table.add_row("", "", f"[dim]Data: {', '.join(recipe.data)}.")
            if recipe.measured and asked.measured:
                table.add_row("", "", f"[dim]{escape(recipe.measured)}")
        console.print(f"\n[bold]{heading}", highlight=False)
        console.print(table)
    console.print("\nsettings and result: neuropil run NAME --help; minutes: of one seed on one core", highlight=False)
    return 0
