"""What deep convolutional Hebbian features need besides PyTorch's own layers."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.models.description import CONVOLUTION, layers_of, savable
from neuropil.plasticity.patches import PatchNorm, has_patches, sample_patches

FLAT = 1e-6  # a patch whose variance is below this fraction of its mean square is flat to float32


class PatchNormConv2d(nn.Conv2d):
    r"""A convolution on patches that have mean 0 and norm 1: :math:`\langle w, (x - \bar x) / |x - \bar x| \rangle`.

    Raw patches of images are positive, so all of them point the same way and every unit that learns from them becomes
    a blob. What tells them apart is what is left without their mean. The mean is over channels and kernel; a flat
    patch becomes zero. The layer is linear in its weight, so every rule learns on it as it stands.
    Arguments as for ``nn.Conv2d``, without groups and bias; for patches that are whitened as well see `whiten_`.
    """

    whitening: Tensor | None

    def __init__(self, *arguments: int, **settings: object):
        super().__init__(*arguments, **{"bias": False} | settings)  # type: ignore[arg-type]
        require(self.groups == 1, f"PatchNormConv2d needs groups=1, got {self.groups}: a patch spans all channels.")
        require(self.bias is None, "PatchNormConv2d needs bias=False: a unit answers to a patch's direction alone.")
        self.register_buffer("whitening", None)

    @torch.no_grad()
    def whiten_(self, train: Split, rng: Generator, *, floor: float = 0.1, count: int = 50_000) -> Self:
        r"""From now on the weights meet whitened patches :math:`z P` instead of the centred and normalised z.

        :math:`P = c (\overline{z^T z} + \epsilon)^{-1/2}` over random patches of `train`, with c such that whitened
        patches have norm 1 in the mean. Neighbouring pixels of photographs are alike; without that, units that compete
        become edges and colours rather than gradients of light (Coates, Lee & Ng 2011, AISTATS).

        Args:
            train: images as this layer meets them.
            rng: of the patches.
            floor: :math:`\epsilon` as a fraction of the mean variance of an entry of z; what varies less is not raised.
            count: patches, at most.
        """
        require(floor > 0, f"PatchNormConv2d needs a floor > 0 to whiten, got {floor}.")
        some = train[torch.randint(len(train), (min(len(train), 2000),), generator=rng).to(train.y.device)]
        self.whitening = None
        patch = sample_patches(self, some.pixels(), count, rng).double()
        require(len(patch) > 0, "PatchNormConv2d needs images with patches that are not flat to whiten, got none.")
        turn = whitening_of(patch, floor)
        self.whitening = (turn / (patch @ turn).norm(dim=1).mean()).to(self.weight)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, units, height', width')."""
        weight = self.weight
        if self.whitening is not None:
            weight = (weight.flatten(1) @ self.whitening).view_as(weight)
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        if not torch.is_grad_enabled():  # channels last takes a third less time on a CPU, but with gradients more
            centred = centred.clone(memory_format=torch.channels_last)
        drive: Tensor = self._conv_forward(x, centred, None)
        return drive.div_(self._norm(x))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Patches are whitened from now on if they were when the state was taken."""
        if prefix + "whitening" in state_dict and self.whitening is None:
            self.whitening = torch.empty_like(state_dict[prefix + "whitening"])
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _norm(self, x: Tensor) -> Tensor:
        """Norm of every centred patch, (batch, 1, height', width'); infinite where the patch is flat."""
        ones, n = torch.ones_like(self.weight[:1]), self.weight[0].numel()
        square, mean = self._conv_forward(x.square(), ones, None), self._conv_forward(x, ones, None) / n
        left = square - n * mean.square()
        return torch.where(left > FLAT * square, left.clamp_min(0).sqrt(), torch.inf)

    def preprocess_patches(self, patch: Tensor) -> Tensor:
        """Raw patches (n, fan-in) as the weights meet them, without a convolution; flat ones are left out.

        A flat patch has no direction, so no unit may win it. Where most of an image is empty, the first unit would
        otherwise win most patches and learn nothing from them.
        """
        patch = directions(patch)
        return patch if self.whitening is None else patch @ self.whitening

    def patch_norm(self) -> PatchNorm:
        """The same in closed form, for kernels."""
        return PatchNorm(FLAT, self.whitening)


def directions(patch: Tensor) -> Tensor:
    """Patches (n, fan-in) without their mean, at norm 1; those that are flat to float32 are left out."""
    square = torch.linalg.vecdot(patch, patch)
    centred = patch - patch.mean(1, keepdim=True)
    left = torch.linalg.vecdot(centred, centred)
    structured = ~(left <= FLAT * square)  # NaN is not flat, and will be refused
    found: Tensor = centred[structured] / left[structured, None].sqrt()
    return found


def whitening_of(patch: Tensor, floor: float) -> Tensor:
    r""":math:`(\overline{z^T z} + \epsilon)^{-1/2}` of patches z (n, fan-in), with the floor of `whiten_`."""
    variance, axes = torch.linalg.eigh(patch.T @ patch / len(patch))
    scale = (variance.clamp_min(0) + floor * variance.mean()).rsqrt()
    turn: Tensor = (axes * scale) @ axes.T
    return turn


class Triangle(nn.Module):
    r"""Activity above the mean of all channels at a position: :math:`\max(u - \bar u, 0)^n`.

    Coates, Lee & Ng 2011 (AISTATS) with n = 1; Journe et al. 2023 (ICLR) give every layer a power.

    Args:
        n: the power, above 0.
    """

    def __init__(self, n: float = 1.0):
        super().__init__()
        needs_numbers(self, n=n)
        require(n > 0, f"Triangle needs a power n > 0, got {n}.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *positions) to the same shape."""
        above = (x - x.mean(1, keepdim=True)).relu_()
        return above if self.n == 1 else above.pow(self.n)

    def extra_repr(self) -> str:
        """The power."""
        return f"n={self.n}"


class Stack(nn.Sequential):
    """A sequential network that, on a CPU and without gradients, lets images through channels last and a few at a time.

    The many channels of a wide convolution then stay in the cache until they are pooled. That is five times as fast as
    a large batch at once, with memory flat in the batch. In training mode, where batches have statistics, all go at
    once. Pools are ten times as fast with the channels of a position side by side in memory.
    """

    PIECE = 16  # images, at most
    CACHE = 2**21  # numbers that the first convolution may make of a piece

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to what the last layer makes of it."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            whole: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return whole
        if self.training:
            return self._quickly(x)
        return torch.cat([self._quickly(part) for part in x.split(self._piece(x))])

    def _piece(self, x: Tensor) -> int:
        """How many images go through at a time."""
        first = next((layer for layer in self if isinstance(layer, nn.Conv2d)), None)
        if first is None:
            return self.PIECE
        numbers = first.out_channels * x[0, 0].numel() // math.prod(first.stride)
        return max(1, min(self.PIECE, self.CACHE // numbers))

    def _quickly(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)
        return x


def stacked(*stages: Mapping[str, nn.Module]) -> Stack:
    """Stages on top of each other; ``conv`` of the first stage becomes the layer ``conv1`` and so on.

    >>> body = stacked(
    ...     {"conv": PatchNormConv2d(1, 400, 5), "act": Triangle(), "pool": nn.AdaptiveAvgPool2d(4)},
    ... )
    """
    named = [(f"{name}{depth}", layer) for depth, stage in enumerate(stages, 1) for name, layer in stage.items()]
    return Stack(OrderedDict(named))


class Beside(nn.Sequential):
    """Networks side by side: all look at the same images, and their answers, flattened, follow one another.

    >>> small, large = ({"conv": nn.Conv2d(1, 4, side), "pool": nn.AdaptiveAvgPool2d(2)} for side in (3, 5))
    >>> Beside(stacked(small), stacked(large))(torch.zeros(7, 1, 8, 8)).shape
    torch.Size([7, 32])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, features of all)."""
        return torch.cat([network(x).flatten(1) for network in self], dim=1)


class MirrorMean(Beside):
    """Networks that give, flattened, the mean of what they make of an image and of the mirror image.

    So both have the same features, and a readout need not learn from mirrored copies. Rules of `LocalLearning` do not
    see the layers inside: let a network learn before it is put in here.

    >>> network = MirrorMean(stacked({"conv": nn.Conv2d(1, 4, 3), "pool": nn.AdaptiveAvgPool2d(2)}))
    >>> x = torch.rand(7, 1, 8, 8)
    >>> torch.equal(network(x), network(x.flip(-1)))
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, features of all)."""
        needed = "images (batch, channels, height, width)"
        require(x.ndim == 4, f"MirrorMean needs {needed}, got {tuple(x.shape)}; only these have a mirror image.")
        return (super().forward(x) + super().forward(x.flip(-1))) / 2


def convolutions(body: nn.Sequential) -> list[str]:
    """The names of the layers of `body` that have kernels, from below."""
    return [name for name, layer in body.named_children() if has_patches(layer)]  # one that stands twice is one


@torch.no_grad()
def init_kernels_(body: nn.Sequential, rng: Generator, *, scale: float = 1.0) -> None:
    """Initialise every kernel of `body` from N(0, scale^2 / fan-in), so that its norm is about `scale`, in place."""
    for name in convolutions(body):
        weight = body.get_parameter(f"{name}.weight")
        weight.copy_(torch.empty(weight.shape).normal_(0, scale * weight[0].numel() ** -0.5, generator=rng))


@torch.no_grad()
def init_patches_(body: nn.Sequential, train: Split, rng: Generator) -> None:
    """Make every kernel of `body` a random patch of the images as its layer meets it, scaled to norm 1.

    From below, so that each layer meets what the patches below it make of the images; see `gather_statistics_` for
    layers with statistics. A patch may be chosen twice. Of 200 kernels on CIFAR-10 up to four were (five seeds).
    """
    names = list(layers_of(body))
    for name in convolutions(body):
        below, layer = body[: names.index(name)], body.get_submodule(name)
        gather_statistics_(below, train)
        weight, found = body.get_parameter(f"{name}.weight"), 0
        kernels = weight.flatten(1).clone()  # which may lie in another order in memory
        flat = 0  # times in a row that no patch was found
        while found < len(weight):
            some = train[torch.randint(len(train), (min(len(weight), 100),), generator=rng).to(train.y.device)]
            patch = sample_patches(layer, below(some.pixels()), 4 * len(some), rng)
            patch = patch[torch.randperm(len(patch), generator=rng)[: min(len(some), len(weight) - found)]]
            kernels[found : found + len(patch)] = patch / patch.norm(dim=1, keepdim=True)
            found, flat = found + len(patch), 0 if len(patch) else flat + 1
            require(flat < 100, f"kernels start at patches that are not flat, and {layer} finds none in these images.")
        weight.copy_(kernels.view(weight.shape))


@torch.no_grad()
def gather_statistics_(body: nn.Module, train: Split, *, images: int = 2000, batch: int = 100) -> None:
    """Let layers with statistics (batch normalisation) gather them from the first `images`; ends in evaluation mode.

    These are running means, so a smaller data set is seen again until as many images have gone by.
    """
    layers = [layer for layer in body.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    few = train[:images]
    body.train(bool(layers))
    for _ in range(math.ceil(images / len(few)) if layers else 0):
        for part in few.batches(min(batch, len(few))):
            body(part.x)
    body.eval()


savable(Triangle)
savable(Stack, Beside, MirrorMean, settings=())
savable(PatchNormConv2d, settings=CONVOLUTION)
