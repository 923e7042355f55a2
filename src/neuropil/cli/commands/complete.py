"""images with missing pixels, completed by the network of a finished run, as a PNG file

usage: neuropil complete RUN [--learner NAME] [--keep top] [--n 10] [--labels yes] [--seed 0] [--n-rounds 40]
                         [--out FILE.png]

--learner NAME the network, where the run has several that complete images
--keep MASK    the pixels that are known: top, bottom, left, right, centre, frame (all but the centre),
               random (half of them), none
--n N          number of test images
--labels WORD  yes: the label is known too; no: the network settles on one by itself
--n-rounds N   rounds in which the pixels are sampled; more rounds give better images
--out FILE     the file to write; without it RUN/completed.png

RUN is the folder of a finished run of a recipe whose network generates: digits_mstdp, mnist_mstdp, ...
Rows from above: the images, the known pixels, what the network expects, and two samples.
"""

from dataclasses import replace
from pathlib import Path

from neuropil.cli.argv import only, take
from neuropil.cli.load_run import load_generator, number
from neuropil.errors import require, unknown

USAGE = "neuropil complete RUN [--learner NAME] [--keep top] [--n 10] [--labels yes] [--out FILE.png]"


def main(words: list[str]) -> int:
    """`neuropil complete RUN ...`."""
    keep, told, out = take(words, "--keep") or "top", take(words, "--labels") or "yes", take(words, "--out")
    wanted = take(words, "--learner")
    n, seed = number(words, "--n", 10), number(words, "--seed", 0, least=0)
    n_rounds = number(words, "--n-rounds", 40)
    (folder,) = only(words, USAGE, least=1, most=1)
    if told not in ("yes", "no"):
        raise unknown("word", told, ("yes", "no"))

    import torch

    from neuropil.data import load
    from neuropil.data.masks import image_mask
    from neuropil.report import save_sheet

    learner, name, split_seed = load_generator(Path(folder), wanted)
    rng = torch.Generator().manual_seed(seed)
    test = load(name, seed=split_seed)[1]
    require(n <= len(test), f"--n takes up to {len(test)} test images, got {n}.")
    some = test[torch.randperm(len(test), generator=rng)[:n]]
    x, mask = some.pixels(), image_mask(keep, test.x.shape[1:], rng)
    labels = some.y if told == "yes" else None
    sampling = replace(learner.sampling, n_rounds=n_rounds, accept_margin=None)
    expected = learner.complete(x, mask, labels=labels)
    samples = [learner.complete(x, mask, labels=labels, rng=rng, sampling=sampling) for _ in range(2)]
    file = Path(out or Path(folder) / "completed.png")
    save_sheet(torch.cat([x, x * mask, expected, *samples]).numpy(), file, columns=n)
    correct = int((learner.predict(samples[0]) == some.y).sum())
    print(f"{file}: the network classifies {correct} of {n} completed images correctly")
    return 0
