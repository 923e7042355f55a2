"""local learning rules beside their baselines: the recipe compare, and its report

usage: neuropil compare [settings] [--out DIR]
       neuropil compare --help        its settings
       neuropil compare --resume DIR  go on after Ctrl-C, a kill or a full disk

DIR, which must not exist, gets report.html, results.json, the figures, and the run itself. Settings are chosen first:
neuropil sweep --help.
"""

from neuropil.cli.commands.run import start


def main(words: list[str]) -> int:
    """`neuropil compare ...`."""
    return start("compare", words)
