"""Spike trains and their labels: the sibling of `Split` for recordings, which are spikes and no images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from neuropil._grid import step_count, step_of
from neuropil.data.split import Split, check_labels
from neuropil.errors import Refusal, device_named, require

__all__ = ["SpikeSplit"]

LINES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
MOST_STEPS = 10_000_000  # of one example: almost three hours in steps of 1 ms


@dataclass(frozen=True, eq=False, repr=False)
class SpikeSplit:
    """Spike trains with their labels, on one device. A spike has a time and an input line; examples lie in a row.

    Attributes:
        time: of each spike, (spikes,), s, ascending in each example; float32 or float64.
        line: on which it comes, (spikes,), integers, 0 <= line < product of `shape`.
        start: where each example begins, and the end of the last, (n + 1,), int64.
        y: labels (n,), int64, 0 <= y < classes; -1 where an example has no label.
        classes: number of classes.
        shape: of the lines, such as (2, 34, 34): polarities, height, width.
        t_end: the end of every example, s; no spike is later.
        names: what the classes are called, in the order of their labels; empty if nothing is known of it.

    Raises:
        Refusal: a shape, dtype, time, line or label that is not as above.

    Examples:
        >>> times = torch.tensor([[[0.001, 0.004], [0.002, torch.inf]], [[0.003, torch.inf], [torch.inf, torch.inf]]])
        >>> split = SpikeSplit.from_times(times, torch.tensor([1, 0]), classes=2, t_end=5e-3)
        >>> split
        SpikeSplit(2 examples of (2,), 4 spikes in 0.005 s, 2 classes)
        >>> split.raster(dt=1e-3)[:, 0]
        tensor([[0., 0.],
                [1., 0.],
                [0., 1.],
                [0., 0.],
                [1., 0.]])
        >>> torch.equal(split.times(), times)
        True
    """

    time: Tensor
    line: Tensor
    start: Tensor
    y: Tensor
    classes: int
    shape: tuple[int, ...]
    t_end: float
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = len(self.names) in (0, self.classes)
        require(named, f"a split needs a name for each of its {self.classes} classes, or none, got {self.names}.")
        fits = self.start.ndim == 1 and self.start.dtype == torch.int64 and len(self.start) > 1
        require(fits, f"start needs (n + 1,) in int64 for n examples, got {tuple(self.start.shape)}.")
        check_labels(self.start[1:], self.y, self.classes)
        _check_spikes(self)

    @classmethod
    def from_times(
        cls,
        times: Tensor,
        y: Tensor,
        classes: int,
        *,
        t_end: float,
        shape: Sequence[int] = (),
        names: Sequence[str] = (),
    ) -> "SpikeSplit":
        """Spike trains from times (n, lines, spikes) or (n, lines), inf where there is no spike; see `to_raster`.

        Args:
            times: s.
            y, classes, names: as of the class.
            t_end: end of the examples, s.
            shape: of the lines; (lines,) without it.

        Raises:
            Refusal: NaN, or what the class refuses.
        """
        require(times.ndim in (2, 3), f"times need (n, lines, spikes) or (n, lines), got {tuple(times.shape)}.")
        trains = (times if times.ndim == 3 else times[..., None]).flatten(2)
        require(not bool(trains.isnan().any()), "spike times need numbers, or inf for no spike, got NaN.")
        ordered, place = trains.flatten(1).sort(dim=1, stable=True)
        given = ordered < math.inf
        start = torch.nn.functional.pad(given.sum(1).cumsum(0), (1, 0))
        lines = (place // trains.shape[2])[given].int()
        form = tuple(shape) or (trains.shape[1],)
        return cls(ordered[given], lines, start, y, classes, form, t_end, tuple(names))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        size = f"{len(self)} examples of {self.shape}, {len(self.time)} spikes in {self.t_end:g} s"
        return f"SpikeSplit({size}, {self.classes} classes)"

    def __getitem__(self, index: Any) -> "SpikeSplit":
        """The examples at `index` (an int, a slice, a mask or indices)."""
        return self.rows(torch.arange(len(self), device=self.y.device)[index].view(-1))

    def rows(self, index: Tensor) -> "SpikeSplit":
        """The examples at these indices, (k,) int64, from 0 on."""
        count = self.start.diff()[index]
        start = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(self.start[index] - start[:-1], count)
        spikes = torch.arange(len(shift), device=shift.device) + shift
        return self._with(time=self.time[spikes], line=self.line[spikes], start=start, y=self.y[index])

    def to(self, device: torch.device | str) -> "SpikeSplit":
        """The same examples on `device`; one that this machine has not got is refused."""
        place = device_named(str(device))
        return self._with(**{name: getattr(self, name).to(place) for name in ("time", "line", "start", "y")})

    def until(self, t_end: float) -> "SpikeSplit":
        """The same examples up to `t_end`, in s: later spikes are left out, silence follows the last one."""
        require(0 < t_end < math.inf, f"until needs 0 < t_end, in s, got t_end={t_end}.")
        kept = self.time <= t_end
        start = torch.nn.functional.pad(kept.cumsum(0), (1, 0))[self.start]
        return self._with(time=self.time[kept], line=self.line[kept], start=start, t_end=t_end)

    def batches(self, size: int, *, shuffle: Generator | None = None) -> Iterator["SpikeSplit"]:
        """Every example once, in order, or in the random order of `shuffle`; the last batch may be smaller."""
        require(1 <= size <= len(self), f"a batch needs 1 to {len(self)} examples, got size={size}.")
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        return (self.rows(part) for part in order.to(self.y.device).split(size))

    def steps(self, dt: float, *, binary: bool = False) -> Iterator[Tensor]:
        """The spikes of each step of `dt`, (n, *shape), made when they are asked for: what `simulate` takes.

        Step k holds the spikes from k dt to before (k + 1) dt, the last one also those at `t_end`. A time that is the
        border of two steps but for the rounding of its dtype is in the later one.

        Args:
            dt: length of a step, s.
            binary: 1 where spikes fall, however many, as rules of STDP need it; otherwise their number.

        Raises:
            Refusal: a step that is none, or longer than the examples; more steps than anyone simulates, as of times
                that are not in seconds.
        """
        require(0 < dt <= self.t_end, f"steps need 0 < dt <= t_end={self.t_end:g}, both in s, got dt={dt}.")
        count = step_count(self.t_end, dt)
        cure = "times are in seconds: divide those in us by 1e6, or cut examples with until()"
        require(count <= MOST_STEPS, f"{count} steps of {dt} s reach to t_end={self.t_end:g} s; {cure}.")
        return self._steps(dt, count, binary)

    def _steps(self, dt: float, count: int, binary: bool) -> Iterator[Tensor]:
        step, order = step_of(self.time, dt).clamp(max=count - 1).sort(stable=True)
        place = (self._example() * math.prod(self.shape) + self.line)[order]
        for spikes in place.split(torch.bincount(step, minlength=count).tolist()):
            now = torch.zeros(len(self) * math.prod(self.shape), dtype=self.time.dtype, device=self.time.device)
            if binary:
                now[spikes] = 1
            else:
                now.index_add_(0, spikes, now.new_ones(len(spikes)))
            yield now.view(len(self), *self.shape)

    def raster(self, dt: float, *, binary: bool = False) -> Tensor:
        """All `steps` at once, (time, n, *shape)."""
        return torch.stack(list(self.steps(dt, binary=binary)))

    def times(self) -> Tensor:
        """Spike times (n, lines, spikes), ascending, inf where there is none: what networks of spike times take."""
        lines = math.prod(self.shape)
        train, order = (self._example() * lines + self.line).sort(stable=True)
        count = torch.bincount(train, minlength=len(self) * lines)
        rank = torch.arange(len(train), device=train.device) - (count.cumsum(0) - count)[train]
        out = self.time.new_full((len(self) * lines, max(int(count.max()), 1)), math.inf)
        out[train, rank] = self.time[order]
        return out.view(len(self), lines, -1)

    def counts(self) -> Split:
        """How often each line spikes, (n, lines), for learners that take vectors: a baseline that knows no times."""
        lines = math.prod(self.shape)
        number = torch.bincount(self._example() * lines + self.line, minlength=len(self) * lines)
        return Split(number.view(len(self), lines).float(), self.y, self.classes, self.names)

    def _example(self) -> Tensor:
        """The example of each spike, (spikes,)."""
        return torch.repeat_interleave(self.start.diff())

    def _with(self, **parts: Any) -> "SpikeSplit":
        """A part of checked data needs no second check."""
        part = object.__new__(SpikeSplit)
        part.__dict__.update(vars(self) | parts)
        return part


def _check_spikes(split: SpikeSplit) -> None:
    """Refuse spikes whose time, line or place is none."""
    time, line, start, lines = split.time, split.line, split.start, math.prod(split.shape)
    fits = time.ndim == 1 and time.shape == line.shape and time.dtype in (torch.float32, torch.float64)
    fits = fits and line.dtype in LINES
    got = f"{tuple(time.shape)} in {time.dtype} and {tuple(line.shape)} in {line.dtype}"
    needed = "times (spikes,) in float32 or float64, and as many lines in int64, int32, int16, int8 or uint8"
    require(fits, f"spikes need {needed}, got {got}; use .float() and .long().")
    placed = bool((start.diff() >= 0).all()) and int(start[0]) == 0 and int(start[-1]) == len(time)
    require(placed, f"start needs to ascend from 0 to {len(time)}, the number of spikes, got {start.tolist()[:3]} ...")
    if not len(time):
        return
    low, high = (float(value) for value in time.aminmax())
    end = float(torch.tensor(split.t_end, dtype=time.dtype))  # as times of this dtype know it
    fine = low >= 0 and high <= end < math.inf
    require(fine, f"spikes need 0 <= time <= t_end={split.t_end:g}, in s, got {low:.6g} to {high:.6g}.")
    first, last = (int(value) for value in line.aminmax())
    require(
        first >= 0 and last < lines, f"lines need 0 <= line < {lines} for shape {split.shape}, got {first} to {last}."
    )
    falls = time.diff() < 0
    falls[start[1:-1][(start[1:-1] > 0) & (start[1:-1] < len(time))] - 1] = False
    if bool(falls.any()):
        raise Refusal("the spikes of an example need ascending times; sort them, or use SpikeSplit.from_times.")
