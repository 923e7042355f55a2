"""local learning rules beside their baselines: the recipe compare, and its report

usage: neuropil compare [settings] [--out DIR]
       neuropil compare --help        its settings
       neuropil compare --resume DIR  go on after Ctrl-C, a kill or a full disk

DIR, which must not exist, gets report.html, results.json, the figures, and the run itself.
"""

from neuropil.cli.commands.run import go_on, show_settings


def main(words: list[str]) -> int:
    """`neuropil compare ...`."""
    if {"-h", "--help"} & set(words):
        return show_settings("compare", "neuropil compare")
    if any(word.partition("=")[0] == "--resume" for word in words):
        return go_on(words)
    from neuropil.cli.runner import do

    return do("compare", words)
