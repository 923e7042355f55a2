"""one page with tables and figures over one or many runs

usage: neuropil report DIR... [--out FILE]

DIR is the folder of a run, or one that holds folders of runs. FILE is DIR/report.html if there is one DIR,
else ./report.html; a report that is there already is replaced.
"""

from pathlib import Path

from neuropil.cli.argv import only, take


def main(words: list[str]) -> int:
    """`neuropil report DIR... [--out FILE]`."""
    out = take(words, "--out")
    folders = [Path(word) for word in only(words, "neuropil report DIR... [--out FILE]", least=1)]
    home = folders[0] if len(folders) == 1 else Path()

    from neuropil.cli.runner import report

    return report(folders, Path(out) if out else home / "report.html")
