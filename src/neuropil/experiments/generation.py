"""Generated images before a reference classifier, beside real test images, class means and a probabilistic PCA."""

import torch
from sklearn.decomposition import PCA
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.evaluate import ReferenceClassifier, accuracy, evaluate_samples
from neuropil.experiments.comparison import Method
from neuropil.runs import SamplesRow, TaggedTracker

SAMPLES = "samples."  # before the learner's name: images that the report shows, as many rows as classes


def log_generation_scores(method: Method, train: Split, test: Split, tracker: TaggedTracker, *, each: int) -> None:
    """Log a "samples" row for a learner that generates, and one for each baseline; keep some of the images.

    Args:
        method: others than those whose learner generates are left alone.
        train, test: real images; the reference classifier learns from `train`, and is compared with `test`.
        tracker: takes the rows, its run the images; its seed is that of the reference classifier and of the images.
        each: generated images of each class.
    """
    if not getattr(method.learner, "generates", False):
        return
    rng = torch.Generator().manual_seed(tracker.seed or 0)
    reference = ReferenceClassifier().fit(train, rng=rng, tracker=tracker)
    asked = torch.arange(train.classes).repeat_interleave(each)
    made = method.learner.generate(torch.arange(train.classes), each, rng)
    pca = pca_samples(train, asked, rng)
    generated = {method.name: made.images, "probabilistic PCA": pca, "class means": class_means(train)[asked]}
    reached = accuracy(reference, test)
    for name, images in {**generated, "real test images": test.pixels()}.items():
        classes = asked if name in generated else test.y
        scores = evaluate_samples(reference, images, classes, test, train)._asdict()
        attempts = made.attempts.double().mean().item() if name == method.name else 1.0
        row = SamplesRow(source=name, n=len(images), attempts=attempts, reference_accuracy=reached, **scores)
        tracker.log(row)
    for name in (method.name, "probabilistic PCA"):
        tracker.run.save(**{SAMPLES + name: first_of_each(generated[name], asked)})


def first_of_each(images: Tensor, classes: Tensor, count: int = 10) -> Tensor:
    """`count` images of each class, class after class."""
    return torch.cat([images[classes == label][:count] for label in classes.unique()])


def class_means(train: Split) -> Tensor:
    """(classes, *shape): the mean image of each class."""
    pixels = train.pixels()
    return torch.stack([pixels[train.y == label].mean(0) for label in range(train.classes)])


def pca_samples(train: Split, asked: Tensor, rng: Generator, *, components: int = 30, max_images: int = 3000) -> Tensor:
    """Samples (n, *shape) of a probabilistic PCA of each class, on the CPU, clipped to [0, 1]. Tipping & Bishop 1999.

    Args:
        train: of each class at most `max_images` are used.
        asked: (n,) the class of each sample.
        rng: of the samples.
        components: dimensions of each class.
        max_images: images of a class.
    """
    shape = train.x.shape[1:]
    samples = torch.zeros(len(asked), *shape)
    for label in asked.unique():
        images = train[(train.y == label).nonzero().flatten()[:max_images]].pixels().flatten(1).double()
        model = PCA(min(components, len(images) - 1, images.shape[1] - 1), svd_solver="covariance_eigh")
        model.fit(images.cpu().numpy())
        n = int((asked == label).sum())
        spread = torch.from_numpy((model.explained_variance_ - model.noise_variance_).clip(min=0) ** 0.5)
        inside = torch.randn(n, len(spread), generator=rng, dtype=torch.float64) * spread
        noise = torch.randn(n, images.shape[1], generator=rng, dtype=torch.float64) * model.noise_variance_**0.5
        values = torch.from_numpy(model.mean_) + inside @ torch.from_numpy(model.components_) + noise
        samples[asked == label] = values.clamp(0, 1).float().view(n, *shape)
    return samples
