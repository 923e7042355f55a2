"""Populations of units and the directed synapses between them; the two directions of a connection share no weight."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

PIXELS, LABEL = "pixels", "label"  # the visible populations
CLASSIFICATION, COMPLETION, GENERATION = "classification", "completion", "generation"  # the roles of hidden ones
CLASSIFIERS = (CLASSIFICATION, COMPLETION)

State = dict[str, Tensor]  # activity in [0, 1] of each population, (batch, units)
Projection = tuple[str, str]  # presynaptic and postsynaptic population


class Connectivity(nn.Module):
    """Which population projects to which, and with which weights.

    Args:
        sizes: number of units of each population, by name, in the order in which a sweep visits them.
        projections: pairs of a presynaptic and a postsynaptic population.
        roles: what each population is for; a population without an entry has its own name as its role.

    Examples:
        >>> Connectivity({"pixels": 4, "label": 2}, [("pixels", "label")])
        Connectivity(pixels=4, label=2; pixels>label)
    """

    def __init__(
        self, sizes: Mapping[str, int], projections: Sequence[Projection], roles: Mapping[str, str] | None = None
    ):
        super().__init__()
        self.sizes, self.projections = dict(sizes), tuple(projections)
        self.roles = {name: (roles or {}).get(name, name) for name in sizes}
        self.synapses = nn.ModuleDict(
            {f"{pre}>{post}": nn.Linear(sizes[pre], sizes[post], bias=False) for pre, post in projections}
        )
        self.bias = nn.ParameterDict({name: nn.Parameter(torch.zeros(units)) for name, units in sizes.items()})
        self.requires_grad_(False)

    def between(self, pre: str, post: str) -> nn.Linear:
        """The synapses from one population onto another."""
        layer = self.synapses[f"{pre}>{post}"]
        assert isinstance(layer, nn.Linear)
        return layer

    def with_role(self, *roles: str) -> list[str]:
        """The populations that have one of `roles`."""
        return [name for name, role in self.roles.items() if role in roles]

    @property
    def generates(self) -> bool:
        """Whether a label can drive the pixels."""
        return (LABEL, PIXELS) in self.projections

    def plastic(self, target: str) -> list[str]:
        """The populations whose synapses a nudge of `target` may change: the target, and one kind of hidden units."""
        if target == LABEL:
            return [target, *self.with_role(*CLASSIFIERS)]
        return [target, *self.with_role(GENERATION if GENERATION in self.sizes else CLASSIFICATION)]

    def init_(self, rng: Generator, gains: Mapping[str, float]) -> None:
        """Weights from N(0, gain^2 * 2 / (fan_in + fan_out)), with the gain of the postsynaptic role; biases 0."""
        for pre, post in self.projections:
            weight = self.between(pre, post).weight
            std = gains[self.roles[post]] * (2 / sum(weight.shape)) ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=rng, device=rng.device) * std)
        for bias in self.bias.values():
            bias.zero_()

    def ancestors(self, wanted: Sequence[str], fixed: Sequence[str]) -> list[str]:
        """`wanted` and all populations that influence them without passing through a `fixed` one, in sweep order.

        `fixed` populations do not move, because they are clamped or silenced.
        """
        known, edge = set(wanted), list(wanted)
        while edge:
            post = edge.pop()
            new = {pre for pre, target in self.projections if target == post and pre not in fixed} - known
            known |= new
            edge.extend(new)
        return [name for name in self.sizes if name in known]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={units}" for name, units in self.sizes.items())
        return f"Connectivity({sizes}; {', '.join(self.synapses)})"


def bidirectional(
    pixels: int, classes: int, layers: Sequence[int], generation: int, completion: int, *, generates: bool, skip: bool
) -> Connectivity:
    """Pixels and label, connected both ways through hidden populations.

    Args:
        pixels, classes: units of the two visible populations.
        layers: units of each layer of the chain between pixels and label, which classify.
        generation: units that drive the pixels; with 0 the first classification layer drives them.
        completion: units that classify images of which pixels are missing; 0 for none.
        generates: whether pixels receive anything at all.
        skip: whether pixels project to every classification layer, and each of these to the label and back.
    """
    names = [f"{CLASSIFICATION}{k}" for k in range(1, len(layers) + 1)]
    sizes = {PIXELS: pixels, LABEL: classes, **dict(zip(reversed(names), reversed(layers)))}
    chain = [PIXELS, *names, LABEL]
    projections = [*pairwise(chain), *zip(chain[:1:-1], chain[-2:0:-1])]
    if skip:
        projections += [(PIXELS, layer) for layer in names[1:]]
        projections += [both for layer in names[:-1] for both in ((layer, LABEL), (LABEL, layer))]
    if completion:
        sizes[COMPLETION] = completion
        projections += [(PIXELS, COMPLETION), (COMPLETION, LABEL), (LABEL, COMPLETION)]
    if generates:
        hidden = GENERATION if generation else names[0]
        sizes |= {GENERATION: generation} if generation else {}
        projections += [pair for pair in ((PIXELS, hidden), (LABEL, hidden)) if pair not in projections]
        projections += [(hidden, PIXELS), (LABEL, PIXELS)]
    return Connectivity(sizes, projections, dict.fromkeys(names, CLASSIFICATION))
