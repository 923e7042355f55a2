"""run a recipe, or go on with a run that was stopped

usage: neuropil run NAME      [settings] [--out DIR] [--seeds N] [--quiet]    one of ours; see neuropil list
       neuropil run ./FILE.py [settings] [--out DIR] [--seeds N] [--quiet]    one of yours; see neuropil copy
       neuropil run NAME --help                                               its settings
       neuropil run --resume DIR [--quiet] [--anyway] [--code FILE.py ...]

--out DIR      the folder to write, which must not exist; without it, a new one under runs/
--seeds N      N runs with the seeds seed, seed + 1, ..., each in a folder of its own, and one report over them
--workers N    N processes on this machine learn together, each from a part of every batch; see docs/distributed.md
--hold-out F   score on that fraction of the training examples, held out by seed, and never on the test set
--resume DIR   go on after Ctrl-C, a kill or a full disk, bit for bit as if nothing had happened
--anyway       go on though versions, threads, data or code have changed; run.json and the report say so
--code FILES   files of code that a run may execute which you did not start yourself
--quiet        no lines on stderr that say how far the run is
--device cuda, --threads N   where to compute: settings of every recipe

Many settings, several at once, chosen on held-out examples: neuropil sweep --help. Methods side by side: neuropil
compare --help. The folder holds run.json (settings, versions, machine), metrics.jsonl, weights.safetensors and
report.html.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from neuropil.cli.settings import parse
from neuropil.errors import require


@dataclass(frozen=True)
class Resume:
    """The words after `neuropil run` when a run goes on."""

    resume: Path


def main(words: list[str]) -> int:
    """`neuropil run ...`."""
    lacks = "name a recipe first, for example: neuropil run digits_mstdp. All of them: neuropil list"
    return start("run", words, lacks)


def start(verb: str, words: list[str], lacks: str = "") -> int:
    """`neuropil VERB ...`: a run that goes on, settings that are shown, or a new run.

    Raises:
        Refusal: with the words `lacks`, if there are any, and `words` do not begin with a name.
    """
    goes_on = any(word.partition("=")[0] == "--resume" for word in words)
    named = bool(words) and not words[0].startswith("-")
    require(goes_on or named or not lacks, lacks)

    from neuropil.cli import follower, runner, workers  # need torch

    if {"-h", "--help"} & set(words) and not goes_on:
        name, prog = (words[0], f"neuropil run {words[0]}") if verb == "run" else (verb, f"neuropil {verb}")
        return runner.show_settings(name, prog)
    follows = workers.in_torchrun() > 1 and os.environ["RANK"] != "0"
    if goes_on:
        asked, manner = parse(words, Resume, runner.Manner)
        workers.meet_again(asked.resume, manner.device)
        if follows:
            return follower.follow()
        code = runner.resume(asked.resume, manner)
    elif follows:
        return follower.follow_torchrun(verb, words)
    else:
        code = runner.do(verb, words)
    workers.dismiss()
    return code
