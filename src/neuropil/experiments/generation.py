"""Drawings before an independent judge, beside real test images, class means and a probabilistic PCA."""

from typing import Any

import torch
from sklearn.decomposition import PCA
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.evaluate import Judge, accuracy, evaluate_samples
from neuropil.experiments.comparison import Method
from neuropil.runs import Run, SamplesRow, TaggedTracker

SAMPLES = "samples."  # before the learner's name: images that the report shows, as many rows as classes


def log_generation_scores(
    method: Method, train: Split, test: Split, *, each: int, seed: int, tracker: TaggedTracker, run: Run
) -> None:
    """Log a "samples" row for the learner and one for each thing it is measured against; keep some drawings.

    Args:
        entrant: what drew; has ``draw``.
        train, test: real images; the judge learns from `train`, and is compared with `test`.
        each: drawings of each class.
        seed: of the judge and of the drawings.
        watch, run: take the rows and the drawings.
    """
    rng = torch.Generator().manual_seed(seed)
    judge = Judge().fit(train, rng=rng, tracker=tracker)
    asked = torch.arange(train.classes).repeat_interleave(each)
    made = method.learner.draw(torch.arange(train.classes), each, rng)
    drawn = {
        method.name: made.images,
        "probabilistic PCA": pca_samples(train, asked, rng),
        "class means": class_means(train)[asked],
    }
    rows: dict[str, Any] = {name: evaluate_samples(judge, images, asked, test, train) for name, images in drawn.items()}
    rows["real test images"] = evaluate_samples(judge, test.pixels(), test.y, test, train)
    read = accuracy(judge, test)
    for name, verdict in rows.items():
        n = len(test) if name == "real test images" else len(asked)
        attempts = made.tries.double().mean().item() if name == method.name else 1.0
        tracker.log(SamplesRow(source=name, n=n, attempts=attempts, reference_accuracy=read, **verdict._asdict()))
    for name in (method.name, "probabilistic PCA"):
        run.save(**{SAMPLES + name: first_of_each(drawn[name], asked)})


def first_of_each(images: Tensor, classes: Tensor, count: int = 10) -> Tensor:
    """`count` images of each class, class after class."""
    return torch.cat([images[classes == label][:count] for label in classes.unique()])


def class_means(train: Split) -> Tensor:
    """(classes, *shape): the mean image of each class."""
    pixels = train.pixels()
    return torch.stack([pixels[train.y == label].mean(0) for label in range(train.classes)])


def pca_samples(train: Split, asked: Tensor, rng: Generator, *, components: int = 30, most: int = 3000) -> Tensor:
    """Samples (n, *shape) of a probabilistic PCA of each class, cut to [0, 1]. Tipping & Bishop 1999.

    Args:
        train: of each class at most `most` images are used.
        asked: (n,) the class of each sample.
        rng: of the samples.
        components: dimensions of each class.
        most: images of a class.
    """
    shape = train.x.shape[1:]
    drawn = torch.zeros(len(asked), *shape)
    for label in asked.unique():
        images = train[(train.y == label).nonzero().flatten()[:most]].pixels().flatten(1).double()
        model = PCA(min(components, len(images) - 1, images.shape[1] - 1), svd_solver="covariance_eigh")
        model.fit(images.cpu().numpy())
        n = int((asked == label).sum())
        spread = torch.from_numpy((model.explained_variance_ - model.noise_variance_).clip(min=0) ** 0.5)
        inside = torch.randn(n, len(spread), generator=rng, dtype=torch.float64) * spread
        noise = torch.randn(n, images.shape[1], generator=rng, dtype=torch.float64) * model.noise_variance_**0.5
        values = torch.from_numpy(model.mean_) + inside @ torch.from_numpy(model.components_) + noise
        drawn[asked == label] = values.clamp(0, 1).float().view(n, *shape)
    return drawn
