"""STDP that waits for a reward: changes are kept in eligibility traces until one comes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuropil._subnormals import leaky_sum
from neuropil.errors import Refusal, check_seconds, needs_numbers
from neuropil.plasticity.geometry import from_rows, rows, unit_axis, weight_of
from neuropil.plasticity.stdp.pair import PairSTDP
from neuropil.plasticity.stdp.rule import Clocked, Total, TraceRule
from neuropil.plasticity.stdp.terms import Term, add_up, checked, correlated


class Eligibility(NamedTuple):
    """What a rule would have changed, and what it remembers itself."""

    trace: Tensor  # (batch, *weight), or (*weight) for one reward
    inner: Any


@dataclass(frozen=True)
class RewardModulated(Clocked):
    r"""Reward times what another rule would have changed: :math:`\Delta w = r e,\ \tau \dot e = -e + \tau\, STDP`.

    Called as ``rule.step(layer, pre, post, memory, reward=r)``, with the reward r of this step for each sample. A
    change of the inner rule is kept in the eligibility trace e of its synapse, which decays.

    Florian 2007, Neural Comput. 19 (MSTDPET); Izhikevich 2007, Cereb. Cortex 17. With a mean reward subtracted,
    Frémaux, Sprekeler & Gerstner 2010, J. Neurosci. 30.

    Attributes:
        rule: whose changes wait, any `TraceRule`.
        tau: time constant of the eligibility trace, s.
        per_sample: an eligibility trace for each sample, as rewards of their own need. This takes a batch times the
            memory of the weight. False has one for the batch, and the reward is a single number.

    Raises:
        Refusal: a tau that is not positive or is below the step of `rule`; a reward of another shape.

    Examples:
        >>> layer, rule = nn.Linear(1, 1, bias=False), RewardModulated(PairSTDP())
        >>> fired, silent, none = torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1)
        >>> memory = rule.init(layer, fired, silent)
        >>> for pre, post, reward in ((fired, silent, none), (silent, fired, none), (silent, silent, none + 2)):
        ...     change, memory = rule.step(layer, pre, post, memory, reward=reward)
        >>> change  # 2 exp(-1 / 20) exp(-1 / 500)
        tensor([[1.8987]])
    """

    rule: TraceRule = field(default_factory=PairSTDP)
    tau: float = 0.5
    per_sample: bool = True

    def __post_init__(self) -> None:
        needs_numbers(self)
        if not isinstance(self.rule, TraceRule):
            raise Refusal(f"RewardModulated needs a TraceRule such as PairSTDP(), got {type(self.rule).__name__}.")
        check_seconds(self, self.rule.dt, slow=("tau",), tau=self.tau)

    @property
    def dt(self) -> float:  # type: ignore[override]
        """Length of a step, that of the inner rule, s."""
        return self.rule.dt

    @property
    def spiking(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the inner rule has it."""
        return self.rule.spiking

    def start(self, layer: nn.Module, pre: Tensor, post: Tensor) -> Eligibility:
        """No change that waits."""
        lead = (len(pre),) if self.per_sample else ()
        return Eligibility(pre.new_zeros(*lead, *weight_of(layer).shape), self.rule.start(layer, pre, post))

    def total(  # type: ignore[override]
        self, layer: nn.Module, pre: Tensor, post: Tensor, old: Eligibility, scale: float, *,
        reward: Tensor | float | None = None,
    ) -> Total:  # fmt: skip
        """The reward times the eligibility traces, after they have taken up this step."""
        wanted = (len(pre),) if self.per_sample else ()
        if not self.per_sample and type(reward) in (int, float):
            reward = old.trace.new_tensor(reward)
        if not isinstance(reward, Tensor) or reward.shape != wanted:
            got = tuple(reward.shape) if isinstance(reward, Tensor) else type(reward).__name__
            cure = "one number per sample" if self.per_sample else "a single number, as torch.tensor(1.0)"
            raise Refusal(f"RewardModulated needs reward= of shape {wanted}, {cure}, got {got}.")
        terms, inner = checked(type(self.rule).__name__, self.rule.terms(pre, post, old.inner), pre, post)
        new, _ = add_up(layer, terms, partial(each, samples=len(pre)) if self.per_sample else correlated)
        trace = leaky_sum(old.trace, math.exp(-self.dt / self.tau), new)
        reward = scale * reward.to(trace)
        change = torch.tensordot(reward, trace, 1) if self.per_sample else reward * trace
        return Total(change, Eligibility(trace, inner))


def each(layer: nn.Module, terms: Sequence[Term], samples: int) -> tuple[Tensor, None]:
    """The sum of all terms without factors for each sample by itself, (samples, *weight)."""
    weight = weight_of(layer)
    out = weight.new_zeros(samples, *weight.shape)
    for term in terms:
        out = each_(layer, term, out)
    return out, None


def each_(layer: nn.Module, term: Term, out: Tensor) -> Tensor:
    """`out` (batch, *weight) with one term of each sample by itself; every position of a sample is summed."""
    pre, post, gain = term.pre, term.post, term.gain
    if pre is None:
        units = post.movedim(unit_axis(layer), -1).flatten(1, -2).sum(1) if post.dim() > 2 else post
        each = units[:, :, None].expand(*units.shape, rows(layer, out[0]).shape[1]).contiguous()
        made: Tensor = torch.func.vmap(lambda matrix: from_rows(layer, matrix))(each)
        return out.add_(made, alpha=gain)
    if type(layer) is nn.Linear:
        return out.add_(torch.einsum("b...o,b...i->boi", post, pre), alpha=gain)
    weight = weight_of(layer)

    def of_one(x: Tensor, y: Tensor) -> Tensor:
        """The sum over the positions of one sample: the derivative of <y, layer(x)> by the weight."""
        call = lambda w: functional_call(layer, {"weight": w}, (x[None],))
        change: Tensor = torch.func.vjp(call, weight)[1](y[None])[0]
        return change

    changes: Tensor = torch.func.vmap(of_one)(pre, post)
    return out.add_(changes, alpha=gain)
