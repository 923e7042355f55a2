"""images with missing pixels, completed by the network of a finished run, as a PNG file

usage: neuropil complete RUN [--learner NAME] [--known top] [--n 10] [--labels yes] [--seed 0] [--n-rounds 40]
                         [--device cpu] [--out FILE.png]

--learner NAME the network, where the run has several that complete images
--known MASK   the pixels that are known: top, bottom, left, right, centre, frame (all but the centre),
               random (half of them), none
--n N          number of test images
--labels WORD  yes: the label is known too; no: the network settles on one by itself
--n-rounds N   rounds in which the pixels are sampled; more rounds give better images
--device NAME  where to compute: cpu, cuda, or auto
--out FILE     the file to write; without it RUN/completed.png, or ./NAME-completed.png

RUN is the folder of a finished run of a recipe whose network generates: digits_mstdp, mnist_mstdp, ...
Or a network that has learned already, see neuropil zoo: neuropil complete digits-mstdp
Rows from above: the images, the known pixels, what the network expects, and two samples.
"""

from dataclasses import dataclass, replace
from typing import Literal

from neuropil.cli.load_run import SheetSettings, load_generator, tell
from neuropil.cli.settings import parse
from neuropil.errors import device_named, require


@dataclass(frozen=True)
class Settings(SheetSettings):
    """What to complete."""

    known: str = "top"
    labels: Literal["yes", "no"] = "yes"


def main(words: list[str]) -> int:
    """`neuropil complete RUN ...`."""
    (asked,) = parse(words, Settings)
    n = asked.n or 10

    import torch

    from neuropil.data import load
    from neuropil.data.masks import image_mask
    from neuropil.report import save_sheet

    learner, name, split_seed = load_generator(asked)
    rng = torch.Generator().manual_seed(asked.seed)
    require(bool(name), f"{asked.run} does not say from which data it learned, so there are no images to complete.")
    test = load(name, seed=split_seed)[1]
    require(n <= len(test), f"--n takes up to {len(test)} test images, got {n}.")
    some = test[torch.randperm(len(test), generator=rng)[:n]].to(device_named(asked.device))
    x, mask = some.pixels(), image_mask(asked.known, test.x.shape[1:], rng).to(some.x.device)
    labels = some.y if asked.labels == "yes" else None
    sampling = replace(learner.sampling, n_rounds=asked.n_rounds, accept_margin=None)
    expected = learner.complete(x, mask, labels=labels)
    samples = [learner.complete(x, mask, labels=labels, rng=rng, sampling=sampling) for _ in range(2)]
    file = asked.file("completed.png")
    save_sheet(torch.cat([x, x * mask, expected, *samples]).cpu().numpy(), file, columns=n)
    correct = int((learner.predict(samples[0]) == some.y).sum())
    told = "as the labels that it was given" if asked.labels == "yes" else "correctly, without being given a label"
    tell(file, correct, n, f"completed images {told}")
    return 0
