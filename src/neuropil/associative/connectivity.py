"""Groups of units and the directed synapses between them; nothing says that two directions share a weight."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

State = dict[str, Tensor]  # activity in [0, 1] of each group, (batch, units)
Route = tuple[str, str]  # presynaptic and postsynaptic group


class Wiring(nn.Module):
    """Who sends to whom, with which weight.

    Args:
        sizes: units of each group, by name, in the order in which a sweep visits them.
        routes: which group sends to which.
    """

    def __init__(self, sizes: Mapping[str, int], routes: Sequence[Route]):
        super().__init__()
        self.sizes, self.routes = dict(sizes), tuple(routes)
        self.synapses = nn.ModuleDict(
            {f"{pre}>{post}": nn.Linear(sizes[pre], sizes[post], bias=False) for pre, post in routes}
        )
        self.rest = nn.ParameterDict({name: nn.Parameter(torch.zeros(units)) for name, units in sizes.items()})
        self.requires_grad_(False)

    def between(self, pre: str, post: str) -> nn.Linear:
        """The synapses from one group onto another."""
        layer = self.synapses[f"{pre}>{post}"]
        assert isinstance(layer, nn.Linear)
        return layer

    def draw_(self, rng: Generator, gains: Mapping[str, float]) -> None:
        """Weights from N(0, gain^2 * 2 / (senders + receivers)), gain by kind of receiver; no drive at rest."""
        for pre, post in self.routes:
            weight = self.between(pre, post).weight
            std = gains[kind(post)] * (2 / sum(weight.shape)) ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=rng, device=rng.device) * std)
        for rest in self.rest.values():
            rest.zero_()

    def around(self, wanted: Sequence[str], fixed: Sequence[str]) -> list[str]:
        """The groups that can influence `wanted` without passing through a `fixed` one, in the order of a sweep.

        `fixed` are those that do not move, because they are given or kept silent.
        """
        known, edge = set(wanted), list(wanted)
        while edge:
            post = edge.pop()
            new = {pre for pre, target in self.routes if target == post and pre not in fixed} - known
            known |= new
            edge.extend(new)
        return [name for name in self.sizes if name in known]


def both_ways(
    pixels: int, classes: int, naming: Sequence[int], parts: int, drawing: int, *, draws: bool, direct: bool = False
) -> Wiring:
    """Pixels and label, joined both ways by layers that name, by `parts` units and, if it `draws`, by those that draw.

    Without units of its own for `drawing`, the first naming layer draws. With `direct` synapses pixels reach every
    naming layer, and each of them is joined with the label both ways, not only its neighbours.
    """
    layers = [f"naming{k}" for k in range(1, len(naming) + 1)]
    sizes = {"pixels": pixels, "label": classes, **dict(zip(reversed(layers), reversed(naming)))}
    chain = ["pixels", *layers, "label"]
    routes = [*pairwise(chain), *zip(chain[:1:-1], chain[-2:0:-1])]
    if direct:
        routes += [("pixels", layer) for layer in layers[1:]]
        routes += [route for layer in layers[:-1] for route in ((layer, "label"), ("label", layer))]
    if parts:
        sizes |= {"parts": parts}
        routes += [("pixels", "parts"), ("parts", "label"), ("label", "parts")]
    if draws:
        hidden = "drawing" if drawing else layers[0]
        sizes |= {"drawing": drawing} if drawing else {}
        routes += [route for route in (("pixels", hidden), ("label", hidden)) if route not in routes]
        routes += [(hidden, "pixels"), ("label", "pixels")]
    return Wiring(sizes, routes)


def kind(group: str) -> str:
    """What sort of group it is: "naming" of "naming2"."""
    return group.rstrip("0123456789")
