"""How fast the attacks are, beside the forward and backward passes that they need.

The budget is a millionth, at which no attack succeeds. So no image rests early and every attack makes all its passes;
they are counted. The bare passes run in the same loop, so that noise hits all alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.bench._timing import clock, medians
from neuropil.data import Split
from neuropil.errors import at_least, require
from neuropil.evaluate.robustness import FGSM, L2, PGD, Boundary, Linf, Noise, Square
from neuropil.evaluate.robustness.attacks.gradient import cross_entropy, input_gradient
from neuropil.experiments.machine import Machine

BUDGET = 1e-6


@dataclass(frozen=True)
class Config(Machine):
    """What to measure.

    Attributes:
        sizes: units from the pixels to the classes; ReLU between.
        batch: images at once.
        attack_steps: gradient steps of PGD.
        attack_queries: of the attacks without gradients, per image.
        repeats: rounds of the loop; every attack runs once in each.
    """

    sizes: tuple[int, ...] = (784, 2000, 10)
    batch: int = 1000
    attack_steps: int = 10
    attack_queries: int = 20
    repeats: int = 3
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        require(len(self.sizes) >= 2, f"a network needs at least 2 sizes, got {self.sizes}.")
        at_least(1, self, "sizes", "attack_steps", "attack_queries", "repeats")
        at_least(2, self, "batch")


class Counted:
    """Scores of `network`, and how many images went forward and backward through it."""

    def __init__(self, network: nn.Module):
        self.network, self.forward, self.backward = network, 0, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.forward += len(x)
        self.backward += len(x) * x.requires_grad
        return self.network(x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self(x).argmax(1)

    @torch.no_grad()
    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes)."""
        return self(x)


def main(config: Config) -> list[dict[str, Any]]:
    """One row per attack and norm: images per second, passes per image, and the ratio to the bare passes."""
    victim, batch = sample(config)
    attacks: dict[tuple[str, str], Callable[[Split, float], Tensor]] = {}
    for norm in (Linf(), L2()):
        rng = torch.Generator().manual_seed(0)
        attacks["FGSM", norm.name] = FGSM(victim, norm)
        attacks["PGD", norm.name] = PGD(victim, norm, rng, config.attack_steps, restarts=1)
        attacks["square", norm.name] = Square(victim.decision_function, norm, rng, config.attack_queries)
        attacks["boundary", norm.name] = Boundary(victim.predict, norm, rng, max(config.attack_queries, 11))
        attacks["noise", norm.name] = Noise(norm, rng)
    passes: dict[tuple[str, str], tuple[float, float]] = {}

    def counted(name: tuple[str, str]) -> None:
        victim.forward = victim.backward = 0
        attacks[name](batch, BUDGET)
        passes[name] = victim.forward / len(batch), victim.backward / len(batch)

    contestants: dict[Any, Callable[[], object]] = {
        "forward": lambda: victim.predict(batch.x),
        "both": lambda: input_gradient(victim, cross_entropy, batch.x, batch.y),
        **{name: partial(counted, name) for name in attacks},
    }
    middle = medians(clock(contestants, repeats=config.repeats, device=config.device, warm=1, before=0))
    return [row(name, passes[name], middle, config) for name in attacks]


def row(name: tuple[str, str], passes: tuple[float, float], middle: dict[Any, float], config: Config) -> dict[str, Any]:
    """What one attack needed; a pass with gradient costs what forward and backward together cost."""
    forward, backward = passes
    bare = (forward - backward) * middle["forward"] + backward * middle["both"]
    ratio = {"ratio_to_passes": middle[name] / bare} if bare else {}
    attack, norm = name
    return {
        "attack": f"{attack}, {norm}",
        "images_per_s": config.batch / middle[name],
        "forward": forward,
        "backward": backward,
        **ratio,
        "ms": 1e3 * middle[name],
        "threads": torch.get_num_threads(),
    }


def sample(config: Config) -> tuple[Counted, Split]:
    """A network with random weights, and random images under the labels that it gives them itself."""
    rng = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, units in pairwise(config.sizes):
        layer = nn.Linear(inputs, units)
        nn.init.normal_(layer.weight, 0, inputs**-0.5, generator=rng)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    victim = Counted(nn.Sequential(*layers[:-1]).requires_grad_(False).eval().to(config.device))
    x = torch.rand(config.batch, config.sizes[0], generator=rng).to(config.device)
    return victim, Split(x, victim.predict(x), config.sizes[-1])
