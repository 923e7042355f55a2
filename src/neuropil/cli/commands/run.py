"""run a recipe, or go on with a run that was stopped

usage: neuropil run NAME      [settings] [--out DIR] [--seeds N] [--quiet]    one of ours; see neuropil list
       neuropil run ./FILE.py [settings] [--out DIR] [--seeds N] [--quiet]    one of yours; see neuropil copy
       neuropil run NAME --help                                               its settings
       neuropil run --resume DIR [--quiet]

--out DIR      the folder to write, which must not exist; without it, a new one under runs/
--seeds N      N runs with the seeds seed, seed + 1, ..., each in a folder of its own, and one report over them
--resume DIR   go on after Ctrl-C, a kill or a full disk, bit for bit as if nothing had happened
--quiet        no lines on stderr that say how far the run is
--device cuda, --threads N   where to compute: settings of every recipe

The folder holds run.json (settings, versions, machine), metrics.jsonl, weights.safetensors and report.html.
"""

from dataclasses import dataclass
from pathlib import Path

from neuropil.errors import Refusal


@dataclass(frozen=True)
class Resume:
    """The words after `neuropil run` when a run goes on."""

    resume: Path
    quiet: bool = False


def main(words: list[str]) -> int:
    """`neuropil run ...`."""
    if any(word.partition("=")[0] == "--resume" for word in words):
        return go_on(words)
    if not words or words[0].startswith("-"):
        raise Refusal("name a recipe first, for example: neuropil run digits_mstdp. All of them: neuropil list")
    name, *rest = words
    if {"-h", "--help"} & set(rest):
        return show_settings(name, f"neuropil run {name}")
    from neuropil.cli.runner import do

    return do("run", words)


def go_on(words: list[str]) -> int:
    """`--resume DIR`, after any command that starts runs."""
    from neuropil.cli.settings import parse

    (asked,) = parse(words, Resume)

    from neuropil.cli.runner import resume

    return resume(asked.resume, quiet=asked.quiet)


def show_settings(name: str, prog: str) -> int:
    """Print the settings of a recipe."""
    from neuropil.cli.recipes import about, load, resolve
    from neuropil.cli.runner import RunOptions
    from neuropil.cli.settings import check, parse, show

    recipe, (base, words) = load(name), resolve(name, [])
    text, config = (recipe.__doc__ or "").strip(), check(getattr(recipe, "Config", None), name)
    if base != name:
        text = f"{about(name).purpose} The recipe {base} with {' '.join(words)}.\n\n{about(name).measured}"
    show(prog, text, config, RunOptions, default=parse(words, config)[0] if words else None)
    return 0
