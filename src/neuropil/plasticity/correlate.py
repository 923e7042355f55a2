"""What keeps rules apart from layers: co-activity is the derivative of <post, layer(pre)> by the weight."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuropil.errors import require
from neuropil.plasticity.geometry import Conv, Transposed, check_plain, padded, product, weight_of
from neuropil.plasticity.patches import unfolded, windows
from neuropil.plasticity.precision import full_precision


@full_precision
def correlate(layer: nn.Module, pre: Tensor, post: Tensor) -> Tensor:
    r"""Co-activity of every synapse, :math:`\sum_b post_b\, pre_b^\top`, shaped like the weight.

    For a layer that is linear in its weight this sum is the derivative of ``<post, layer(pre)>`` by the weight, so
    one function serves every geometry. Dense layers and convolutions take a direct route to the same numbers.

    Args:
        layer: a module with a ``weight`` in which its output is linear and which takes one tensor: dense layers,
            convolutions, `nn.Embedding`, your own. `nn.Bilinear` and `nn.MultiheadAttention` are refused.
        pre: its input, (batch, *in).
        post: activity on its output side, (batch, *out).

    Raises:
        Refusal: a layer that is not like that; inputs that are not tensors, or inside a transform of ``torch.func``.

    >>> import torch
    >>> correlate(torch.nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0], [1.0]]))
    tensor([[3., 7.]])
    """
    check_plain(pre, post)
    kind = type(layer).__name__
    require(not isinstance(layer, nn.Bilinear), f"correlate needs a layer that takes one tensor, {kind} takes two.")
    if type(layer) is nn.Linear:
        return _dense(post, pre) if pre.dim() == 2 else _dense(post.flatten(0, -2), pre.flatten(0, -2))
    pre, post = pre.detach(), post.detach()
    if type(layer) in Conv + Transposed and pre.dim() == layer.weight.dim():  # type: ignore[operator]
        return _convolution(layer, pre, post)
    return _by_autograd(layer, pre, post)


def _dense(post: Tensor, pre: Tensor) -> Tensor:
    """post.T @ pre for (n, out) and (n, in); where the outputs of many samples are more than all else, uncopied."""
    if post.numel() > pre.numel() + post.shape[1] * pre.shape[1]:
        return product(pre.T, post.T).T.contiguous()
    return product(post.T, pre.T)


def _by_autograd(layer: nn.Module, pre: Tensor, post: Tensor) -> Tensor:
    """The definition."""
    weight = weight_of(layer).requires_grad_()
    with torch.enable_grad():
        out = functional_call(layer, {"weight": weight}, (pre,))
    (together,) = torch.autograd.grad(out, weight, grad_outputs=post)
    return together


def _convolution(layer: nn.Module, pre: Tensor, post: Tensor) -> Tensor:
    """The weight part of the backward pass of a convolution, without a forward pass.

    Where a batch has no more positions than the layer has units, a product with its patches takes less than half the
    time on a CPU: what weighs there is the weight, and the backward pass moves that twice.
    """
    transposed, padding = isinstance(layer, Transposed), layer.padding
    positions = post.numel() // post.shape[1]
    if post.device.type == "cpu" and not transposed and layer.groups == 1 and positions <= post.shape[1]:
        patch = unfolded(windows(layer, pre), post.dim() - 1)
        return _dense(post.movedim(1, -1).reshape(positions, -1), patch).view_as(weight_of(layer))
    if layer.padding_mode != "zeros" or isinstance(padding, str):  # the bare operator pads with zeros, as numbers say
        pre, padding = padded(layer, pre), [0] * len(layer.stride)  # type: ignore[arg-type, assignment]
    geometry = (layer.stride, padding, layer.dilation, transposed)
    extra = layer.output_padding if transposed else [0] * len(layer.stride)  # type: ignore[arg-type]
    only_weight = [False, True, False]
    backward = torch.ops.aten.convolution_backward
    change: Tensor = backward(post, pre, weight_of(layer), None, *geometry, extra, layer.groups, only_weight)[1]
    return change
