"""a page to play with: write, and a network reads, completes and samples in the browser, without a server

usage: neuropil play RUN [--learner NAME] [--out FILE.html]

--learner NAME the network, where the run has several that generate images
--out FILE     the file to write; without it RUN/play.html, or ./NAME-play.html

RUN is the folder of a finished run of a recipe whose network generates: digits_mstdp, mnist_mstdp, ...
Or a network that has learned already, see neuropil zoo: neuropil play digits-mstdp
The page is one file and asks for nothing. Weights are rounded so that it stays below 2 MB, if it can.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from neuropil.cli.load_run import beside, data_of, find_generator
from neuropil.cli.settings import parse
from neuropil.errors import Refusal, require


@dataclass(frozen=True)
class Settings:
    """What to play with."""

    run: Positional[Path]
    learner: str | None = None
    out: Path | None = None


def main(words: list[str]) -> int:
    """`neuropil play RUN`."""
    (asked,) = parse(words, Settings)
    file = asked.out or beside(asked.run, "play.html")
    require(file.suffix in (".html", ".htm"), f"a page is a .html file, got {file.name!r}; try --out page.html")

    import neuropil
    from neuropil.data import load
    from neuropil.play import LARGEST, render
    from neuropil.runs.files import write_atomically

    found = find_generator(asked.run, asked.learner)
    name, seed = data_of(found)
    try:
        test = load(name, seed=seed)[1] if name else None
    except Refusal:
        test = None
    page, precision = render(neuropil.load(found.path), {"data": name, **found.about}, test)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, page.encode())
    size, plain = len(page.encode()), "" if test is not None else ", no examples: the data are not here"
    print(f"{file}: {size / 1e6:.2f} MB, weights in {precision}{plain}")
    if size > LARGEST:
        print(f"{file} is larger than {LARGEST / 1e6:g} MB; a network with fewer hidden units makes a smaller page.")
    return 0
