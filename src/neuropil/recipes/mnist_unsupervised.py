"""mSTDP without labels on MNIST: hidden units learn to predict missing pixels from others; then, what do they know?

No label is seen while the units learn: every teacher event shows pixels that were hidden, and label units stay silent.
Then the units are frozen and asked twice: a linear readout is trained on them by gradient descent (the probe), and
every unit is assigned to the class for which it is most active, without any training (the vote). The same is asked of
random features of the same size, of the centres of k-means, and of principal components (the probe only).

Measured: test, n = 3, mean and 95 % interval: probe 95.80 +- 0.28 %, k-means 96.39 +- 0.32, random features 94.52 +-
0.41, pixels 92.66 +- 0.03; vote 75.01 +- 0.93 %, k-means 78.57 +- 0.40, random features 72.68 +- 0.85.

Try: neuropil run mnist_unsupervised --seeds 3 --out runs/mnist_unsupervised
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn

from neuropil.associative import AssociativeNetwork, AssociativeTraining, Settling, Teacher, Trial
from neuropil.data import Split
from neuropil.evaluate import accuracy, assign_units, fit_and_score
from neuropil.experiments.associative import hard_body
from neuropil.experiments.comparison import Method, data_splits
from neuropil.experiments.machine import Machine
from neuropil.models import FeatureClassifier, Model, SupervisedTraining, Triangle, receptive_fields
from neuropil.runs import Row, Run, TaggedTracker, Tracker

BLIND = Trial("pixels", "part", labels=0.0)


@dataclass(frozen=True)
class Config(Machine):
    """Chosen on 10,000 images held out of the training part."""

    seed: int = 0
    """of weights, order of examples, masks and spikes"""
    units: int = 500
    """hidden units; random features and centres, too"""
    components: int = 100
    """principal components"""
    epochs: int = 4
    """passes over the images"""
    batch: int = 100
    """images in a trial"""
    rate: float = 2e-3
    """learning rate of the synapses onto the hidden units, and onto the pixels"""
    decay: float = 0.6
    """factor of the rates from epoch to epoch"""
    probe_epochs: int = 20
    """passes of the readout over the activity"""
    n_train: int = 0
    """use only that many training images; 0 for all"""
    threads: int = 1
    """threads of the CPU; 0 for as many as torch takes by itself"""


def main(config: Config, run: Run) -> None:
    """Each kind of units in turn; the test set is read once by its probe and once by its vote."""
    train, test = data_splits("mnist", config.n_train, config.seed, device=config.device)
    run.update_metadata(data={"mnist": {"train": train.checksum(), "test": test.checksum()}})
    kinds = (stdp, random_features, centres, principal, pixels)
    for index in run.loop("units", len(kinds)):
        rng = torch.Generator().manual_seed(config.seed)
        method = kinds[index](config, train, rng)
        tracker = TaggedTracker(run, learner=method.name, family=method.family, data="mnist", seed=config.seed)
        fit_and_score(method.learner, train, test, rng=rng, tracker=tracker)
        if method.competes:
            right = accuracy(assign_units(units(method.learner), train), test)
            tracker.log(Row(kind="assigned units", metrics={"accuracy": right}))
        if method.family == "local":
            run.save(**{f"fields.{method.name}": receptive_fields(method.learner.network_, train.x.shape[1:])})


def units(model: Model) -> nn.Module:
    """The units that were learned, without a readout."""
    return model.feature_layers()[0].module


def stdp(config: Config, train: Split, rng: Generator) -> Method:
    """The units under test."""
    rates = {"naming": config.rate, "pixels": config.rate}
    practice = AssociativeTraining(
        (BLIND,), epochs=config.epochs, batch=config.batch, rates=rates, lr_decay=config.decay
    )
    gains = {"naming": 1.0, "label": 0.0}  # nothing drives the label units
    learner = AssociativeNetwork(
        (config.units,), settling=Settling(4, step=1.0, check=2), teacher=Teacher(2), practice=practice, gains=gains
    )
    return probed("mSTDP without labels", "local", hard_body(train, (config.units,), rng), config, PixelEvents(learner))


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """The same units as they were drawn."""
    return probed("random features", "baseline", hard_body(train, (config.units,), rng), config)


def centres(config: Config, train: Split, rng: Generator) -> Method:
    """Centres of k-means, as active as an image is nearer to them than to the others on average. Coates et al. 2011."""
    found = MiniBatchKMeans(config.units, batch_size=2000, n_init=1, max_iter=20, random_state=config.seed)
    middle = torch.from_numpy(found.fit(train.pixels().flatten(1).cpu().numpy()).cluster_centers_).float()
    return probed("k-means", "baseline", fixed_body(2 * middle, -middle.square().sum(1), Triangle()), config)


def principal(config: Config, train: Split, rng: Generator) -> Method:
    """Principal components, which are positive as often as negative and have no vote."""
    model = PCA(min(config.components, *train.pixels().flatten(1).shape), random_state=config.seed)
    x = train.pixels().flatten(1).cpu().numpy()
    axes = torch.from_numpy(model.fit(x).components_).float()
    body = fixed_body(axes, -axes @ torch.from_numpy(model.mean_).float(), nn.Identity())
    return probed("principal components", "baseline", body, config, votes=False)


def pixels(config: Config, train: Split, rng: Generator) -> Method:
    """The probe on the pixels themselves."""
    return probed("linear", "baseline", nn.Sequential(nn.Flatten()), config, votes=False)


def fixed_body(weight: Tensor, bias: Tensor, active: nn.Module) -> nn.Sequential:
    """A hidden layer with these weights (units, pixels)."""
    hidden = nn.Linear(weight.shape[1], len(weight)).requires_grad_(False)
    hidden.weight.copy_(weight)
    hidden.bias.copy_(bias)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden, active1=active))


@dataclass(frozen=True)
class PixelEvents:
    """Lets the hidden layer of a body learn as the hidden units of an associative network that never sees a label."""

    learner: AssociativeNetwork

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Take over what the network has learned from `train`."""
        self.learner.fit(train, rng=rng, tracker=tracker, labels=torch.full_like(train.y, -1))
        body.load_state_dict(units(self.learner).state_dict())


def probed(
    name: str,
    family: str,
    body: nn.Sequential,
    config: Config,
    learning: PixelEvents | None = None,
    *,
    votes: bool = True,
) -> Method:
    """Units under a linear readout; `votes` says whether they can be assigned to classes."""
    readout = SupervisedTraining(epochs=config.probe_epochs, batch=500, lr=1e-2, weight_decay=0.0, min_steps=1500)
    return Method(name, family, FeatureClassifier(body, learning=learning, readout=readout), competes=votes)
