"""show the recipes: what each is for, and what was measured

usage: neuropil list
"""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from neuropil.cli.argv import only
from neuropil.cli.recipes import about, recipe_names


def main(words: list[str]) -> int:
    """`neuropil list`."""
    only(words, "neuropil list", least=0, most=0)
    table = Table.grid(padding=(0, 2))
    for name in recipe_names():
        purpose, measured = about(name)
        table.add_row(f"[bold]{name}", escape(purpose))
        if measured:
            table.add_row("", f"[dim]{escape(measured)}")
    console = Console()
    console.print(table)
    console.print("\nsettings: neuropil run NAME --help", highlight=False)
    return 0
