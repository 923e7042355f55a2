"""Changes by units that samples chose: only rows that were chosen change, and a decay by the drive needs no drives."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.errors import Refusal
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import check_finite, rows
from neuropil.plasticity.job import Job, Sample
from neuropil.plasticity.kernels.dispatch import on_gpu
from neuropil.plasticity.kernels.rows import add_chosen_, compilable, row_change, sparse_rows
from neuropil.plasticity.law import Chosen


def row_changes(sample: Sample, said: Chosen) -> Tensor:
    """The change of a dense layer, through the rows that some sample chose."""
    job, law, weight, pre = sample.job, sample.job.law, sample.job.weight, sample.pre.flatten(0, -2)
    gpu = on_gpu("rows", pre, job.plan)
    if gpu and not law.sparse and len(said.gains) <= 2:
        gained = (0.0, said.decay) if isinstance(said.decay, Tensor) else (float(said.decay), None)
        drive_weight, finite = job.drive_weight if sample.by_drive else None, said.finite
        shown = (pre, _by_rank(said, job), said.gains, weight, drive_weight, *gained, finite, job.divisor, law.average)
        return scaled(gpu.row_change(*shown)) if law.normalise else gpu.row_change(*shown)
    assert said.finite is not None
    check_finite(job.layer, said.finite)
    chosen = _by_rank(said, job)
    if sample.by_drive and job.bias is None and job.plan.compiled and compilable(pre, weight):
        return row_change(pre, chosen, said.gains, weight, job.drive_weight, law, job.divisor, job.plan)
    touched, hebbian, counts = sum_by_unit(pre, chosen, said.gains)
    gains = gain_by_unit(chosen, said.gains, len(weight))[touched] if _needs_gains(said) else counts * said.gains[0]
    change = finish(job, sample.by_drive, said.decay, hebbian, gains, counts, touched)
    if law.sparse:
        return sparse_rows(weight.shape, touched, change)
    return torch.zeros_like(weight).index_copy_(0, touched, change)


class Choices:
    """What samples have chosen so far, on a layer that sees them a few at a time.

    Args:
        job: the law on the layer.
        said, by_drive: of a first sample; ranks and decay are those of all.
    """

    def __init__(self, job: Job, said: Chosen, by_drive: bool):
        weight, self.said, self.by_drive = job.weight, said, by_drive
        self.job, self.compiled = job, job.plan.compiled and compilable(weight, weight)
        exact = torch.float64 if self.compiled else weight.dtype  # a unit may win a million patches
        self.hebbian = torch.zeros_like(weight, dtype=exact, memory_format=torch.contiguous_format)
        self.counts = weight.new_zeros(len(weight), dtype=torch.int64)
        self.gains = weight.new_zeros(len(weight), dtype=torch.float64)
        self.finite = torch.zeros((), device=weight.device)

    def add_(self, sample: Sample, said: Chosen) -> None:
        """Take in some samples."""
        layer, pre = sample.job.layer, sample.pre
        assert said.finite is not None
        self.finite = self.finite + said.finite
        chosen = _by_rank(said, self.job)
        if _needs_gains(said):
            self.gains += gain_by_unit(chosen, said.gains, len(self.counts))
        if type(layer) is not nn.Linear:
            self.hebbian += rows(layer, correlate(layer, pre, full_factor(sample, said).view(sample.shape)))
            self.counts += chosen.bincount(minlength=len(self.counts))
        elif self.compiled:
            add_chosen_(self.hebbian, self.counts, pre, chosen, said.gains, self.job.plan)
        else:
            touched, sums, times = sum_by_unit(pre, chosen, said.gains)
            self.hebbian.index_add_(0, touched, sums)
            self.counts.index_add_(0, touched, times)

    def change(self) -> Tensor:
        """The change of all rows, (units, fan-in)."""
        check_finite(self.job.layer, self.finite)
        hebbian = self.hebbian.to(self.job.weight.dtype)
        gains = self.gains if _needs_gains(self.said) else self.counts * self.said.gains[0]
        return finish(self.job, self.by_drive, self.said.decay, hebbian, gains, self.counts)


def sum_by_unit(pre: Tensor, chosen: Tensor, gains: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The units that samples chose; for each the sum of those samples, weighted by gain; and how often it was chosen.

    Args:
        pre: samples, (n, in).
        chosen: units, (ranks n,): the choice of every sample at the first rank, then at the second, and so on.
        gains: weight of each rank, of length ranks.
    """
    ordered, order = chosen.sort()
    touched, counts = ordered.unique_consecutive(return_counts=True)
    weights = pre.new_tensor(gains)[order // len(pre)]
    sums = F.embedding_bag(order % len(pre), pre, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
    return touched, sums, counts


def gain_by_unit(chosen: Tensor, gains: tuple[float, ...], units: int) -> Tensor:
    """(units,) float64: the gains with which every unit was chosen, added up; `chosen` and `gains` as above."""
    ranked = chosen.chunk(len(gains))
    return torch.stack([gain * who.bincount(minlength=units).double() for gain, who in zip(gains, ranked)]).sum(0)


def drive_decayed(hebbian: Tensor, weight: Tensor, drive_weight: Tensor) -> Tensor:
    r"""The hebbian term :math:`\sum_b g_b x_b` minus the decay term :math:`(\sum_b g_b u_b) W`, row by row.

    No drive is needed: the sum is the inner product of the drive weights with the hebbian term. All (units, fan-in).
    """
    return decayed(hebbian, torch.linalg.vecdot(drive_weight, hebbian), weight)


def decayed(hebbian: Tensor, lost: Tensor, weight: Tensor) -> Tensor:
    """`hebbian` minus `lost` (units,) times `weight`; both others are (units, fan-in)."""
    return torch.addcmul(hebbian, lost[:, None], weight, value=-1)


def scaled(change: Tensor) -> Tensor:
    """`change` divided by its largest absolute entry; a change of zero stays zero."""
    largest = change.abs().amax()
    return change / torch.where(largest > 0, largest, 1)


def finish(
    job: Job, by_drive: bool, left: Tensor | float, hebbian: Tensor, gains: Tensor, counts: Tensor,
    touched: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The change of the rows `touched`, or of all if None, where chosen samples add up to `hebbian`.

    Args:
        job: the law on the layer.
        by_drive: whether the decay is by the drive.
        left: what it is otherwise, or besides: the bias.
        hebbian: (rows, fan-in), with gains.
        gains: of each row, added up.
        counts: how many samples chose each row.
        touched: the rows.
    """
    change, weight = hebbian, job.weight if touched is None else job.weight[touched]
    if by_drive:
        change = drive_decayed(hebbian, weight, job.drive_weight if touched is None else job.drive_weight[touched])
        left = left if touched is None or isinstance(left, float) else left[touched]
    if isinstance(left, Tensor) or left != 0:
        change = decayed(change, gains.to(hebbian) * left, weight)
    if job.law.average:
        change = change / counts.clamp_min(1)[:, None]
    elif job.divisor > 1:
        change = change / job.divisor
    return scaled(change) if job.law.normalise else change


def _needs_gains(said: Chosen) -> bool:
    """Whether the decay of a unit depends on the sum of gains of several ranks."""
    return len(said.gains) > 1 and (isinstance(said.decay, Tensor) or said.decay != 0)


def _by_rank(said: Chosen, job: Job) -> Tensor:
    """(ranks n,) the choices of all samples at the first rank, then at the second, and so on."""
    chosen, units = said.units.movedim(1, 0).flatten(), len(job.weight)
    if chosen.device.type == "cpu" and len(chosen):  # compiled loops trust them; a GPU checks by itself
        low, high = (int(value) for value in chosen.aminmax())
        if low < 0 or high >= units:
            got = f"{low} to {high}; they are indices along axis 1 of the drive"
            raise Refusal(f"{type(job.law).__name__} needs to choose units from 0 to {units - 1}, got {got}.")
    return chosen


def full_factor(sample: Sample, said: Chosen) -> Tensor:
    """The post factor with all its zeros, shaped like the drives."""
    samples, _, *places = said.units.shape
    gains = sample.pre.new_tensor(said.gains).view(-1, *[1] * len(places))
    factor = sample.pre.new_zeros(samples, len(sample.job.weight), *places)
    return factor.scatter_add_(1, said.units, gains.expand_as(said.units))
