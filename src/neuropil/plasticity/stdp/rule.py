"""A rule that is asked in every time step: its memory, its checks, and its change on any layer."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from inspect import signature
from typing import Any, ClassVar, NamedTuple, Self, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, unknown
from neuropil.plasticity import geometry
from neuropil.plasticity.engine import LARGEST, keep_freed_memory
from neuropil.plasticity.geometry import from_rows, rows, weight_of
from neuropil.plasticity.kernels.events import are_spikes
from neuropil.plasticity.patches import sample_count
from neuropil.plasticity.precision import full_precision
from neuropil.plasticity.sharing import sharing, summed
from neuropil.plasticity.stdp.terms import Term, add_up, checked, correlated

STEPS = "init(layer, pre, post) once, then rule.step(layer, pre, post, memory) in each step"
Memory = TypeVar("Memory")


class Total(NamedTuple):
    """What all samples and positions change.

    Attributes:
        change: shaped like the weight.
        memory: after this step.
        bound: no less than the sum of all absolute entries of the change, where one is known.
    """

    change: Tensor
    memory: Any
    bound: float | None = None


class Clocked(ABC):
    """A rule that is asked once in every time step: ``init(...) -> memory``, ``step(..., memory) -> change, memory``.

    Attributes:
        dt: length of a step, s.
        spiking: which activities have to be spikes, 0 or 1.
    """

    dt: float
    spiking: ClassVar[tuple[str, ...]] = ("pre", "post")

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a layer where the settings of the rule belong."""
        if any(isinstance(arg, nn.Module) for arg in args):
            raise Refusal(f"{cls.__name__}(layer, ...) makes no change; make the rule first: {cls.__name__}().{STEPS}.")
        return super().__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a rule with traces has a memory."""
        raise Refusal(f"{type(self).__name__} sees spikes step by step; call rule.{STEPS}.")

    @abstractmethod
    def start(self, layer: nn.Module, pre: Tensor, post: Tensor) -> Any:
        """The memory before any spike, a (nested) tuple of tensors; `pre` and `post` have shape, dtype and device."""

    @abstractmethod
    def total(self, layer: nn.Module, pre: Tensor, post: Tensor, old: Any, scale: float, **third: Tensor) -> Total:
        """`scale` times the changes by all samples and positions, and the memory after them."""

    def init(self, layer: nn.Module, pre: Tensor, post: Tensor) -> Any:
        r"""The memory before any spike.

        Args:
            layer: that learns: dense, a convolution or a transposed one.
            pre, post: activity of any step, (batch, \*in) and (batch, \*out), for its shape, dtype and device.
        """
        _check(self, layer, pre, post)
        return self.start(layer, pre.detach(), post.detach())

    @full_precision
    def step(
        self, layer: nn.Module, pre: Tensor, post: Tensor, old: Memory, *, reduction: str = "mean", **third: Tensor
    ) -> tuple[Tensor, Memory]:
        r"""One time step: the change of the weight, and the memory after it.

        Args:
            layer: that learns.
            pre: spikes that reach the layer in this step, (batch, \*in), 0 or 1.
            post: spikes of its units in this step, (batch, \*out), 0 or 1.
            old: what `init` or the step before returned.
            reduction: "mean" over samples, each position of a convolution being one, or their "sum".
            third: third factors of the rule, by name.

        Returns:
            what to add to the weight, shaped like it, and the memory for the next step.

        Raises:
            Refusal: shapes, dtypes or devices do not fit; spikes are not 0 or 1; the memory is that of another batch; a
                change is not finite.
        """
        if reduction not in ("mean", "sum"):
            raise Refusal(f"a rule needs reduction='mean' or 'sum', got {reduction!r}.")
        _check(self, layer, pre, post)
        if pre.device.type == "cpu":
            keep_freed_memory()
        _check_memory(self, layer, pre, post, old)
        _check_third(self, third)
        count, processes = sample_count(layer, pre) if pre.numel() else 0, sharing(layer.get_parameter("weight"))
        mean = reduction == "mean"
        scale = 1 / count if mean and count and processes is None else 1.0
        change, new, bound = self.total(layer, pre.detach(), post.detach(), old, scale, **third)
        if processes is not None:
            none = torch.zeros(0, dtype=torch.int64, device=change.device)
            weight, own = rows(layer, weight_of(layer)), rows(layer, change)
            _, own, samples, _ = summed(processes, layer, weight, own, count, none)
            change, bound = from_rows(layer, own / samples.clamp_min(1) if mean else own).to(change), None
        most = LARGEST[change.dtype == torch.float64]
        if bound is None or not bound < most:
            geometry.check_finite(layer, change, most=most)
        return change, new


class TraceRule(Clocked):
    """A rule of one's own: a frozen dataclass that says what it remembers, and which products change a weight.

    It then works on every dense and convolutional layer, for any batch, on every device.

    Examples:
        >>> import math
        >>> from dataclasses import dataclass
        >>> from neuropil.plasticity import Term, TraceRule
        >>> @dataclass(frozen=True)
        ... class Causal(TraceRule):
        ...     tau: float = 20e-3
        ...     dt: float = 1e-3
        ...     def memory(self, pre, post):
        ...         return torch.zeros_like(pre)
        ...     def terms(self, pre, post, old):
        ...         trace = old * math.exp(-self.dt / self.tau)
        ...         return [Term(trace, post)], trace + pre
        >>> rule, layer = Causal(), nn.Linear(1, 1, bias=False)
        >>> fired, silent = torch.ones(1, 1), torch.zeros(1, 1)
        >>> memory = rule.init(layer, fired, silent)
        >>> _, memory = rule.step(layer, fired, silent, memory)
        >>> rule.step(layer, silent, fired, memory)[0]
        tensor([[0.9512]])
    """

    @abstractmethod
    def memory(self, pre: Tensor, post: Tensor) -> Any:
        """What is remembered before any spike, a (nested) tuple of tensors, for spikes of these shapes."""

    @abstractmethod
    def terms(self, pre: Tensor, post: Tensor, old: Any, **third: Tensor) -> tuple[Sequence[Term], Any]:
        """The products whose sum is the change in this step, and what is remembered after it."""

    def start(self, layer: nn.Module, pre: Tensor, post: Tensor) -> Any:
        """The memory before any spike."""
        return self.memory(pre, post)

    def total(self, layer: nn.Module, pre: Tensor, post: Tensor, old: Any, scale: float, **third: Tensor) -> Total:
        """`scale` times the sum of all terms, and the memory after them."""
        terms, new = checked(type(self).__name__, self.terms(pre, post, old, **third), pre, post)
        change, bound = add_up(layer, [term._replace(gain=scale * term.gain) for term in terms], correlated)
        return Total(change, new, bound)


_SHAPES: Any = WeakKeyDictionary()  # rule -> shapes of activity and weight -> shapes of its memory


def _check(rule: Clocked, layer: nn.Module, pre: Tensor, post: Tensor) -> None:
    """Refuse activities that do not fit the layer, and numbers where spikes are needed."""
    geometry.check_plain(pre, post)
    weight = weight_of(layer)
    geometry.check_input(layer, pre)
    geometry.check_output(layer, pre, post)
    geometry.check_alike(layer, weight, pre, post)
    for name, activity in (("pre", pre), ("post", post)):
        asked = name in rule.spiking and bool(activity.numel()) and not geometry.captured(activity)
        if asked and not are_spikes(activity):
            low, high = (float(value) for value in activity.detach().aminmax())
            cure = "encode rates as spikes first, for example with PoissonEncoding, or give the spikes of the units"
            what = f"{type(rule).__name__} needs {name} as spikes, 0 or 1, got numbers from {low:g} to {high:g}"
            raise Refusal(f"{what}; {cure}.")


def _check_third(rule: Clocked, third: dict[str, Tensor]) -> None:
    """Refuse third factors that a rule does not have."""
    if third:
        said = signature(getattr(rule, "terms", rule.total)).parameters.values()
        usual = ("layer", "pre", "post", "old", "scale")
        known = [one.name for one in said if one.kind is not one.VAR_KEYWORD and one.name not in usual]
        for name in third:
            if name not in known:
                raise unknown(f"third factor of {type(rule).__name__}", name, known)


def _tensors(memory: Any) -> list[Tensor]:
    """All tensors of a memory, in order."""
    if isinstance(memory, Tensor):
        return [memory]
    return [one for part in memory for one in _tensors(part)] if isinstance(memory, tuple) else []


def _check_memory(rule: Clocked, layer: nn.Module, pre: Tensor, post: Tensor, old: Any) -> None:
    """Refuse the memory of another batch, which would broadcast."""
    key = (pre.shape, post.shape, tuple(weight_of(layer).shape))
    found = _SHAPES.setdefault(rule, {}) if isinstance(rule, Hashable) else {}
    if key not in found:
        nothing = [torch.empty(shape, device="meta") for shape in key[:2]]
        found[key] = [one.shape for one in _tensors(rule.start(layer, *nothing))]
    got = [one.shape for one in _tensors(old)]
    if got != found[key]:
        shapes = [", ".join(str(tuple(one)) for one in some) or "none" for some in (found[key], got)]
        what = f"{type(rule).__name__} needs a memory of tensors {shapes[0]} for this batch, got {shapes[1]}"
        raise Refusal(f"{what}; begin each batch with memory = rule.init(layer, pre, post).")
