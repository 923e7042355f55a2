"""drawings by the network of a finished run, as a PNG file

usage: neuropil generate DIR [--label N] [--n 64] [--seed 0] [--rounds 40] [--out FILE.png]

--label N    the class to draw; without it every class, one row each
--n N        drawings (of each class, if all are drawn)
--rounds N   pixels fire in so many rounds; more rounds, better drawings
--out FILE   the file to write; without it DIR/drawings.png

DIR is a run of a recipe whose network draws: digits_mstdp, mnist_mstdp, ...
A drawing that the network does not name as asked is drawn again, if the run's settings say so (sure).
"""

from dataclasses import replace
from pathlib import Path

from neuropil.cli.argv import only, take
from neuropil.cli.load_run import number, revive

USAGE = "neuropil generate DIR [--label N] [--n 64] [--seed 0] [--rounds 40] [--out FILE.png]"


def main(words: list[str]) -> int:
    """`neuropil generate DIR ...`."""
    label, out = take(words, "--label"), take(words, "--out")
    n = number(words, "--n", 10 if label is None else 64)
    seed, rounds = number(words, "--seed", 0, least=0), number(words, "--rounds", 40)
    (folder,) = only(words, USAGE, least=1, most=1)

    import torch

    from neuropil.report import save_sheet

    learner = revive(Path(folder))
    sampling = replace(learner.sampling, rounds=rounds)
    asked = torch.arange(learner.classes_) if label is None else torch.tensor([number([label], "", 0, least=0)])
    drawn = learner.generate(asked, n, torch.Generator().manual_seed(seed), sampling=sampling)
    file = Path(out or Path(folder) / "drawings.png")
    save_sheet(drawn.numpy(), file, columns=n if label is None else min(n, 16))
    print(file)
    return 0
