"""local learners beside their baselines: the recipe compare, and its report

usage: neuropil compare [settings] [--out DIR]
       neuropil compare --help        its settings
       neuropil run --resume DIR      go on after Ctrl-C, a kill or a full disk

DIR, which must not exist, gets report.html, results.json, the figures, and the run itself.
"""

import shlex


def main(words: list[str]) -> int:
    """`neuropil compare ...`."""
    from neuropil.cli.commands.run import show_settings

    if {"-h", "--help"} & set(words):
        return show_settings("compare", "neuropil compare")

    from neuropil.cli.runner import Job, do

    return do(Job.of(shlex.join(["neuropil", "compare", *words])))
