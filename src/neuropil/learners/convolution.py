"""What deep convolutional Hebbian features need besides PyTorch's own layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.checks import require

FLAT = 1e-6  # a patch whose variance is below this share of its mean square is flat to float32


class PatchNormConv2d(nn.Conv2d):
    r"""A convolution on patches that have mean 0 and norm 1: :math:`\langle w, (x - \bar x) / |x - \bar x| \rangle`.

    Raw patches of images are positive, so all of them point the same way and every unit that learns from them becomes
    a blob; what tells them apart is what is left without their mean. The mean is over channels and kernel; a flat
    patch becomes zero. The layer is linear in its weight, so every rule learns on it as it stands.
    Arguments as for ``nn.Conv2d``, without groups and bias.
    """

    def __init__(self, *arguments: int, **settings: object):
        super().__init__(*arguments, **{"bias": False} | settings)  # type: ignore[arg-type]
        require(self.groups == 1, f"PatchNormConv2d needs groups=1, got {self.groups}: a patch spans all channels.")
        require(self.bias is None, "PatchNormConv2d needs bias=False: a unit answers to a patch's direction alone.")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, units, height', width')."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, centred, None) / self._norm(x)

    def _norm(self, x: Tensor) -> Tensor:
        """Norm of every centred patch, (batch, 1, height', width'); infinite where the patch is flat."""
        ones, n = torch.ones_like(self.weight[:1]), self.weight[0].numel()
        square, mean = self._conv_forward(x.square(), ones, None), self._conv_forward(x, ones, None) / n
        left = square - n * mean.square()
        return torch.where(left > FLAT * square, left.clamp_min(0).sqrt(), torch.inf)

    def see(self, patch: Tensor) -> Tensor:
        """Raw patches (n, fan-in) as the weights meet them: the same numbers, without a convolution."""
        square = torch.linalg.vecdot(patch, patch)[:, None]
        centred = patch - patch.mean(1, keepdim=True)
        left = torch.linalg.vecdot(centred, centred)[:, None]
        return centred / torch.where(left > FLAT * square, left.sqrt(), torch.inf)


class Triangle(nn.Module):
    r"""Activity above the mean of all channels at a position: :math:`\max(u - \bar u, 0)^n`.

    Coates, Lee & Ng 2011 (AISTATS) with n = 1; Journe et al. 2023 (ICLR) give every layer a power.

    Args:
        n: the power, above 0.
    """

    def __init__(self, n: float = 1.0):
        super().__init__()
        require(n > 0, f"Triangle needs a power n > 0, got {n}.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *positions) to the same shape."""
        above = F.relu(x - x.mean(1, keepdim=True))
        return above if self.n == 1 else above.pow(self.n)

    def extra_repr(self) -> str:
        """The power."""
        return f"n={self.n}"
