"""The rules and learners whose locality `neuropil audit` shows, each on the middle layer of one small network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import load
from neuropil.errors import Refusal, require, unknown
from neuropil.experiments.audit import COLUMNS, READS, audit
from neuropil.experiments.audited_learners import HEADS, SPIKING, head_step, spiking_step
from neuropil.experiments.machine import Machine
from neuropil.plasticity import (
    BCM,
    Association,
    DifferentialHebb,
    ExplainAway,
    HardWTA,
    Hebb,
    KrotovHopfield,
    Oja,
    Rule,
    Sanger,
    SignedWTA,
    SoftHebb,
    attach,
    propose_,
    tap,
)  # fmt: skip
from neuropil.runs import load_recipe_file
from neuropil.spiking import Theta, ThetaLayer
from neuropil.spiking.losses import first_spike_loss

SIZES = (64, 60, 12, 10)  # few units, so that inputs and weights can move without a drive
RULES: dict[str, Rule] = {
    "hebb": Hebb(),
    "oja": Oja(),
    "bcm": BCM(),
    "sanger": Sanger(),
    "hard_wta": HardWTA(),
    "signed_wta": SignedWTA(),
    "krotov_hopfield": KrotovHopfield(),
    "soft_hebb": SoftHebb(),
    "explain_away": ExplainAway(),
    "association": Association(classes=10),
    "association_k": Association(classes=10, k=1),
}
CAPTION = """
How much the change of a synapse depends on what is altered while the input of its layer is held, as a relative
difference; 0: not at all, a dash: not measured. other inputs, weights of neighbours: altered so that no drive moves.
A rule that reads its two neurons needs the input of the synapse and the drive of its unit; labels where they are not 0.
One that reads its layer needs more of it, such as who won. One that reads other layers is not local.
"""


@dataclass(frozen=True)
class Config(Machine):
    """What to audit: names of rules and learners, or files ./mine.py; everything if none is named."""

    images: int = 40  # images of 8x8 digits in the batch, an even number
    seed: int = 0  # seed of weights and of what is altered


def audited_names() -> list[str]:
    """What can be audited by name."""
    return [*RULES, *SPIKING, *HEADS, *LEARNERS]


def main(config: Config, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each name: what its change depends on."""
    for name in names:
        if not name.endswith(".py") and name not in audited_names():
            raise unknown("rule or learner", name, audited_names())
    train, _ = load("digits")
    require(2 <= config.images <= len(train), f"an audit takes 2 to {len(train)} images, got {config.images}.")
    images, labels = train[: config.images].pixels(), train.y[: config.images]
    found = []
    for name in names or audited_names():
        network, layer, rule = _subject(name, config.seed, images)
        seen = audit(rule, network, images, labels, layers=(layer,), seed=config.seed)[layer]
        found.append({"name": Path(name).stem if name.endswith(".py") else name, **seen._asdict(), "reads": seen.reads})
    return found


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A row as it is shown."""
    numbers = {said: "–" if row[key] is None else f"{row[key]:.2g}" for key, said in COLUMNS.items()}
    return {"": row["name"], **numbers, "reads": READS[row["reads"]]}


def _subject(name: str, seed: int, images: Tensor) -> tuple[nn.Module, str, Any]:
    """The network, the layer, and what changes it."""
    if name.endswith(".py"):
        return _dense(seed), "3", _own(Path(name).expanduser())
    if name in RULES:
        return _dense(seed), "3", RULES[name]
    if name in SPIKING:
        return _dense(seed), "3", spiking_step(SPIKING[name])
    if name in HEADS:
        return _dense(seed, (*SIZES[:2], SIZES[-1])), "3", head_step(HEADS[name])
    return LEARNERS[name](seed, images)


def _own(path: Path) -> Any:
    """The rule or the step of the user's file."""
    require(
        path.is_file(), f"there is no file {path}; it would have a rule, or a function step(model, images, labels)."
    )
    module = load_recipe_file(path)
    found = getattr(module, "rule", None) or getattr(module, "step", None)
    if found is None:
        raise Refusal(f"{path} needs `rule = ...`, or a function step(model, images, labels) that leaves gradients.")
    return found


def _dense(seed: int, sizes: tuple[int, ...] = SIZES) -> nn.Sequential:
    """Dense layers of these sizes with a rectifier between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *[one for layer in layers for one in (layer, nn.ReLU())][:-1])


def _attached(seed: int, images: Tensor) -> tuple[nn.Module, str, Any]:
    """What `attach` makes of a rule: it centres inputs and keeps the norms of rows."""
    network = _dense(seed)
    return network, "3", attach(network, {"3": ExplainAway()}, images)


def _backprop(seed: int, images: Tensor) -> tuple[nn.Module, str, Any]:
    return _dense(seed), "3", lambda model, x, y: F.cross_entropy(model(x), y).backward()


def _differential(seed: int, images: Tensor) -> tuple[nn.Module, str, Any]:
    """The rule of mSTDP and aSTDP, the activity before and after the nudge given; the rise is part of the pixels."""

    @torch.no_grad()
    def step(model: nn.Module, x: Tensor, _: Tensor) -> None:
        layer = model.get_submodule("3")
        with tap(model, ["3"]) as seen:
            model(x)
        pre, post = seen["3"]
        assert post is not None
        rise = x.flatten(1)[:, 20 : 20 + SIZES[2]] - 0.5
        propose_(layer, DifferentialHebb()(layer, pre, post, post_after=post + rise))

    return _dense(seed), "3", step


class _Spikes(nn.Module):
    """Layers of theta neurons that hand up their ordinary spikes; bright pixels spike early."""

    def __init__(self, seed: int):
        super().__init__()
        rng = Generator().manual_seed(seed)
        layers = [ThetaLayer(a, b, neuron=Theta(), t_end=6.0) for a, b in pairwise(SIZES)]
        for layer in layers:
            layer.weight.data = torch.randn(layer.weight.shape, generator=rng) * (2 / len(layer.weight)) ** 0.5
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> Tensor:
        """First output times, (n, classes)."""
        times = (1 - images.flatten(1))[..., None]
        for layer in self.layers:
            output = layer(times)
            times = output.spikes[-1]
        return output.times[..., 0]


def _exact_spikes(seed: int, images: Tensor) -> tuple[nn.Module, str, Any]:
    return _Spikes(seed), "layers.1", lambda model, x, y: first_spike_loss(model(x), y, 6.0).backward()


LEARNERS: dict[str, Callable[[int, Tensor], tuple[nn.Module, str, Any]]] = {
    "attached": _attached,
    "differential_hebb": _differential,
    "backprop": _backprop,
    "exact_spikes": _exact_spikes,
}
