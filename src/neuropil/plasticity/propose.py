"""How a change reaches the optimiser, and what happens to it before the optimiser writes it."""

import sys
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from neuropil.errors import Refusal, require
from neuropil.plasticity.geometry import weight_of
from neuropil.plasticity.kernels.rows import negated_

FRAMES = 12  # between a GradScaler and the optimiser's own step: schedules and wrappers
SAMPLE = 4096  # entries of a change that are looked at


class Proposal(NamedTuple):
    """A change that waits in a gradient for the optimiser."""

    version: int  # of the gradient
    some: Tensor | bool  # whether it is not zero, or a sample of its entries shows that
    scaled: bool  # whether a GradScaler has scaled it
    lost: Tensor | None  # whether it overwrote another that was not zero and that no optimiser has written


_waiting: Any = WeakTensorKeyDictionary()  # parameter -> Proposal
_by_loss: Any = WeakTensorKeyDictionary()  # parameters to which a surrogate loss gave a change since the latest step


def propose_(
    target: nn.Module | nn.Parameter, change: Tensor, bias: Tensor | None = None, *,
    accumulate: bool = False, scaler: GradScaler | None = None,
) -> None:  # fmt: skip
    """Hand `change` to the optimiser, which descends: the gradient of the weight becomes minus the change.

    The one place where learning without backpropagation writes a gradient. A gradient that is there, for example from a
    backward pass, is overwritten, if dense then in its own memory. ``requires_grad_(False)`` keeps no weight from
    learning so: it is about backward passes. Leave out the rule of a layer that is to stay as it is.

    Args:
        target: the layer that learns, or a parameter that belongs to no single layer.
        change: what to add to the weight, shaped like it, dense or sparse.
        bias: what to add to the layer's bias, shaped like it; None leaves the gradient of the bias alone.
        accumulate: subtract the change from the gradient that is there, instead of overwriting it.
        scaler: of gradients, where one takes the step of the optimiser.

    Raises:
        Refusal: a change is not shaped like what it changes; the layer has no bias; its weight is computed from others.
            A `surrogate_loss` gave the weight a change already. ``optimizer.step()`` refuses a change that
            ``zero_grad()`` cleared, that overwrote another, or that its ``GradScaler`` did not scale.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import propose_
        >>> layer = torch.nn.Linear(2, 1)
        >>> propose_(layer, torch.ones(1, 2), bias=torch.ones(1))
        >>> layer.weight.grad, layer.bias.grad
        (tensor([[-1., -1.]]), tensor([-1.]))
    """
    _watch_optimisers()
    require(
        not torch.is_inference_mode_enabled(), "propose_ cannot write in torch.inference_mode(); use torch.no_grad()."
    )
    for param, what in _pairs(target, change, bias):
        _descend_(param, what, accumulate, scaler)


def surrogate_loss(target: nn.Module | nn.Parameter, change: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""A loss whose gradient is minus `change`: for loops that know ``loss.backward(); optimizer.step()`` only.

    :math:`L = -\langle W, \Delta W \rangle`, in which the change is a constant. So the automatic optimisation of
    Lightning, Accelerate, gradient accumulation and a ``GradScaler`` do with a change what they do with a gradient. Add
    such losses of several layers, and a true loss of others. `propose_` is the same without a detour. A step takes the
    change of a weight from one of the two.

    The value is minus the speed at which the squared norm of the weights grows, halved. It says nothing of how well
    they learn, and falling is no success.

    Args:
        target, change, bias: as of `propose_`.

    Returns:
        a scalar in the dtype of the weight. No gradient reaches what the change was computed from.

    Raises:
        Refusal: a change is not shaped like what it changes; a weight is computed from others, or needs no gradient.
            ``backward()`` refuses a weight for which a change was proposed, ``optimizer.step()`` one that ascends.

    References:
        Schulman et al. 2015, arXiv:1506.05254, has the name: a loss that exists for its gradient.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Hebb, surrogate_loss
        >>> layer = torch.nn.Linear(2, 1)
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> loss = surrogate_loss(layer, Hebb()(layer, x))
        >>> loss.backward()
        >>> bool((layer.weight.grad == -Hebb()(layer, x)).all())
        True
    """
    _watch_optimisers()
    losses = []
    for param, what in _pairs(target, change, bias):
        cure = "a change is written by a gradient here; call requires_grad_() on it, or leave it out"
        require(param.requires_grad, f"surrogate_loss needs a weight that requires a gradient; {cure}.")
        losses.append(_Surrogate.apply(param, what))  # type: ignore[no-untyped-call]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


class _Surrogate(torch.autograd.Function):
    """Minus the inner product of a parameter and a change that is a constant, dense or sparse."""

    @staticmethod
    def forward(ctx: Any, param: nn.Parameter, change: Tensor) -> Tensor:
        ctx.param = param
        ctx.save_for_backward(change)
        return -(change * param).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        proposed = ctx.param in _waiting and _is_there(ctx.param)
        cure = "leave one of the two out, or the change is taken twice"
        require(not proposed, f"a weight got a change by propose_ and by surrogate_loss before one step; {cure}.")
        _by_loss[ctx.param] = True
        (change,) = ctx.saved_tensors
        return -change * grad, None


def _is_there(param: nn.Parameter) -> bool:
    """Whether something is in the gradient of `param`."""
    return param.grad is not None and bool(param.grad.any())


def _pairs(target: nn.Module | nn.Parameter, change: Tensor, bias: Tensor | None) -> list[tuple[nn.Parameter, Tensor]]:
    """Each parameter that a change is for, and that change in its dtype; what does not fit is refused."""
    if isinstance(target, nn.Parameter):
        require(bias is None, "a parameter by itself has no bias; propose two changes.")
        return [(target, _fitting(target, change, "parameter"))]
    weight_of(target)  # refuses what no change can reach
    pairs = [(target.weight, _fitting(target.weight, change, "weight"))]  # type: ignore[arg-type]
    if bias is not None:
        own = getattr(target, "bias", None)
        require(isinstance(own, nn.Parameter), f"{type(target).__name__} has no bias that a change could be given to.")
        pairs.append((own, _fitting(own, bias, "bias")))  # type: ignore[arg-type]
    return pairs  # type: ignore[return-value]


def _fitting(param: nn.Parameter, change: Tensor, what: str) -> Tensor:
    """`change` as a constant in the dtype of `param`, whose shape it has."""
    if not isinstance(change, Tensor):
        raise Refusal(f"a change is a tensor, got {type(change).__name__}; propose what a rule returns.")
    if change.shape != param.shape:
        got = f"a change of shape {tuple(change.shape)} was proposed for a {what} of {tuple(param.shape)}"
        raise Refusal(f"{got}; a rule's change is shaped like the {what}.")
    return change.detach().to(param)


def _descend_(param: nn.Parameter, change: Tensor, accumulate: bool, scaler: GradScaler | None) -> None:
    """The gradient of `param` becomes minus `change`, or less by `change`."""
    twice = len(_by_loss) and param in _by_loss and _is_there(param)
    cure = "leave one of the two out, or call zero_grad() to drop the first"
    require(not twice, f"a weight got a change by surrogate_loss and by propose_ before one step; {cure}.")
    old = param.grad
    change = change if scaler is None else scaler.scale(change)
    waiting = _waiting.get(param) if len(_waiting) else None
    lost: Tensor | None = None
    some: Tensor | bool | None = None
    if waiting is not None and old is not None and not accumulate:
        lost = old.any() if waiting.lost is None else waiting.lost | old.any()
    if old is None or (not accumulate and (old.is_sparse or change.is_sparse)):
        param.grad = -change
    elif accumulate:
        param.grad = old - change
    else:
        some = negated_(change, old)
        if some is None:
            torch.neg(change, out=old)
    if some is None:
        entries = (change.coalesce().values() if change.is_sparse else change).flatten()
        some = entries[:: max(1, len(entries) // SAMPLE)].any()
    _waiting[param] = Proposal(param.grad._version, some, scaler is not None and scaler.is_enabled(), lost)  # type: ignore[union-attr]


@cache
def _watch_optimisers() -> None:
    """From the first proposal on, every step of an optimiser is refused where it would not write what was proposed."""
    register_optimizer_step_pre_hook(_refuse_before)
    register_optimizer_step_post_hook(_refuse_cleared)


def _held(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimiser."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def _refuse_before(optimizer: Optimizer, *_: Any) -> None:
    """Refuse to write the last of several changes, or one that a GradScaler did not scale or that it scaled."""
    held = _held(optimizer) if len(_waiting) or len(_by_loss) else []
    waiting = [one for one in map(_waiting.get, held) if one is not None]
    learns = bool(waiting) or (len(_by_loss) and any(param in _by_loss for param in held))
    ascends = learns and any(group.get("maximize") for group in optimizer.param_groups)
    require(not ascends, "a change was proposed to an optimiser that ascends; make it with maximize=False.")
    if any(proposal.lost for proposal in waiting if proposal.lost is not None):
        lost = "several changes were proposed before this step, of which only the last is left"
        cure = "add them up by propose_(layer, change, accumulate=True) or by learner.surrogate_loss"
        raise Refusal(f"{lost}; {cure}, or call zero_grad() to drop one.")
    scaling = bool(waiting) and _under_scaler()
    if any(proposal.scaled != scaling for proposal in waiting):
        cure = "propose_(layer, change, scaler=scaler) goes with scaler.step(optimizer), propose_(layer, change) with"
        how = "without" if scaling else "with"
        raise Refusal(f"a change was proposed {how} a GradScaler; {cure} optimizer.step().")


def _refuse_cleared(optimizer: Optimizer, *_: Any) -> None:
    """Refuse where a gradient was cleared between proposal and step."""
    for param in _held(optimizer) if len(_by_loss) else ():
        _by_loss.pop(param, None)
    for param in _held(optimizer) if len(_waiting) else ():
        proposal, grad = _waiting.pop(param, None), param.grad
        if proposal is None:
            continue
        kept = grad is not None and (grad._version == proposal.version or bool(grad.any()) or not bool(proposal.some))
        if not kept:
            got = f"the change proposed for a parameter of {tuple(param.shape)} was cleared before the step"
            loops = "where a loop clears in between, as Lightning's does, give it surrogate_loss instead"
            cure = f"call zero_grad() before propose_, or, {loops}"
            raise Refusal(f"{got}; {cure}.")


def _under_scaler() -> bool:
    """Whether a GradScaler takes the step that is being taken."""
    frame, left = sys._getframe(), FRAMES
    while frame.f_back and left:
        frame, left = frame.f_back, left - 1
        if "self" in frame.f_code.co_varnames[:1]:  # what has none is not looked into, which takes long
            scaler = frame.f_locals.get("self")
            if isinstance(scaler, GradScaler):
                return scaler.is_enabled()
    return False
