"""A rule: a law that can be called on a layer."""

from torch import Tensor, nn

from neuropil.plasticity.engine import apply
from neuropil.plasticity.law import Law
from neuropil.plasticity.plan import PLAN, Plan


class Rule(Law):
    r"""What learns a layer: its input and its output to a change of its weight. All rules are called alike.

    A rule of one's own is a subclass with a `post` and, if its drive is not the layer's output, with `weights`. It
    then works on every dense and convolutional layer, in every dtype, on every device.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Chosen, Rule
        >>> class Instar(Rule):
        ...     def post(self, u):
        ...         return Chosen(u.argmax(1, keepdim=True), gains=(1.0,), decay=1.0)
        >>> layer = torch.nn.Linear(2, 3, bias=False)
        >>> _ = torch.nn.init.eye_(layer.weight)
        >>> Instar()(layer, torch.tensor([[0.0, 2.0]]))
        tensor([[0., 0.],
                [0., 1.],
                [0., 0.]])
    """

    def __call__(
        self, layer: nn.Module, pre: Tensor, post: Tensor | None = None, *, plan: Plan = PLAN, **third: Tensor
    ) -> Tensor:
        r"""The change of the weight of `layer`, a sum over samples.

        Args:
            layer: a dense layer, a convolution or a transposed convolution.
            pre: its input, (batch, \*in).
            post: its output, (batch, \*out), before any activation; computed if not given.
            plan: how the engine goes about it; makes no difference but for rounding.
            third: third factors of the rule by name: (batch,), or shaped like the output.

        Returns:
            what to add to the weight, shaped like it.

        Raises:
            Refusal: shapes, dtypes or devices do not fit the layer; NaN or infinite activity.
        """
        return apply(self, layer, pre, post, plan, third)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
