"""Whether local rules improve a plain network of torch: linear probes untrained, at rate 0 and after learning.

Rules are attached as any user would, to networks that were not made for them. Every seed has its own weights and its
own images. Some of the last 20,000 training images serve to learn from and to fit the probe, some of the test images to
score it. The control at rate 0 has the start and the bias that `attach` gives, and learns nothing. With both,
k-means is the strongest simple way to such features that is not local.
"""

import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split, load, subset
from neuropil.errors import Refusal, at_least, require, unknown
from neuropil.evaluate import linear_probe
from neuropil.experiments.diagnose import copies, learn_
from neuropil.experiments.k_means import centres_of
from neuropil.experiments.machine import Machine
from neuropil.plasticity import (
    BCM,
    ExplainAway,
    HardWTA,
    Hebb,
    KrotovHopfield,
    Learner,
    Oja,
    Rule,
    Sanger,
    SoftHebb,
    attach,
    tap,
)  # fmt: skip
from neuropil.plasticity.geometry import rows as rows_of
from neuropil.plasticity.geometry import weight_of
from neuropil.plasticity.seen import observe, prepared, taken
from neuropil.plasticity.turn import settle_layer_
from neuropil.report.stats import interval

K_MEANS = "k-means"  # stands among the rules, though it is none

CAPTION = """
Accuracy of a linear probe, %; control and learned are points above untrained, with the 95 % interval over seeds.
control: start and bias of attach, no learning. by learning: learned minus control. dead: units that answer no image, of
all layers and seeds. copies: units with a cosine above 0.95 to an earlier one.
{seeds} seeds, {n_train} images x {epochs} passes, batch {batch}.
"""

RULES: dict[str, Rule] = {  # with `attach`, at the settings that the page on rules names
    "HardWTA": HardWTA(),
    "SoftHebb": SoftHebb(tau=0.002),
    "KrotovHopfield": KrotovHopfield(p=2, k=2),
    "ExplainAway": ExplainAway(),
    "Hebb": Hebb(),
    "Oja": Oja(),
    "BCM": BCM(),
    "Sanger": Sanger(),
}
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.2),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=1e-3),
}


@dataclass(frozen=True)
class Config(Machine):
    """What to measure."""

    data: tuple[str, ...] = ("mnist", "fashion_mnist")  # data sets with grey images
    networks: tuple[str, ...] = ("dense", "conv")  # dense, conv, cnn, residual, transformer or series
    rules: tuple[str, ...] = ()  # names of the rules, or k-means; empty for all
    optimizers: tuple[str, ...] = ("SGD", "Adam")  # SGD or Adam
    seeds: int = 3  # seeds of weights and images
    n_train: int = 6000  # images that rules learn from
    n_probe: int = 2000  # images that the probe is fitted to, and as many to score it
    epochs: int = 3  # passes over the images
    batch: int = 100  # images in a step
    scale: float = 1.0  # factor of the pixels
    shift: float = 0.0  # what is added to the pixels
    resolution: int = 1  # factor of height and width
    standardise: bool = False  # pixels with mean 0 and standard deviation 1, over all training images
    on: Literal["test", "development"] = "test"  # development: the first 20,000 training images, for choices

    def __post_init__(self) -> None:
        at_least(1, self, "seeds", "n_train", "n_probe", "epochs", "batch", "resolution")
        for kind, chosen, known in (
            ("network", self.networks, list(NETWORKS)),
            ("rule", self.rules, [*RULES, K_MEANS]),
            ("optimizer", self.optimizers, list(OPTIMIZERS)),
        ):
            for name in set(chosen) - set(known):
                raise unknown(kind, name, known)
        require(self.scale != 0, "a scale of 0 leaves no image.")


class Residual(nn.Module):
    """Two convolutions with batch normalisation around which the input takes a short cut (He et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to the same shape."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Transformer(nn.Module):
    """A block of a vision transformer on patches of a quarter of the side (Dosovitskiy et al. 2021)."""

    def __init__(self, patch: int, width: int = 64):
        super().__init__()
        self.patch, self.width = patch, width
        self.embed, self.qkv, self.project = (
            nn.Linear(patch**2, width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, height, width) to (batch, tokens, width)."""
        x = self.embed(F.unfold(x, self.patch, stride=self.patch).mT)
        heads = self.qkv(self.first(x)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads.unbind(0)).transpose(1, 2).flatten(2)
        x = x + self.project(attended)
        return x + self.down(F.gelu(self.up(self.second(x))))


class Network(NamedTuple):
    """A network for images of a given side, and the names of the layers that learn."""

    build: Callable[[int], nn.Module]
    names: tuple[str, ...]


def convolution(inputs: int, units: int) -> list[nn.Module]:
    """One stage of a convolutional network."""
    return [nn.Conv2d(inputs, units, 5), nn.ReLU(), nn.MaxPool2d(2)]


NETWORKS = {
    "dense": Network(lambda side: nn.Sequential(nn.Flatten(), nn.Linear(side**2, 300), nn.ReLU()), ("1",)),
    "conv": Network(lambda side: nn.Sequential(nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(4)), ("0",)),
    "cnn": Network(lambda side: nn.Sequential(*convolution(1, 16), *convolution(16, 32)), ("0", "3")),
    "residual": Network(
        lambda side: nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), Residual(16), nn.MaxPool2d(2)
        ),
        ("0", "3.conv1", "3.conv2"),
    ),
    "transformer": Network(lambda side: Transformer(side // 4), ("embed", "up")),
    "series": Network(
        lambda side: nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(side, 64, 5), nn.ReLU(), nn.MaxPool1d(2)), ("1",)
    ),
}


def main(config: Config) -> list[dict[str, Any]]:
    """One row per data set, network, rule and optimiser; see `row`."""
    rows = []
    for data in config.data:
        sources = load(data)
        for name in config.networks:
            cases = [Case(config, sources, NETWORKS[name], seed) for seed in range(config.seeds)]
            for rule in config.rules or (*RULES, K_MEANS):
                for optimizer in ("none",) if rule == K_MEANS else config.optimizers:
                    rows.append(row(cases, rule, optimizer) | {"data": data, "network": name, **facts(config)})
                    print(*cells(rows[-1]).values(), sep="  ", file=sys.stderr, flush=True)  # it may take an hour
    return rows


def facts(config: Config) -> dict[str, Any]:
    """What the caption names."""
    return {key: getattr(config, key) for key in ("seeds", "n_train", "epochs", "batch")}


class Case:
    """One seed of one network: its images, its weights before anything learned, and the two probes before learning."""

    def __init__(self, config: Config, sources: tuple[Split, Split], network: Network, seed: int):
        self.config, self.network, self.seed = config, network, seed
        train, test = sources
        n, each = config.n_train, config.n_probe
        chosen = subset(train[-20000:] if config.on == "test" else train[:20000], n + 2 * each, seed)
        self.images = self._pixels(chosen[:n], train)
        halves = (chosen[n : n + each], subset(test, each, seed) if config.on == "test" else chosen[n + each :])
        self.halves = [(self._pixels(half, train), half) for half in halves]
        side = self.images.shape[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.start = network.build(side).to(config.device)
        self.untrained = self.probe(deepcopy(self.start))
        self.control = self.probe(self.attached(HardWTA()).model)

    def _pixels(self, split: Split, train: Split) -> Tensor:
        """Images as the network gets them."""
        x, config = split.pixels(), self.config
        if config.standardise:
            pixels = train[:2000].pixels()
            x = (x - pixels.mean()) / pixels.std()
        if config.resolution > 1:
            x = F.interpolate(x, scale_factor=config.resolution, mode="bilinear")
        return (config.scale * x + config.shift).to(config.device)

    def attached(self, rule: Rule) -> Any:
        """A learner on a fresh network."""
        rules = dict.fromkeys(self.network.names, rule)
        return attach(deepcopy(self.start), rules, self.images, rng=Generator().manual_seed(self.seed))

    @torch.no_grad()
    def probe(self, model: nn.Module) -> float:
        """Accuracy of a linear probe on what the network makes of images; its statistics are gathered before."""
        for chunk in self.images.split(100) if any(True for _ in model.buffers()) else ():
            model.train()(chunk)
        model.eval()
        splits = []
        for images, half in self.halves:
            features = torch.cat([model(chunk).flatten(1) for chunk in images.split(500)])
            splits.append(Split(features, half.y.to(features.device), half.classes))
        return linear_probe(*splits)


@torch.no_grad()
def k_means_(learner: Learner, images: Tensor, *, sweeps: int = 20, most: int = 50_000) -> None:
    """Rows become the centres of spherical k-means of what their layer sees, from where they start.

    Layers learn one after the other, each from at most `most` inputs or patches (Coates, Ng & Lee 2011, AISTATS).
    """
    chunks = images.split(200)
    for name, state in learner.states.items():
        layer, samples = learner.model.get_submodule(name), []
        for chunk in chunks:
            with tap(learner.model, [name], pre_only=True) as seen:
                learner.model(chunk)
            samples.append(taken(layer, seen[name].pre, -(-most // len(chunks)), learner.rng))
        x, weight = torch.cat(samples), rows_of(layer, weight_of(layer))
        groups = prepared(x, state).unbind(1)
        centres = [centres_of(each, rows, sweeps) for each, rows in zip(groups, weight.chunk(len(groups)))]
        weight.copy_(torch.cat(centres) * state.norms[:, None])
        learner.states[name] = observe(layer, x, state._replace(steps=torch.zeros_like(state.steps)))
        settle_layer_(layer, learner.states[name], learner.threshold)


def row(cases: list[Case], rule: str, optimizer: str) -> dict[str, Any]:
    """Accuracies of all seeds, in [0, 1], and what became of the units."""
    found: dict[str, Any] = {"rule": rule, "optimizer": optimizer, "dead": 0, "copies": 0, "diverged": 0, "refused": ""}
    found |= {"untrained": [case.untrained for case in cases], "control": [case.control for case in cases]}
    found["learned"] = []
    for case in cases:
        try:
            learner = case.attached(RULES.get(rule, HardWTA()))
        except Refusal as reason:
            return found | {"refused": str(reason)}
        try:
            if rule == K_MEANS:
                k_means_(learner, case.images)
            else:
                steps = OPTIMIZERS[optimizer](learner.model.parameters())
                learn_(learner, case.images, steps, epochs=case.config.epochs, batch=case.config.batch, seed=case.seed)
            found["learned"].append(case.probe(learner.model))
        except Refusal:
            found["diverged"] += 1
            continue
        for name, wins in learner.wins(case.images).items():
            layer = learner.model.get_submodule(name)
            found["dead"] += int((wins == 0).sum())
            found["copies"] += copies(rows_of(layer, layer.get_parameter("weight").detach()))
    return found


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    shown = {key: row[key] for key in ("data", "network", "rule", "optimizer")}
    shown["untrained"] = f"{100 * mean(row['untrained']):.1f}"
    if row["refused"]:
        return shown | {"learned": "refused"}
    steps = {"control": "untrained", "learned": "untrained", "by learning": "control"}
    for key, below in steps.items() if not row["diverged"] else ():
        pairs = zip(row["learned" if key == "by learning" else key], row[below])
        middle, half = interval(100 * (a - b) for a, b in pairs)
        shown[key] = f"{middle:+.2f} ± {half:.2f}"
    return shown | {key: str(row[key]) for key in ("dead", "copies", "diverged")}
