"""Convolutions of neurons that spike at most once: contrasts as latencies, first spikes, and who wins."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil._threads import share_out
from neuropil.errors import needs_numbers, require
from neuropil.models.description import savable
from neuropil.plasticity.patches import windows
from neuropil.spiking import LatencyEncoding
from neuropil.spiking.kernels.cpu.first_spikes import first_spikes


class ContrastLatency(nn.Module):
    r"""Images to spikes, of which each tells a contrast by its latency: differences of Gaussians, on and off.

    On cells see :math:`G_{\sigma_1} - G_{\sigma_2}`, off cells the opposite, scaled to 1 at the highest contrast that
    there is. The larger a contrast the earlier its spike, see `LatencyEncoding`. Spikes are told by their age at the
    end of the presentation, in steps: the first ones have the age `steps`, and 0 is no spike.

    Args:
        low: contrasts up to this one make no spike.
        high: contrasts from this one on make spikes in the first step.
        steps: of a presentation.
        sigma: widths of the two Gaussians, pixels.
        size: side of the filters, pixels; odd.

    Raises:
        Refusal: an even size, no step, widths or contrasts that are not in order.

    Examples:
        >>> spot = torch.zeros(1, 1, 5, 5)
        >>> spot[..., 2, 2] = 1
        >>> ContrastLatency()(spot)[0, 0, 2]  # on cells of one row
        tensor([0., 2., 4., 2., 0.])
    """

    filters: Tensor

    def __init__(
        self,
        low: float = 0.05,
        high: float = 1.0,
        steps: int = 15,
        sigma: tuple[float, float] = (1.0, 2.0),
        size: int = 7,
    ):
        super().__init__()
        needs_numbers(self, low=low, high=high, steps=steps, sigma=sigma, size=size)
        fine = size % 2 == 1 and 0 < sigma[0] < sigma[1] and steps >= 1
        got = f"size={size}, sigma={sigma}, steps={steps}"
        require(fine, f"ContrastLatency needs an odd size, steps >= 1 and 0 < sigma[0] < sigma[1], got {got}.")
        self.low, self.high, self.steps, self.sigma, self.size = low, high, steps, tuple(sigma), size
        self.encode = LatencyEncoding(float(steps), low, high, steps)
        square = (torch.arange(size) - size // 2).square()
        inner, outer = (torch.exp(-(square[:, None] + square) / (2 * width**2)) for width in self.sigma)
        on = inner / inner.sum() - outer / outer.sum()
        on = on / on.clamp_min(0).sum()
        self.register_buffer("filters", torch.stack([on, -on])[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) in [0, 1] to ages, (batch, 2 channels, height, width)."""
        cure = "take split.pixels(), or bytes / 255"
        require(x.is_floating_point(), f"ContrastLatency needs images of numbers in [0, 1], got {x.dtype}; {cure}.")
        channels = x.shape[1]
        filters = self.filters.to(x).repeat(channels, 1, 1, 1)
        contrast = F.conv2d(x, filters, padding=self.size // 2, groups=channels)
        return (self.steps - self.encode(contrast).view_as(contrast)).clamp_min(0)


class FirstSpikes(NamedTuple):
    """The spike at each position of a layer, (batch, height, width): there is at most one."""

    age: Tensor  # at the end of the presentation, in steps; 0 for no spike
    unit: Tensor  # whose it is
    potential: Tensor  # of this neuron when it spiked


class FirstSpikeConv2d(nn.Conv2d):
    r"""A convolution of integrate-and-fire neurons without leak, of which one spikes at each position, and once.

    In every step the spikes of inputs add their weights to potentials. A neuron spikes at the end of the first step in
    which its potential is at `threshold` or above. It silences all others at its position. If several would spike in a
    step the one with the highest potential does.

    Spikes are told by their ages, see `ContrastLatency`, so a maximum over positions (``nn.MaxPool2d``) is the first
    spike of these. A CPU goes from spike to spike (compiled), other devices from step to step.

    Args:
        in_channels, out_channels, kernel_size, padding: as of ``nn.Conv2d``.
        threshold: above 0.
        steps: of a presentation.
        sends: "spikes", or the "potentials" at the end of the presentation, as of neurons that never spike. That is for
            the last layer, once it has learned.

    Raises:
        Refusal: a threshold that is not positive, no step, or something else to send. Ages of another shape. On the
            CPU ages that are no whole numbers from 0 to `steps`; a GPU would have to be waited for.

    Examples:
        >>> layer = FirstSpikeConv2d(1, 2, 3, threshold=1.5, steps=4)
        >>> _ = layer.weight.requires_grad_(False).copy_(torch.tensor([0.5, 0.75])[:, None, None, None])
        >>> ages = torch.tensor([[[[4.0, 0.0, 3.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]]]])
        >>> layer(ages).flatten()  # the second unit has 1.5 after two spikes, and silences the first
        tensor([0., 3.])

    Kheradpisheh et al. 2018, https://doi.org/10.1016/j.neunet.2017.12.005
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: int = 0,
        threshold: float = 10.0,
        steps: int = 15,
        sends: Literal["spikes", "potentials"] = "spikes",
    ):
        needs_numbers(self, threshold=threshold, steps=steps)
        fine = threshold > 0 and steps >= 1 and sends in ("spikes", "potentials")
        got = f"threshold={threshold}, steps={steps}, sends={sends!r}"
        need = "threshold > 0, steps >= 1, sends='spikes' or 'potentials'"
        require(fine, f"FirstSpikeConv2d needs {need}, got {got}.")
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.threshold, self.steps, self.sends = threshold, steps, sends

    def forward(self, ages: Tensor) -> Tensor:
        """Ages of spikes (batch, channels, height, width) to (batch, units, height', width'); the gradient is 0."""
        self._check(ages)
        still = 0 * ages.sum((1, 2, 3), keepdim=True)
        if self.sends == "potentials":
            potential: Tensor = self._conv_forward((ages > 0).to(ages), self.weight, None)
            return potential + still
        spikes = self._spikes(ages)
        made = ages.new_zeros(len(ages), self.out_channels, *spikes.age.shape[1:])
        return made.scatter_(1, spikes.unit[:, None], spikes.age[:, None]) + still

    def spikes(self, ages: Tensor) -> FirstSpikes:
        """The spike at each position."""
        self._check(ages)
        return self._spikes(ages)

    @torch.no_grad()
    def _spikes(self, ages: Tensor) -> FirstSpikes:
        compiled = ages.device.type == "cpu" and ages.dtype in (torch.float32, torch.float64)
        return self._from_spike_to_spike(ages) if compiled else self._from_step_to_step(ages)

    def _check(self, ages: Tensor) -> None:
        """Refuse what are no ages; the compiled loop takes them for places in its lists."""
        need = f"FirstSpikeConv2d needs ages (batch, {self.in_channels}, height, width)"
        require(ages.dim() == 4 and ages.shape[1] == self.in_channels, f"{need}, got {tuple(ages.shape)}.")
        if ages.device.type != "cpu" or not ages.numel() or torch.compiler.is_compiling():
            return
        low, high = (float(end) for end in ages.detach().aminmax())  # NaN if there is one
        whole = bool((ages == ages.floor()).all())
        got = f"{low:g} to {high:g}" if whole or low != low else "fractions"
        cure = f"encode images with ContrastLatency(steps={self.steps})"
        require(whole and low >= 0 and high <= self.steps, f"{need}, whole, 0 to {self.steps}, got {got}; {cure}.")

    def _from_step_to_step(self, ages: Tensor) -> FirstSpikes:
        sides = windows(self, ages[:1]).shape[1:3]
        age, potential = (ages.new_zeros(len(ages), *sides) for _ in range(2))
        unit = torch.zeros_like(age, dtype=torch.int64)
        for step in range(self.steps):
            v, best = self._conv_forward((ages >= self.steps - step).to(ages), self.weight, None).max(1)
            now = (v >= self.threshold) & (age == 0)
            age = torch.where(now, self.steps - step, age)
            unit, potential = torch.where(now, best, unit), torch.where(now, v, potential)
        return FirstSpikes(age, unit, potential)

    def _from_spike_to_spike(self, ages: Tensor) -> FirstSpikes:
        sides = windows(self, ages[:1]).shape[1:3]
        weight = self.weight.detach().permute(1, 2, 3, 0).contiguous().numpy()
        made = [ages.new_zeros(len(ages), *sides, dtype=dtype) for dtype in (ages.dtype, torch.int64, ages.dtype)]
        given = (
            ages.detach().contiguous().numpy(),
            weight,
            weight.dtype.type(self.threshold),
            self.padding,
            self.steps,
        )
        share_out(first_spikes, len(ages), *given, *(one.numpy() for one in made))
        return FirstSpikes(*made)

    @torch.no_grad()
    def compete(self, ages: Tensor, winners: int, radius: int) -> tuple[Tensor, Tensor]:
        """What the winners of each sample saw, and who they were.

        The neuron with the first spike wins; of several the one with the highest potential. It inhibits all neurons of
        its unit, and of all units those up to `radius` positions away. Then the next one wins.

        Args:
            ages: of the input spikes, (batch, channels, height, width).
            winners: of a sample, at most.
            radius: of inhibition, positions; 0 for the position of the winner alone.

        Returns:
            Input spikes up to that of the winner, 0 or 1, (wins, fan-in), and 1 for its unit, (wins, units).
        """
        spikes = self.spikes(ages)
        sample, y, x = winners_of(spikes, winners, radius)
        seen = windows(self, ages)[sample, y, x].flatten(1)
        won = F.one_hot(spikes.unit[sample, y, x], self.out_channels)
        return (seen >= spikes.age[sample, y, x, None]).to(ages), won.to(ages)

    def preprocess_patches(self, patch: Tensor) -> Tensor:
        """Patches of ages (n, fan-in) as parts of the presentation.

        Left out are those that would not make a neuron spike even if they were its weights, scaled to norm 1.
        """
        return patch[patch.sum(1) >= self.threshold * patch.norm(dim=1).clamp_min(1)] / self.steps


def winners_of(spikes: FirstSpikes, winners: int, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample and position of all neurons that win, see `FirstSpikeConv2d.compete`."""
    age, unit, potential = spikes
    if not age.numel():
        return (age.new_zeros(0, dtype=torch.long),) * 3
    rank = torch.where(age > 0, age + potential / (potential.amax() + 1), 0)
    _, tall, wide = rank.shape
    rows, columns, sample = (torch.arange(n, device=rank.device) for n in (tall, wide, len(rank)))
    found = []
    for _ in range(winners):
        best, index = rank.flatten(1).max(1)
        y, x = index // wide, index % wide
        found.append(torch.stack([sample, y, x, best > 0]))
        near = ((rows - y[:, None]).abs() <= radius)[:, :, None] & ((columns - x[:, None]).abs() <= radius)[:, None]
        rank = rank.masked_fill(near | (unit == unit[sample, y, x, None, None]), 0)
    places = torch.cat(found, 1)
    sample, y, x = places[:3, places[3] > 0]  # the only wait for a GPU
    return sample, y, x


savable(ContrastLatency)
savable(
    FirstSpikeConv2d, settings=("in_channels", "out_channels", "kernel_size", "padding", "threshold", "steps", "sends")
)
