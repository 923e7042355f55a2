"""a finished run under attack, corruption and damage, with checks that say which curves are invalid

usage: neuropil attack DIR [settings] [--out OUT]
       neuropil run attack --help       its settings
       neuropil attack --resume OUT     go on after Ctrl-C, a kill or a full disk

DIR is the folder of a run of any recipe that compares learners side by side, or one that holds such folders.
Or the name of a network that has learned already, see neuropil zoo.
Nothing is trained. OUT, which must not exist, gets report.html and the run; without it, a new one under runs/.
"""

from neuropil.cli.commands.run import start


def main(words: list[str]) -> int:
    """`neuropil attack DIR ...`."""
    return start("attack", words, "name the folder of a run first. Usage: neuropil attack DIR [settings] [--out OUT]")
