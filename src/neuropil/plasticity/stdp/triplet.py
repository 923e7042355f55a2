"""STDP of triplets of spikes, which depends on rates as synapses of visual cortex do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.errors import check_seconds, needs_numbers, unknown
from neuropil.plasticity.stdp.pair import Pairing, check_choices, decayed, factors, spiked
from neuropil.plasticity.stdp.rule import TraceRule
from neuropil.plasticity.stdp.terms import Term
from neuropil.plasticity.stdp.weight_dependence import WeightDependence

# A2+, A3+, A2-, A3-, tau_x and tau_y in ms, pairing; the minimal models leave tau_x open, which then has no effect
PUBLISHED: dict[str, tuple[float, float, float, float, float, float, Pairing]] = {
    "visual cortex": (5e-10, 6.2e-3, 7e-3, 2.3e-4, 101, 125, "all"),
    "visual cortex, minimal": (0, 6.5e-3, 7.1e-3, 0, 101, 114, "all"),
    "visual cortex, nearest": (8.8e-11, 5.3e-2, 6.6e-3, 3.1e-3, 714, 40, "nearest"),
    "visual cortex, nearest, minimal": (0, 5e-2, 8e-3, 0, 714, 40, "nearest"),
    "hippocampus": (6.1e-3, 6.7e-3, 1.6e-3, 1.4e-3, 946, 27, "all"),
    "hippocampus, minimal": (5.3e-3, 8e-3, 3.5e-3, 0, 946, 40, "all"),
    "hippocampus, nearest": (4.6e-3, 9.1e-3, 3e-3, 7.5e-9, 575, 47, "nearest"),
    "hippocampus, nearest, minimal": (4.6e-3, 9.1e-3, 3e-3, 0, 575, 48, "nearest"),
}


class TripletTraces(NamedTuple):
    """A quick and a slow trace on either side."""

    r_1: Tensor  # of pre spikes, tau_plus, (batch, *in)
    r_2: Tensor  # of pre spikes, tau_x
    o_1: Tensor  # of post spikes, tau_minus, (batch, *out)
    o_2: Tensor  # of post spikes, tau_y


@dataclass(frozen=True)
class TripletSTDP(TraceRule):
    r"""A pre spike takes :math:`o_1 (A_2^- + A_3^- r_2)`, a post spike adds :math:`r_1 (A_2^+ + A_3^+ o_2)`.

    r_1 and r_2 are traces of presynaptic spikes, o_1 and o_2 of postsynaptic ones, all from before this spike. Spikes
    of the same step do nothing to each other.

    Pfister & Gerstner 2006, J. Neurosci. 26; `TripletSTDP.published` has their parameters.

    Attributes:
        a2_plus, a3_plus: potentiation by pairs, and by triplets post-pre-post.
        a2_minus, a3_minus: depression by pairs, and by triplets pre-post-pre.
        tau_plus, tau_minus: time constants of r_1 and o_1, s.
        tau_x, tau_y: time constants of r_2 and o_2, s.
        pairing: "all" spikes add to a trace, or only the "nearest" counts.
        dependence: on the weight; None for none (additive).
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; an unknown pairing.

    Examples:
        >>> TripletSTDP.published("visual cortex, minimal").tau_y
        0.114
    """

    a2_plus: float = 0.0
    a3_plus: float = 6.5e-3
    a2_minus: float = 7.1e-3
    a3_minus: float = 0.0
    tau_plus: float = 16.8e-3
    tau_minus: float = 33.7e-3
    tau_x: float = 0.101
    tau_y: float = 0.114
    pairing: Pairing = "all"
    dependence: WeightDependence | None = None
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau_plus=self.tau_plus, tau_minus=self.tau_minus)
        check_seconds(self, self.dt, tau_x=self.tau_x, tau_y=self.tau_y)
        check_choices(self, self.pairing, self.dependence)

    @classmethod
    def published(cls, name: str, dt: float = 1e-3) -> "TripletSTDP":
        """The rule with parameters of Pfister & Gerstner 2006, tables 3 and 4: changes relative to the first weight.

        Args:
            name: "visual cortex" or "hippocampus", then maybe ", nearest" and ", minimal".
            dt: length of a step, s.
        """
        if name not in PUBLISHED:
            raise unknown("parameter set", name, PUBLISHED)
        a2_plus, a3_plus, a2_minus, a3_minus, tau_x, tau_y, pairing = PUBLISHED[name]
        x, y = tau_x / 1000, tau_y / 1000
        return cls(a2_plus, a3_plus, a2_minus, a3_minus, tau_x=x, tau_y=y, pairing=pairing, dt=dt)

    def memory(self, pre: Tensor, post: Tensor) -> TripletTraces:
        """No trace of a spike."""
        x, y = torch.zeros_like(pre), torch.zeros_like(post)
        return TripletTraces(x, x, y, y)

    def terms(self, pre: Tensor, post: Tensor, old: TripletTraces) -> tuple[Sequence[Term], TripletTraces]:  # type: ignore[override]
        """Potentiation by post spikes, depression by pre spikes."""
        taus = self.tau_plus, self.tau_x, self.tau_minus, self.tau_y
        r_1, r_2, o_1, o_2 = (decayed(trace, self.dt, tau) for trace, tau in zip(old, taus))
        up, down = factors(self.dependence)
        potentiation = Term(r_1, post * (self.a2_plus + self.a3_plus * o_2), factor=up)
        depression = Term(pre * (self.a2_minus + self.a3_minus * r_2), o_1, -1.0, down)
        spikes = (r_1, pre), (r_2, pre), (o_1, post), (o_2, post)
        return (potentiation, depression), TripletTraces(*(spiked(*one, self.pairing) for one in spikes))
