"""run a recipe, or go on with a run that was stopped

usage: neuropil run NAME      [settings] [--out DIR] [--seeds N]    one of ours; see neuropil list
       neuropil run ./FILE.py [settings] [--out DIR] [--seeds N]    one of yours; see neuropil copy
       neuropil run NAME --help                                     its settings
       neuropil run --resume DIR

--out DIR      the folder to write, which must not exist; without it, a new one under runs/
--seeds N      N runs with the seeds seed, seed + 1, ..., each in a folder of its own, and one report over them
--resume DIR   go on after Ctrl-C, a kill or a full disk, bit for bit as if nothing had happened

The folder holds run.json (settings, versions, machine), metrics.jsonl, weights.safetensors and report.html.
"""

import shlex
from pathlib import Path

from neuropil.cli.argv import only, take
from neuropil.errors import require

USAGE = "neuropil run NAME [settings] [--out DIR] [--seeds N], or neuropil run --resume DIR"


def main(words: list[str]) -> int:
    """`neuropil run ...`."""
    from neuropil.cli.runner import Job, do, resume

    if any(word.partition("=")[0] == "--resume" for word in words):
        folder = take(words, "--resume")
        only(words, USAGE, least=0, most=0)
        return resume(Path(str(folder)))
    require(bool(words) and not words[0].startswith("-"), f"name a recipe first. Usage: {USAGE}")
    if {"-h", "--help"} & set(words):
        return show_settings(words[0], f"neuropil run {words[0]}")
    return do(Job.of(shlex.join(["neuropil", "run", *words])))


def show_settings(name: str, prog: str) -> int:
    """Print the settings of a recipe."""
    from neuropil.cli.recipes import about, load, resolve
    from neuropil.cli.settings import check, parse, show

    recipe, (base, words) = load(name), resolve(name, [])
    also = "Also --out DIR and --seeds N: see neuropil run --help."
    text, config = (recipe.__doc__ or "").strip(), check(getattr(recipe, "Config", None), name)
    if base != name:
        text = f"{about(name).purpose} The recipe {base} with {' '.join(words)}.\n\n{about(name).measured}"
    show(config, prog, f"{text}\n\n{also}", default=parse(config, words) if words else None)
    return 0
