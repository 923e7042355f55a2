"""a finished run under attack, corruption and damage, with checks that say which curves are void

usage: neuropil attack DIR [settings] [--out OUT]
       neuropil run attack --help       its settings
       neuropil run --resume OUT        go on after Ctrl-C, a kill or a full disk

DIR is the folder of a run of any recipe that compares learners side by side, or one that holds such folders.
Nothing is trained. OUT, which must not exist, gets report.html and the run; without it, a new one under runs/.
"""

import shlex

from neuropil.errors import require

USAGE = "neuropil attack DIR [settings] [--out OUT]"


def main(words: list[str]) -> int:
    """`neuropil attack DIR ...`."""
    require(bool(words) and not words[0].startswith("-"), f"name the folder of a run first. Usage: {USAGE}")

    from neuropil.cli.runner import Job, do

    return do(Job.of(shlex.join(["neuropil", "attack", *words])))
