"""How good generated images are, by an independent classifier: right class, as varied as real images, new."""

import math
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require


class ReferenceClassifier:
    """A small convolutional network, trained by backprop on real images, that classifies images and gives features.

    It is never part of a learner.

    Args:
        n_features: units of its last hidden layer, in which distances are measured.
        epochs, batch, lr: of its training by Adam; the learning rate falls linearly to 0.
        min_steps: fewest optimiser steps; a small data set gets as many more epochs as this takes.

    After `fit`: ``network_``.
    """

    def __init__(
        self, n_features: int = 64, *, epochs: int = 4, batch: int = 100, lr: float = 2e-3, min_steps: int = 400
    ):
        self.n_features, self.epochs, self.batch, self.lr, self.min_steps = n_features, epochs, batch, lr, min_steps

    def fit(self, train: Split, *, rng: Generator, tracker: Any) -> Self:
        """Learn to classify `train`, images of 4 x 4 pixels or more."""
        message = f"a reference classifier needs images (n, channels, height, width), got {tuple(train.x.shape)}."
        require(train.x.ndim == 4, message)
        network, batch = self._initialised(train, rng), min(self.batch, len(train))
        epochs = max(self.epochs, math.ceil(self.min_steps / math.ceil(len(train) / batch)))
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for _ in tracker.loop("reference classifier", epochs, **parts):
            for part in train.batches(batch, shuffle=rng):
                optimizer.zero_grad()
                F.cross_entropy(network(part.x), part.y).backward()
                optimizer.step()
            schedule.step()
        self.network_ = network.eval().requires_grad_(False)
        return self

    def _initialised(self, train: Split, rng: Generator) -> nn.Sequential:
        channels, height, width = train.x.shape[1:]
        flat = 32 * (height // 4) * (width // 4)
        network = nn.Sequential(
            *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(flat, self.n_features), nn.ReLU(), nn.Linear(self.n_features, train.classes)),
        )
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return network.to(train.x.device)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return torch.cat([self.network_(part).argmax(1) for part in x.split(1000)])

    def features(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, features)."""
        return torch.cat([self.network_[:-1](part) for part in x.split(1000)])


class GenerationScores(NamedTuple):
    """Scores of generated images, of `evaluate_samples`.

    Attributes:
        class_accuracy: fraction that the reference classifier takes for the requested class.
        pixel_variance: variance of the pixels within a class, relative to that of real images.
        feature_variance: the same in the features of the reference classifier.
        frechet: Frechet distance to the real images in these features.
        nearest: mean distance (L2) of a generated image to the nearest training image; far below that of real test
            images it would show copies.
    """

    class_accuracy: float
    pixel_variance: float
    feature_variance: float
    frechet: float
    nearest: float


def evaluate_samples(
    reference: ReferenceClassifier, images: Tensor, classes: Tensor, real: Split, train: Split
) -> GenerationScores:
    """The scores of generated `images`, measured on the device of the real ones.

    Args:
        reference: fitted to `train`.
        images: (n, *shape) in [0, 1].
        classes: (n,) the requested class of each.
        real: test images to compare with.
        train: training images, of which there should be no copies.

    Raises:
        Refusal: images of another shape than the real ones, or not one class for each.
    """
    require(
        len(images) == len(classes) and images.shape[1:] == real.x.shape[1:],
        f"generated images need the shape of the real ones {tuple(real.x.shape[1:])} and a class each, got "
        f"{tuple(images.shape)} and {tuple(classes.shape)}.",
    )
    pixels = real.pixels()
    images, classes = images.to(pixels.device), classes.to(pixels.device)
    features, real_features = reference.features(images), reference.features(pixels)
    return GenerationScores(
        class_accuracy=(reference.predict(images) == classes).double().mean().item(),
        pixel_variance=spread_within(images, classes) / spread_within(pixels, real.y),
        feature_variance=spread_within(features, classes) / spread_within(real_features, real.y),
        frechet=frechet_distance(features, real_features),
        nearest=nearest(images, train).mean().item(),
    )


def spread_within(values: Tensor, classes: Tensor) -> float:
    """Variance within a class, summed over all values of an example, mean over the classes that have two examples."""
    groups = [values[classes == label].flatten(1).double() for label in classes.unique()]
    spreads = [group.var(0).sum() for group in groups if len(group) > 1]
    require(len(spreads) > 0, "the variance within a class needs two examples of some class.")
    return torch.stack(spreads).mean().item()


def frechet_distance(first: Tensor, second: Tensor) -> float:
    r"""Between the normal distributions with the moments of two samples (n, d).

    :math:`|\mu_1 - \mu_2|^2 + \mathrm{tr}(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})`. Dowson & Landau 1982.
    """
    one, two = first.double(), second.double()
    apart = (one.mean(0) - two.mean(0)).square().sum()
    cov_one, cov_two = one.T.cov(), two.T.cov()
    root = matrix_root(cov_one)
    cross = matrix_root(root @ cov_two @ root)
    return float(apart + cov_one.trace() + cov_two.trace() - 2 * cross.trace())


def matrix_root(symmetric: Tensor) -> Tensor:
    """The root of a positive semi-definite matrix; what rounding made negative counts as 0."""
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def nearest(images: Tensor, train: Split, *, batch: int = 2000) -> Tensor:
    """(n,) distance of each image to the nearest training image, in pixels (L2); memory does not grow with `train`."""
    x = images.flatten(1)
    best = x.new_full((len(x),), torch.inf)
    for part in train.batches(min(batch, len(train))):
        y = part.x.flatten(1)
        gap = torch.addmm(y.square().sum(1).expand(len(x), -1), x, y.T, alpha=-2)
        best = torch.minimum(best, gap.amin(1))
    return (best + x.square().sum(1)).clamp(min=0).sqrt()
