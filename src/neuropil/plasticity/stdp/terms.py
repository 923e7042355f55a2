"""The products of activities that a rule with traces changes weights by, and their sum on any layer."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

from torch import Tensor, nn

from neuropil.errors import Refusal
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import from_rows, per_sample, rows, weight_of
from neuropil.plasticity.kernels.events import Few, add_events_, few_events

FORM = "terms returns [Term(pre, post), ...] and what is remembered"
Factor = Callable[[Tensor], Tensor]


class Term(NamedTuple):
    r"""A product of activities, summed over samples and positions: :math:`f(W) \sum_b post_b\, pre_b^\top`.

    Attributes:
        pre: a factor of each presynaptic neuron, (batch, \*in); None for 1 at every synapse of a unit.
        post: a factor of each postsynaptic neuron, (batch, \*out).
        gain: a number.
        factor: f, of each weight alone; None for 1.
    """

    pre: Tensor | None
    post: Tensor
    gain: float = 1.0
    factor: Factor | None = None


Sum = Callable[[nn.Module, list[Term]], tuple[Tensor, float | None]]


def checked(who: str, said: Any, pre: Tensor, post: Tensor) -> tuple[Sequence[Term], Any]:
    """What the method `terms` of the rule `who` returned in a step with the activities `pre` and `post`.

    Raises:
        Refusal: no list of terms and a memory; a factor without the shape, dtype and device of its activity.
    """
    pair = isinstance(said, tuple) and len(said) == 2 and isinstance(said[0], list | tuple)
    if not (pair and all(isinstance(term, Term) for term in said[0])):
        raise Refusal(f"{who} needs a list of terms and a memory; {FORM}, got {_named(said)}.")
    for term in said[0]:
        if term.pre is not None:
            _check_factor(who, "pre", term.pre, pre)
        _check_factor(who, "post", term.post, post)
        number = isinstance(term.gain, Real) or (isinstance(term.gain, Tensor) and term.gain.dim() == 0)
        if not number:
            raise Refusal(f"{who} needs a number as the gain of a term, got {_named(term.gain)}.")
        if not (term.factor is None or callable(term.factor)):
            raise Refusal(f"{who} needs a function of the weight as the factor of a term, got {_named(term.factor)}.")
    return said[0], said[1]


def _check_factor(who: str, side: str, got: Any, like: Tensor) -> None:
    same = isinstance(got, Tensor) and got.shape == like.shape and got.dtype == like.dtype and got.device == like.device
    if not same:
        raise Refusal(f"a term of {who} needs as {side} a factor of each neuron, {_named(like)}, got {_named(got)}.")


def _named(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} in {str(value.dtype).removeprefix('torch.')} on {value.device}"
    if isinstance(value, list | tuple) and not isinstance(value, Term):
        return f"a {type(value).__name__} of {', '.join(type(one).__name__ for one in value) or 'nothing'}"
    return repr(value) if value is None or isinstance(value, Real | str) else f"a {type(value).__name__}"


def add_up(layer: nn.Module, terms: Sequence[Term], sum_: Sum) -> tuple[Tensor, float | None]:
    """The sum of all terms, and a bound where one is known; those with the same factor are multiplied by it once.

    Args:
        layer, terms: as above.
        sum_: adds up one or more terms without their factors; its result is changed.
    """
    alike = dict[Factor | None, list[Term]]()
    for term in terms:
        alike.setdefault(term.factor, []).append(term)
    change: Tensor | None = None
    for factor, some in alike.items() or [(None, [])]:
        part, bound = sum_(layer, some)
        part = part.mul_(_factor_of(layer, factor)) if factor else part
        change = part if change is None else change.add_(part)
    assert change is not None
    return change, bound if set(alike) == {None} else None


def _factor_of(layer: nn.Module, factor: Factor) -> Tensor:
    """What a factor says of each weight of the layer."""
    weight = weight_of(layer)
    found = factor(weight)
    if not (isinstance(found, Tensor) and found.shape == weight.shape):
        shape = tuple(weight.shape)
        raise Refusal(f"the factor of a term needs a number for each weight, {shape}, got {_named(found)}.")
    return found


def correlated(layer: nn.Module, terms: Sequence[Term]) -> tuple[Tensor, float | None]:
    """The sum over samples of all terms without factors, and a bound; dense layers take few spikes one by one."""
    weight, dense = weight_of(layer), type(layer) is nn.Linear
    few, rest = list[Few](), list[Term]()
    for term in terms:
        if dense and term.pre is not None:
            found = few_events(*_samples(term), term.gain)
            if found is not None:
                few.append(found)
                continue
        rest.append(term)
    out = weight.new_empty(weight.shape) if few and not rest else weight.new_zeros(weight.shape)
    for term in rest:
        out = add_product_(layer, term, out)
    if few:
        add_events_(out.numpy(), few, add=bool(rest))
    return out, sum(one.bound for one in few) if few and not rest else None


def add_product_(layer: nn.Module, term: Term, out: Tensor) -> Tensor:
    """`out` with the sum over samples of one term."""
    pre, post, gain = term.pre, term.post, term.gain
    if pre is None:
        by_unit = per_sample(layer, post).sum(0)[:, None].expand_as(rows(layer, out))
        return out.add_(from_rows(layer, by_unit.contiguous()), alpha=gain)
    if type(layer) is nn.Linear:
        x, y = _samples(term)
        return out.addmm_(y.T, x, alpha=gain)
    return out.add_(correlate(layer, pre, post), alpha=gain)


def _samples(term: Term) -> tuple[Tensor, Tensor]:
    """Both factors of a dense layer, (samples, in) and (samples, units)."""
    assert term.pre is not None
    return (term.pre, term.post) if term.pre.dim() == 2 else (term.pre.flatten(0, -2), term.post.flatten(0, -2))
