"""images with a part missing, completed by the network of a finished run, as a PNG file

usage: neuropil complete DIR [--keep top] [--n 10] [--labels yes] [--seed 0] [--rounds 40] [--out FILE.png]

--keep PART    what is given: top, bottom, left, right, centre (of what is given nothing else), frame (all but the
               centre), random (half of the pixels), none
--n N          test images
--labels WORD  yes: the label is given too; no: the network settles on one by itself
--out FILE     the file to write; without it DIR/completed.png

Rows from above: the images, what is given, what the network expects, and two samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuropil.cli.argv import only, take
from neuropil.cli.load_run import data_of, number, revive
from neuropil.errors import require, unknown

USAGE = "neuropil complete DIR [--keep top] [--n 10] [--labels yes] [--seed 0] [--rounds 40] [--out FILE.png]"
PARTS = ("top", "bottom", "left", "right", "centre", "frame", "random", "none")


def main(words: list[str]) -> int:
    """`neuropil complete DIR ...`."""
    keep, told, out = take(words, "--keep") or "top", take(words, "--labels") or "yes", take(words, "--out")
    n, seed = number(words, "--n", 10), number(words, "--seed", 0, least=0)
    rounds = number(words, "--rounds", 40)
    (folder,) = only(words, USAGE, least=1, most=1)
    for word, known in ((keep, PARTS), (told, ("yes", "no"))):
        if word not in known:
            raise unknown("word", word, known)

    import torch

    from neuropil.data import load
    from neuropil.report import save_sheet

    learner, rng = revive(Path(folder)), torch.Generator().manual_seed(seed)
    name, split_seed = data_of(Path(folder))
    test = load(name, seed=split_seed)[1]
    require(n <= len(test), f"--n takes up to {len(test)} test images, got {n}.")
    some = test[torch.randperm(len(test), generator=rng)[:n]]
    x, mask = some.pixels(), part(keep, test.x.shape[1:], rng)
    labels = some.y if told == "yes" else None
    sampling = replace(learner.sampling, rounds=rounds, sure=None)
    expected = learner.complete(x, mask, labels=labels)
    samples = [learner.complete(x, mask, labels=labels, rng=rng, sampling=sampling) for _ in range(2)]
    file = Path(out or Path(folder) / "completed.png")
    save_sheet(torch.cat([x, x * mask, expected, *samples]).numpy(), file, columns=n)
    print(file)
    return 0


def part(keep: str, shape: Sequence[int], rng: Any) -> Any:
    """(channels, height, width) of 0 and 1, 1 where a pixel is given."""
    import torch

    channels, height, width = shape
    down, across = torch.arange(height)[:, None] / height, torch.arange(width)[None, :] / width
    middle = (down >= 0.25) & (down < 0.75) & (across >= 0.25) & (across < 0.75)
    parts = {
        "top": down < 0.5,
        "bottom": down >= 0.5,
        "left": across < 0.5,
        "right": across >= 0.5,
        "centre": middle,
        "frame": ~middle,
        "random": torch.rand(height, width, generator=rng) < 0.5,
        "none": torch.zeros(height, width, dtype=torch.bool),
    }
    return parts[keep].expand(channels, height, width).float()
