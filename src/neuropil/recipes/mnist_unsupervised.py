"""mSTDP without labels on MNIST: hidden units learn to predict missing pixels from the others.

No label is used while the units learn: every nudge shows pixels that were missing, and the label units stay silent.
Then the units are frozen and scored twice. A linear readout is trained on them by gradient descent. And each unit is
assigned to the class for which it is most active, without further training, so that the units vote. The same is done
with as many random features, with the centres of k-means, and with principal components (readout only).

Measured: test, n = 3, mean and 95 % interval: readout 95.80 +- 0.28 %, k-means 96.39 +- 0.32, random features 94.52 +-
0.41, pixels 92.66 +- 0.03; vote 75.01 +- 0.93 %, k-means 78.57 +- 0.40, random features 72.68 +- 0.85.

Group: associative. Minutes: 5. Data: mnist.

Try: neuropil run mnist_unsupervised --seeds 3 --out runs/mnist_unsupervised
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn

from neuropil.associative import AssociativeNetwork, AssociativeTraining, Nudge, Settling, Task
from neuropil.data import Split
from neuropil.evaluate import accuracy, assign_units, fit_and_score
from neuropil.experiments.associative import hidden_layers
from neuropil.experiments.baselines import LINEAR, linear
from neuropil.experiments.comparison import Method, Origin, attempted, data_splits, save_learned
from neuropil.experiments.k_means import k_means_centres
from neuropil.experiments.settings import DataSettings
from neuropil.models import FeatureClassifier, Model, Triangle, receptive_fields
from neuropil.runs import Row, Run, Tracker

WITHOUT_LABEL = Task("pixels", "partial", label_fraction=0.0)


@dataclass(frozen=True)
class Config(DataSettings):
    """Chosen on 10,000 images held out of the training images."""

    shares: ClassVar[bool] = True
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself
    units: int = 500  # hidden units; also the number of random features and of centres of k-means
    components: int = 100  # principal components
    epochs: int = 4  # passes over the training images
    batch: int = 100  # images in a step
    lr: float = 2e-3  # learning rate of synapses onto the hidden units and onto the pixels
    lr_decay: float = 0.6  # factor of the learning rates after each epoch
    readout_epochs: int = 20  # passes of the readout over the activity of the units


def main(config: Config, run: Run) -> None:
    """Each kind of units in turn; the test set is read once by its readout and once by its vote."""
    train, test = data_splits("mnist", config.n_train, config.seed, device=config.device)
    run.update_metadata(data={"mnist": {"train": train.checksum(), "test": test.checksum()}})
    kinds = (stdp, random_features, centres, principal, pixels)
    for index in run.loop("units", len(kinds)):
        rng = torch.Generator().manual_seed(config.seed)
        work = partial(score, train=train, test=test, rng=rng, run=run)
        done = attempted(partial(kinds[index], config), train, rng, work, run=run, data="mnist", seed=config.seed)
        if done is not None:
            method, reached = done
            facts = {"accuracy": reached, "n_train": len(train), "data": "mnist", "seed": config.seed, "place": index}
            save_learned(method, run, Origin("mnist"), facts)


def score(method: Method, tracker: Tracker, *, train: Split, test: Split, rng: Generator, run: Run) -> float:
    """Fit the method and score its readout, and the votes of its units if these can be assigned to classes."""
    result = fit_and_score(method.learner, train, test, rng=rng, tracker=tracker)
    if method.competes:
        votes = accuracy(assign_units(units(method.learner), train), test)
        tracker.log(Row(kind="assigned units", metrics={"accuracy": votes}))
    if method.family == "local":
        run.save(**{f"fields.{method.name}": receptive_fields(method.learner.network_, train.x.shape[1:])})
    return result


def units(model: Model) -> nn.Module:
    """The units that have learned, without a readout."""
    return model.feature_layers()[0].module


def stdp(config: Config, train: Split, rng: Generator) -> Method:
    """Units that learn from images alone, by the differential Hebbian rule.

    https://arxiv.org/abs/1912.00009
    """
    lr = {"classification": config.lr, "pixels": config.lr}
    training = AssociativeTraining((WITHOUT_LABEL,), config.epochs, config.batch, lr, lr_decay=config.lr_decay)
    settling, nudge = Settling(4, step_size=1.0, check_every=2), Nudge(2)
    gains = {"classification": 1.0, "label": 0.0}  # nothing drives the label units
    learner = AssociativeNetwork((config.units,), settling=settling, nudge=nudge, training=training, init_gains=gains)
    layers = hidden_layers(train, (config.units,), rng)
    return with_readout(config, "mSTDP without labels", layers, LearningWithoutLabels(learner))


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """The same units with frozen random weights.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    return with_readout(config, "random features", hidden_layers(train, (config.units,), rng))


def centres(config: Config, train: Split, rng: Generator) -> Method:
    """Centres of k-means, as active as an image is nearer to them than to the others on average. Coates et al. 2011.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    middle = k_means_centres(train.pixels().flatten(1), config.units, config.seed).cpu()
    return with_readout(config, "k-means", fixed_body(2 * middle, -middle.square().sum(1), Triangle()))


def principal(config: Config, train: Split, rng: Generator) -> Method:
    """Principal components, which are positive as often as negative and have no vote."""
    x = train.pixels().flatten(1).cpu().numpy()
    model = PCA(min(config.components, *x.shape), random_state=config.seed)
    axes = torch.from_numpy(model.fit(x).components_).float()
    body = fixed_body(axes, -axes @ torch.from_numpy(model.mean_).float(), nn.Identity())
    return with_readout(config, "principal components", body, votes=False)


def pixels(config: Config, train: Split, rng: Generator) -> Method:
    """A linear classifier of the pixels themselves."""
    return replace(linear(train, rng), competes=False)


def fixed_body(weight: Tensor, bias: Tensor, active: nn.Module) -> nn.Sequential:
    """A hidden layer with these weights (units, pixels)."""
    hidden = nn.Linear(weight.shape[1], len(weight)).requires_grad_(False)
    hidden.weight.copy_(weight)
    hidden.bias.copy_(bias)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden, active1=active))


@dataclass(frozen=True)
class LearningWithoutLabels:
    """Lets the hidden layer of a body learn as the hidden units of an associative network that never sees a label."""

    learner: AssociativeNetwork

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Take over what the network has learned from `train`."""
        self.learner.fit(Split.unlabelled(train.x, train.classes), rng=rng, tracker=tracker)
        body.load_state_dict(units(self.learner).state_dict())


def with_readout(
    config: Config, name: str, body: nn.Sequential, learning: LearningWithoutLabels | None = None, *, votes: bool = True
) -> Method:
    """Units under a linear readout; `votes` says whether they can be assigned to classes."""
    learner = FeatureClassifier(body, learning=learning, readout=replace(LINEAR, epochs=config.readout_epochs))
    return Method(name, "local" if learning else "baseline", learner, competes=votes)
