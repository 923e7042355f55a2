"""Labels that spread from few images to all others, along a graph of neighbours in the space of features."""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import needs, needs_numbers, require
from neuropil.models.training.readout import ReadoutClassifier, featurise
from neuropil.runs import NullTracker, Tracker


@dataclass(frozen=True)
class LabelSpreading:
    r"""A label for every example, from those of a few: :math:`F = (1 - \alpha S)^{-1} Y`, Zhou et al. 2004 (NIPS).

    Y are the labels, one-hot, with rows of zeros where there is none. :math:`S = D^{-1/2} W D^{-1/2}` comes from a
    graph: W is the mean of A and its transpose. For the nearest neighbours j of i,
    :math:`A_{ij} = \exp(-4 (d_{ij} / d_i)^2)`, with :math:`d_i` the distance of the last of them; all else is 0. Each
    class counts by its fraction of its sum over all examples, so that none is large by its place (Zhu et al. 2003).

    Distances are those of directions: features at norm 1 become principal components. Each is divided by the fourth
    root of its variance. Then all are brought to norm 1 again. None of it is local: every example meets all others.

    Attributes:
        neighbours: of every example.
        components: principal components, at most; 0 for features as they are, at norm 1.
        alpha: how far labels spread, above 0 and below 1.

    Examples:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
        >>> LabelSpreading(neighbours=2, components=0)(x, torch.tensor([-1, 0, -1, -1, -1, 1]), 2)
        tensor([0, 0, 0, 1, 1, 1])
    """

    neighbours: int = 10
    components: int = 100
    alpha: float = 0.99

    def __post_init__(self) -> None:
        needs_numbers(self)
        fine = self.neighbours >= 1 and self.components >= 0 and 0 < self.alpha < 1
        needs(self, fine, "neighbours >= 1, components >= 0 and 0 < alpha < 1")

    def __call__(self, x: Tensor, y: Tensor, classes: int) -> Tensor:
        """(n,) labels from features x (n, d) and labels y (n,), -1 where there is none; still -1 where none arrives."""
        mass = torch.from_numpy(self.spread(self.graph(directions(x, self.components)), y.cpu().numpy(), classes))
        return torch.where(mass.amax(1) > 0, mass.argmax(1), -1).to(y)

    def graph(self, z: np.ndarray) -> Any:
        """S (n, n), sparse, from places z (n, d)."""
        from scipy.sparse import diags  # here, because it takes a while to load
        from sklearn.neighbors import kneighbors_graph

        self.check_enough(len(z))
        near = kneighbors_graph(z, self.neighbours, mode="distance")
        square = near.data.reshape(-1, self.neighbours) ** 2
        last = square.max(1, keepdims=True).clip(np.finfo(square.dtype).tiny)
        near.data = np.exp(-4 * square / last).ravel()
        both = (near + near.T) / 2
        scale = diags(np.asarray(both.sum(1)).ravel() ** -0.5)
        return scale @ both @ scale

    def check_enough(self, examples: int) -> None:
        """Refuse fewer examples than make a graph."""
        few = f"spreading to {self.neighbours} neighbours needs more examples than that, got {examples}."
        require(examples > self.neighbours, few)

    def spread(self, graph: Any, y: np.ndarray, classes: int) -> np.ndarray:
        """F (n, classes), each class in fractions of its sum; zeros where no label arrives."""
        from scipy.sparse import identity
        from scipy.sparse.linalg import cg

        system = identity(len(y)) - self.alpha * graph
        mass = np.stack([cg(system, (y == k).astype(float), rtol=1e-6)[0] for k in range(classes)], 1)
        return cast(np.ndarray, mass / mass.sum(0).clip(np.finfo(float).tiny))


def directions(x: Tensor, components: int) -> np.ndarray:
    """Features (n, d) at norm 1, as principal components over the fourth root of their variance, at norm 1 again."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    z = normalize(x.cpu().numpy())
    count = min(components, len(z) - 1, z.shape[1])
    if count < 1:
        return cast(np.ndarray, z)
    found = PCA(count, svd_solver="covariance_eigh").fit(z)
    floor = found.explained_variance_.max() * 1e-9 + np.finfo(z.dtype).tiny
    return cast(np.ndarray, normalize(found.transform(z) / found.explained_variance_.clip(floor) ** 0.25))


class SpreadTaught:
    """A model with few labels that learns from those that spread to all images it has met.

    `fit` is that of the model. `refit_readout` is that of the model, too, where labels are few. Then it lets them
    spread among its features of all images of `fit`, and learns again, from all. A model that has learned its features
    without labels keeps them. One that learns end to end makes new ones. All else is that of the model.

    Args:
        learner: a `FeatureClassifier` or a `BackpropClassifier`.
        spreading: how labels spread.
        rounds: how often, at least 1; where features stay, more change nothing.

    Examples:
        >>> from neuropil.data import digits, subset
        >>> from neuropil.models import FeatureClassifier, RidgeRegression
        >>> train, test = digits()
        >>> plain = FeatureClassifier(torch.nn.Sequential(torch.nn.Flatten()), readout=RidgeRegression((0.1,)))
        >>> rng = torch.Generator().manual_seed(0)
        >>> model = SpreadTaught(plain, LabelSpreading()).fit(train, rng=rng)
        >>> model = model.refit_readout(subset(train, 20, 0), rng=rng)
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.8)
        True
    """

    def __init__(self, learner: ReadoutClassifier, spreading: LabelSpreading, rounds: int = 1):
        require(rounds >= 1, f"SpreadTaught needs rounds >= 1, got {rounds}.")
        self.learner, self.spreading, self.rounds = learner, spreading, rounds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["learner"], name)

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Let the model learn from `train`, whose images it keeps."""
        self.spreading.check_enough(len(train))
        self._images = train.x
        self.learner.fit(train, rng=rng, tracker=tracker)
        return self

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn again what needs labels, from `labelled` and from the images of `fit`, once labels have spread."""
        tracker = tracker or NullTracker()
        self.learner.refit_readout(labelled, rng=rng, tracker=tracker)
        images = torch.cat([labelled.x, self._images])
        y = torch.cat([labelled.y, labelled.y.new_full((len(self._images),), -1)])
        nodes = Split(images, y, labelled.classes)
        for _ in range(self.rounds):
            seen = featurise(self.learner.body_, nodes)
            answers = self.spreading(seen.x, y, labelled.classes)
            self.learner.refit_readout(Split(images, answers, labelled.classes).labelled(), rng=rng, tracker=tracker)
        return self
