"""Where the units of a layer are: the only file that knows dense from convolutional."""

import math
from functools import reduce

import torch
from torch import Tensor, nn
from torch.backends import mkldnn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from neuropil.errors import Diverged, Refusal
from neuropil.plasticity.plan import PLAN, Plan

Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def unit_axis(layer: nn.Module) -> int:
    """The axis of the output that counts units: the last of a dense layer, the channels of a convolution."""
    if isinstance(layer, nn.Linear):
        return -1
    if isinstance(layer, Conv + Transposed):
        return 1
    cure = "make a layer of your own a subclass of one of these, or write your rule with correlate"
    what = "a rule needs a Linear, Conv or ConvTranspose layer to know its units"
    raise Refusal(f"{what}, got {type(layer).__name__}; {cure}.")


def units(layer: nn.Module) -> int:
    """How many units (rows, output channels) the layer has."""
    return layer.out_features if unit_axis(layer) == -1 else layer.out_channels  # type: ignore[return-value]


def rows(layer: nn.Module, weight: Tensor) -> Tensor:
    """`weight` as (units, fan-in), one row per unit: to read, as it is a copy where channels of kernels lie last."""
    if not isinstance(layer, Transposed):
        return weight if weight.dim() == 2 else weight.flatten(1)
    grouped: Tensor = weight.unflatten(0, (layer.groups, -1))  # (groups, in / groups, out / groups, *kernel)
    return grouped.transpose(1, 2).flatten(0, 1).flatten(1)


def from_rows(layer: nn.Module, matrix: Tensor) -> Tensor:
    """The inverse of `rows`: (units, fan-in) shaped like the weight of `layer`."""
    if isinstance(layer, nn.Linear):
        return matrix
    weight = weight_of(layer)
    if not isinstance(layer, Transposed):
        return matrix.view(weight.shape)
    inputs, outputs = weight.shape[0] // layer.groups, weight.shape[1]
    grouped = matrix.view(layer.groups, outputs, inputs, *weight.shape[2:])
    return grouped.transpose(1, 2).reshape(weight.shape)


def write_(layer: nn.Module, matrix: Tensor) -> None:
    """The weight of `layer` becomes `matrix` (units, fan-in), however it lies in memory."""
    weight_of(layer).copy_(from_rows(layer, matrix))


def per_sample(layer: nn.Module, activity: Tensor) -> Tensor:
    """Activity on the output side as (samples, units); every position of a convolution is a sample."""
    return activity.movedim(unit_axis(layer), -1).flatten(0, -2)


def padded(layer: nn.Module, pre: Tensor) -> Tensor:
    """`pre` with the padding of a convolution around it: a convolution without padding sees the same patches."""
    sides, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
    if not any(sides):  # type: ignore[arg-type]
        return pre
    return F.pad(pre, sides, mode="constant" if mode == "zeros" else mode)  # type: ignore[arg-type]


def respond(layer: nn.Module, pre: Tensor, weight: Tensor, plan: Plan = PLAN) -> Tensor:
    """What the synapses alone (no bias) would make of `pre` with `weight` in place of the layer's own."""
    if type(layer) is nn.Linear:
        return product(pre, weight, plan)
    tensors = {"weight": weight}
    if bias_of(layer) is not None:
        tensors["bias"] = weight.new_zeros(units(layer))
    with torch.no_grad():
        out: Tensor = functional_call(layer, tensors, (pre,))
    return out


def product(pre: Tensor, weight: Tensor, plan: Plan = PLAN) -> Tensor:
    """pre @ weight.T without autograd, for pre (..., in) and weight (units, in).

    On the CPU a large float32 product goes through oneDNN's layout where torch has it. On AMD processors that takes
    half the time of torch's BLAS; elsewhere it costs one copy of the result.
    """
    pre, weight = pre.detach(), weight.detach()
    large = pre.numel() * len(weight) >= plan.large_product
    if large and pre.device.type == "cpu" and pre.dtype == weight.dtype == torch.float32 and mkldnn.is_available():
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            out: Tensor = torch.ops.mkldnn._linear_pointwise(pre, weight, None, "none", [], "")
            return out
        return F.linear(pre.to_mkldnn(), weight).to_dense()
    return F.linear(pre, weight)


def check_input(layer: nn.Module, pre: Tensor) -> None:
    """Refuse an activity that cannot be the input of `layer`."""
    dense, shape = unit_axis(layer) == -1, pre.shape
    wanted = layer.in_features if dense else layer.in_channels
    if len(shape) < 2 if dense else len(shape) != weight_of(layer).dim():
        what = f"as (batch, {'*, features' if dense else 'channels, *positions'})"
    elif shape[-1 if dense else 1] != wanted:
        what = f"with {wanted} {'features' if dense else 'channels'}"
    else:
        return
    raise Refusal(f"a rule on {type(layer).__name__} needs pre {what}, got {tuple(shape)}.")


def check_plain(*activities: object) -> None:
    """Refuse what is no tensor, and tensors inside a transform of torch.func, where every derivative would be 0."""
    for activity in activities:
        if activity is not None and not isinstance(activity, Tensor):
            cure = "unpack what tap recorded: rule(layer, *seen[name])"
            raise Refusal(f"activity is a tensor, got {type(activity).__name__}; {cure}.")
        if isinstance(activity, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(activity):
            cure = "call it outside of torch.func.grad, vmap and their like"
            raise Refusal(f"a rule's change has no derivative and is made of whole batches; {cure}.")


def check_alike(layer: nn.Module, weight: Tensor, *activities: Tensor | None) -> None:
    """Refuse activities on another device, or of another type of numbers, than `weight`, that of `layer`."""
    for activity in activities:
        if activity is not None and (activity.device, activity.dtype) != (weight.device, weight.dtype):
            has, got = (f"{str(side.dtype).removeprefix('torch.')} on {side.device}" for side in (weight, activity))
            name = type(layer).__name__
            raise Refusal(f"{name} with a weight of {has} was given activity of {got}; use .to() on one of them.")


def check_output(layer: nn.Module, pre: Tensor, post: Tensor) -> None:
    """Refuse an activity that cannot be the output of `layer` for the input `pre`, which was checked."""
    axis = unit_axis(layer)
    if post.dim() != pre.dim() or post.shape[:axis] != pre.shape[:axis] or post.shape[axis] != units(layer):
        who, got = type(layer).__name__, f"pre {tuple(pre.shape)} but post {tuple(post.shape)}"
        cure = "pass the layer's own output, before flattening or pooling."
        raise Refusal(f"{who} with {units(layer)} units was given {got}; {cure}")


def total(activity: Tensor) -> Tensor:
    """The sum of all entries, which is finite if they are: the cheapest pass that shows NaN and infinity."""
    return activity.sum(dtype=torch.promote_types(activity.dtype, torch.float32))


def captured(activity: Tensor) -> bool:
    """Whether work on `activity` is recorded in a CUDA graph, where nothing may wait for a number."""
    return activity.is_cuda and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def check_finite(layer: nn.Module, *activities: Tensor, most: float = math.inf) -> None:
    """Refuse NaN and infinity, and sums of `most` or more, before they reach a weight; not inside of a CUDA graph."""
    if captured(activities[0]):
        return
    if not abs(float(reduce(torch.add, map(total, activities)))) < most:
        what = f"a rule on {type(layer).__name__} was given NaN or infinite activity, or so large that its change is"
        raise Diverged(f"{what}; check the data, or lower the learning rate if the weights have run away.")


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of `layer`, cut from the autograd graph."""
    weight = getattr(layer, "weight", None)
    if weight is None:
        raise Refusal(f"{type(layer).__name__} has no weight of its own; name the layer inside it that has one.")
    if is_lazy(weight):
        raise Refusal(f"{type(layer).__name__} has no weight yet; let a batch through the network first.")
    if not isinstance(weight, nn.Parameter):
        fault = f"the weight of {type(layer).__name__} is computed from other parameters, which no change can reach"
        raise Refusal(f"{fault}; remove the parametrization.")
    return weight.detach()


def bias_of(layer: nn.Module) -> Tensor | None:
    """The bias of `layer`, cut from the autograd graph; None if it has none."""
    bias = getattr(layer, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None
