"""What rules made of a network of one's own: linear probes of every layer beside its controls, and its units."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require
from neuropil.evaluate import UnitStatistics, linear_probe, unit_statistics
from neuropil.plasticity import Learner, Rule, attach, tap
from neuropil.plasticity.attachable import check_images
from neuropil.plasticity.geometry import rows, weight_of
from neuropil.plasticity.tap import bare

POOL = 4  # positions of a convolution that a probe sees, per axis


@dataclass(frozen=True)
class LayerDiagnosis:
    """One attached layer: probes are accuracies in [0, 1] of a linear classifier on its rectified output."""

    kind: str  # class of the layer
    untrained: float  # probe of the layer as it was before its rule was attached
    control: float  # probe at rate 0: start and bias, no learning
    learned: float  # probe of the layer as it is
    noise: float  # two probes that differ by less are alike: twice the standard error of a difference
    units: UnitStatistics  # of the layer as it is
    copies: int  # units whose weight has a cosine above 0.95 with that of an earlier one

    def __str__(self) -> str:
        count, norms = len(self.units.wins), self.units.norms.sqrt()
        dead = round(self.units.dead * count)
        gain = self.learned - self.control
        verdict = (
            f"learning makes no difference to start and bias beyond the noise of {100 * self.noise:.1f} points"
            if abs(gain) < self.noise
            else f"learning {'adds' if gain > 0 else 'costs'} {100 * abs(gain):.1f} points on top of start and bias"
        )
        return (
            f"{self.kind}, {count} units. Linear probe: {100 * self.untrained:.1f} % untrained, "
            f"{100 * self.control:.1f} % with start and bias alone, {100 * self.learned:.1f} % as it is; {verdict}. "
            f"{dead or 'No'} dead {'unit' if dead == 1 else 'units'}, {self.copies or 'no'} "
            f"{'copy' if self.copies == 1 else 'copies'}; norms {norms.min():.2g} to {norms.max():.2g}; "
            f"effective rank {self.units.effective_rank:.0f}."
        )


class Diagnosis(dict[str, LayerDiagnosis]):
    """A `LayerDiagnosis` by name of the layer; in words as a string."""

    def __repr__(self) -> str:
        return "\n".join(f"{name or 'the network'}: {layer}" for name, layer in self.items())


def diagnose(
    model: nn.Module, rules: Learner | Mapping[str, Rule], images: Tensor, labels: Tensor, *, epochs: int = 3
) -> Diagnosis:
    """Whether local rules help a network: probes of each attached layer untrained, at rate 0 and as it is, and units.

    Nothing is changed. Linear classifiers learn from one half of the images and are scored on the other.

    Args:
        model: the network.
        rules: the learner that `attach` made for it. Or rules by layer: a copy of the network then learns from the
            first half, by SGD at the rate 0.2 in batches of 100.
        images: a batch as the network takes it, (n, *shape); 2,000 or more tell differences of a point or two.
        labels: (n,) int64.
        epochs: passes of that copy.

    Raises:
        Refusal: as `attach`; too few images, or not one label for each.

    Examples:
        >>> train, _ = npl.load_data("digits")
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 60))
        >>> found = npl.diagnose(model, {"1": npl.ExplainAway()}, train.pixels(), train.y)
        >>> print(found)
        1: Linear, 60 units. Linear probe: ... % untrained, ... with start and bias alone, ... as it is; ...
        >>> found["1"].learned > 0.8
        True
    """
    check_images("diagnose", images)
    require(isinstance(labels, Tensor), f"diagnose needs labels as a tensor (n,), got {type(labels).__name__}.")
    require(
        images.shape[:1] == labels.shape and len(labels) >= 20,
        f"diagnose needs 20 images or more and a label for each, got {len(images)} and labels {tuple(labels.shape)}.",
    )
    require(int(labels.min()) >= 0, f"diagnose needs labels of 0 or more, got {int(labels.min())}.")
    own = not isinstance(rules, Learner) or rules.model is bare(model)[-1]
    require(own, "diagnose needs the network that the learner is attached to, got another one.")
    require(len(labels.unique()) > 1, "diagnose needs labels of two classes or more, got one.")
    order = torch.randperm(len(labels), generator=Generator().manual_seed(0)).to(labels.device)
    halves = [(images[index], labels[index]) for index in order.chunk(2)]
    first = halves[0][0]
    model = deepcopy(model)
    if isinstance(rules, Learner):
        learner = rules.on(model)
        learner.settle_()
    else:
        learner = attach(model, rules, first)
        learn_(learner, first, torch.optim.SGD(model.parameters(), lr=0.2), epochs=epochs)
    untrained, control = _before(learner, first, start=False), _before(learner, first, start=True)
    probes = [_probes(network, list(learner.rules), halves) for network in (untrained, control, model)]
    wins = learner.wins(first)
    found = Diagnosis()
    for name in learner.rules:
        layer, (before, start, now) = model.get_submodule(name), [probe[name] for probe in probes]
        weight = rows(layer, weight_of(layer))
        units = unit_statistics(weight, wins[name].cpu())
        noise = 2 * (2 * before * (1 - before) / len(halves[1][1])) ** 0.5
        found[name] = LayerDiagnosis(type(layer).__name__, before, start, now, noise, units, copies(weight))
    return found


def learn_(
    learner: Learner, images: Tensor, optimizer: torch.optim.Optimizer, *, epochs: int, batch: int = 100, seed: int = 0
) -> None:
    """The plain loop: shuffled batches, `propose_`, a step, `settle_`."""
    rng = Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=rng).split(batch):
            learner.propose_(images[index.to(images.device)])
            optimizer.step()
            learner.settle_()


def copies(weight: Tensor) -> int:
    """How many rows have a cosine above 0.95 with an earlier one."""
    directions = F.normalize(weight.detach(), dim=1)
    return int(((directions @ directions.T).tril(-1) > 0.95).any(1).sum())


@torch.no_grad()
def _before(learner: Learner, images: Tensor, *, start: bool) -> nn.Module:
    """The network with its attached layers as they were, or as they start; statistics are gathered anew."""
    model = deepcopy(learner.model)
    for name, parameters in (learner.begun if start else learner.untrained).items():
        for key, value in parameters.items():
            model.get_submodule(name).get_parameter(key).copy_(value)
    with torch.random.fork_rng(devices=[]):  # dropout takes numbers from the one of all
        for chunk in images.split(100):
            model(chunk)
    return model


@torch.no_grad()
def _probes(model: nn.Module, names: list[str], halves: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The accuracy of a linear classifier on the features of each layer, in evaluation mode."""
    model.eval()
    classes = int(max(labels.max() for _, labels in halves)) + 1
    features: dict[str, list[Split]] = {name: [] for name in names}
    for images, labels in halves:
        seen: dict[str, list[Tensor]] = {name: [] for name in names}
        for chunk in images.split(500):
            for name, outputs in _outputs(model, names, chunk).items():
                layer = model.get_submodule(name)
                seen[name].append(torch.cat([pooled(layer, output) for output in outputs], dim=1))
        for name in names:
            features[name].append(Split(torch.cat(seen[name]).float(), labels, classes))
    return {name: linear_probe(*splits) for name, splits in features.items()}


def _outputs(model: nn.Module, names: list[str], images: Tensor) -> dict[str, list[Tensor]]:
    """What each layer gives in one pass, once for each time that the pass uses it."""
    uses = dict.fromkeys(names, 0)

    def count(name: str) -> None:
        uses[name] += 1

    hooks = [model.get_submodule(name).register_forward_hook(lambda *_, name=name: count(name)) for name in names]
    with tap(model, names) as seen:
        model(images)
    for hook in hooks:
        hook.remove()
    for name, activity in seen.items():
        got = f"{name!r} gave {len(activity.pre)} for {len(images)} images"
        fits = len(activity.pre) == uses[name] * len(images)
        require(fits, f"diagnose needs one row of a layer for each image, with positions in axes of their own; {got}.")
    return {name: list(seen[name].post.split(len(images))) for name in names}  # type: ignore[union-attr]


def pooled(layer: nn.Module, output: Tensor) -> Tensor:
    """The rectified output as (batch, features): tokens by their mean, positions by the largest of a few regions."""
    active = output.relu()
    if isinstance(layer, nn.Linear):
        return active if active.dim() == 2 else active.flatten(1, -2).mean(1)
    dims = active.dim() - 2
    pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[dims - 1]
    return pool(active, [min(size, POOL) for size in active.shape[2:]]).flatten(1)
