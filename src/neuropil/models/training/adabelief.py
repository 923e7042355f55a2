"""AdaBelief: Adam that divides by how far gradients stray from their mean, not by how large they are."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neuropil.errors import Diverged, needs_numbers, require
from neuropil.plasticity.joint import WHOLE, Portion


class AdaBelief(Optimizer):
    r"""Step :math:`-\eta \hat m / (\sqrt{\hat s} + \epsilon)` with :math:`m = \beta_1 m + (1 - \beta_1) g` and
    :math:`s = \beta_2 s + (1 - \beta_2) (g - m)^2 + \epsilon`, both corrected for their start from 0.

    Zhuang et al. 2020, NeurIPS 33 (Algorithm 2, without weight decay and without AMSGrad).

    Args:
        params: what to change.
        lr: eta.
        betas: beta_1, beta_2.
        eps: epsilon.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
    ):  # fmt: skip
        needs_numbers(self, lr=lr, betas=betas, eps=eps)
        require(lr > 0 and eps > 0, f"AdaBelief needs lr > 0 and eps > 0, got lr={lr} and eps={eps}.")
        require(all(0 <= beta < 1 for beta in betas), f"AdaBelief needs 0 <= beta < 1, got betas={betas}.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change all parameters that have a gradient once; the loss, if a closure is there to make it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, param.grad, group["lr"], group["betas"], group["eps"])
        return loss

    def _move(self, param: Tensor, gradient: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        """One step of one parameter."""
        state = self.state[param]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(param), spread=torch.zeros_like(param))
        mean, spread = state["mean"], state["spread"]
        state["step"] += 1
        count = float(state["step"])
        mean.lerp_(gradient, 1 - betas[0])
        strays = gradient - mean
        spread.mul_(betas[1]).addcmul_(strays, strays, value=1 - betas[1]).add_(eps)
        root = spread.sqrt().div_((1 - betas[1] ** count) ** 0.5).add_(eps)
        param.addcdiv_(mean, root, value=-lr / (1 - betas[0] ** count))


def descend_(loss: Tensor, optimizer: Optimizer, schedule: LRScheduler, clip: float, part: Portion = WHOLE) -> Tensor:
    """One step down the gradient of `loss`, clipped to the norm `clip` (inf clips nothing); the norm that it had.

    With a `part`, down the sum of the gradients of all processes.

    Raises:
        Diverged: the gradient is NaN or infinite; nothing was changed.
    """
    optimizer.zero_grad()
    loss.backward()
    weights = [one for group in optimizer.param_groups for one in group["params"]]
    part.add_gradients_(weights)
    norm = nn.utils.get_total_norm([one.grad for one in weights if one.grad is not None])
    if not math.isfinite(norm):
        raise Diverged(f"training diverged: the norm of its gradient is {norm:.3g}; lower its learning rate.")
    if clip < math.inf:
        nn.utils.clip_grads_with_norm_(weights, clip, norm)
    optimizer.step()
    schedule.step()
    return norm
