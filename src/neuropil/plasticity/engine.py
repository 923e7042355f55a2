"""The one engine: any law on any dense or convolutional layer, in chunks, checked, in every dtype, sparse or not."""

from collections.abc import Iterable, Iterator
from copy import copy
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.plasticity.chosen import Choices, decayed, drive_decayed, full_factor, row_changes, scaled
from neuropil.plasticity.convolved import competition_change
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import Conv, check_finite, from_rows, rows, units, weight_of
from neuropil.plasticity.job import Job, Sample, Third, check_names, start
from neuropil.plasticity.kernels.ranking import rankable
from neuropil.plasticity.kernels.rows import sparse_rows
from neuropil.plasticity.law import Chosen, Dense, Law
from neuropil.plasticity.patches import as_dense, has_patches, patches, pieces, sample_count
from neuropil.plasticity.plan import PLAN, Plan
from neuropil.plasticity.precision import full_precision
from neuropil.plasticity.processes import Processes
from neuropil.plasticity.sharing import sharing, summed

LARGEST = [torch.finfo(dtype).max ** 0.5 for dtype in (torch.float32, torch.float64)]  # of a change: rates multiply it


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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a layer where the settings of the rule belong."""
        cure = f"make the rule first: {cls.__name__}()(layer, pre, post)"
        require(
            not any(isinstance(arg, nn.Module) for arg in args), f"{cls.__name__}(layer, ...) makes no change; {cure}."
        )
        return super().__new__(cls)

    @full_precision
    def __call__(
        self, layer: nn.Module, pre: Tensor, post: Tensor | None = None, *,
        reduction: str = "mean", plan: Plan = PLAN, **third: Tensor,
    ) -> Tensor:  # fmt: skip
        r"""The change of the weight of `layer`: the mean over samples of what the law sums; each position is a sample.

        Args:
            layer: a dense layer, a convolution or a transposed convolution.
            pre: its input, (batch, \*in).
            post: its output, (batch, \*out), before any activation; computed if not given. It is computed anyhow where
                it is not the drive, and for units that are chosen where the layer may leave out patches.
            reduction: "mean", or "sum" for the law's own sum; no matter to a law that averages or normalises.
            plan: how the engine goes about it; makes no difference but for rounding.
            third: third factors of the rule by name: (batch,), or shaped like the output.

        Returns:
            what to add to the weight, shaped like it; zero for an empty batch.

        Raises:
            Refusal: shapes, dtypes or devices do not fit the layer; activity or a change is NaN or infinite.
        """
        if reduction not in ("mean", "sum"):
            raise Refusal(f"a rule needs reduction='mean' or 'sum', got {reduction!r}.")
        check_names(self, third)
        job, pre, post = start(self, layer, pre, post, plan, third)
        if post is not None and not third and hasattr(layer, "preprocess_patches") and _chooses(job, pre):
            post = None  # which would have a winner where the layer leaves out the patch
        processes = sharing(layer.get_parameter("weight"))
        mean = reduction == "mean" and not (self.average or self.normalise)
        if pre.device.type == "cpu" and pre.numel():
            keep_freed_memory()
        if processes is not None:
            change = from_rows(layer, _shared_change(job, processes, pre, post, third, mean))
        elif not pre.numel():
            return _nothing(self, weight_of(layer))
        else:
            job = job._replace(divisor=max(1, sample_count(layer, pre)) if mean else 1)
            change = from_rows(layer, _own_change(job, pre, post, third))
        most = LARGEST[change.dtype == torch.float64]
        check_finite(layer, change.values() if change.is_sparse else change, most=most)
        return change

    def own_third(self, layer: nn.Module, pre: Tensor, post: Tensor | None) -> Third:
        """The third factors that the rule takes from the activity itself where none are given; here none."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _nothing(law: Law, weight: Tensor) -> Tensor:
    """What no sample changes."""
    none = torch.zeros_like(weight)
    return none.to_sparse(1) if law.sparse else none


def _shared_change(
    job: Job, processes: Processes, pre: Tensor, post: Tensor | None, third: Third, mean: bool
) -> Tensor:
    """(units, fan-in): what the samples of all processes change. What is not linear in their sums comes after these."""
    law, plain, weight = job.law, copy(job.law), job.weight
    for name in "average", "normalise":
        object.__setattr__(plain, name, False)
    tally = torch.zeros(len(weight) if law.average else 0, dtype=torch.int64, device=weight.device)
    count = sample_count(job.layer, pre) if pre.numel() else 0
    half = weight.element_size() < 4  # whose sums may overflow
    job = job._replace(law=plain, tally=tally, divisor=max(1, count) if mean and half else 1)
    own = _own_change(job, pre, post, third) if count else _nothing(law, weight)
    own = own.float() * job.divisor if half else own
    rows, change, samples, tally = summed(processes, job.layer, weight, own, count, tally)
    if mean:
        change = change.div_(samples.clamp_min(1))
    elif law.average:
        change = change / (tally if rows is None else tally[rows]).clamp_min(1)[:, None]
    if law.normalise and change.numel():
        change = scaled(change)
    change = change.to(weight)
    return change if rows is None else sparse_rows(weight.shape, rows, change)


def _own_change(job: Job, pre: Tensor, post: Tensor | None, third: Third) -> Tensor:
    """(units, fan-in): what the samples of this process change."""
    change = competition_change(job, pre, post)
    return _change(job, _samples(job, pre, post, third)) if change is None else change


def _change(job: Job, samples: Iterable[Sample]) -> Tensor:
    """(units, fan-in): what all samples change."""
    change: Tensor | None = None
    choices: Choices | None = None
    learned = torch.zeros(len(job.weight) if job.law.average else 0, dtype=torch.int64, device=job.weight.device)
    for sample in samples:
        if job.tally is not None and len(job.tally):
            job.tally.add_(_learned(sample.said, len(job.tally)))
        if isinstance(sample.said, Dense):
            new = _dense_change(sample, sample.said)
            change = new if change is None else change + new
            learned = learned + _learned(sample.said, len(learned)) if job.law.average else learned
        elif type(job.layer) is nn.Linear:
            return row_changes(sample, sample.said)
        else:
            choices = choices or Choices(job, sample.said, sample.by_drive)
            choices.add_(sample, sample.said)
        del sample  # its memory serves the next
    if choices is not None:
        return choices.change()
    if change is None:  # no patch was left
        return torch.zeros_like(job.weight)
    if job.law.average:
        change = change / learned.clamp_min(1)[:, None]
    return scaled(change) if job.law.normalise else change


def _learned(said: Dense | Chosen, units: int) -> Tensor:
    """(units,) int64: from how many samples each unit learns."""
    if isinstance(said, Chosen):
        return said.units.flatten().bincount(minlength=units)
    return said.gain.ne(0).movedim(1, -1).flatten(0, -2).sum(0)


@full_precision
def gains(rule: Rule, layer: nn.Module, pre: Tensor, post: Tensor | None = None, **third: Tensor) -> Tensor:
    r"""The post factor g of every sample and unit, (batch, \*out); arguments and errors as of `Rule`.

    For what learns beside the weight: the change of a bias is the mean of these gains over samples, or their sum.
    """
    third = third or rule.own_third(layer, pre, post)
    check_names(rule, third)
    job, pre, post = start(rule, layer, pre, post, PLAN, third)
    sample = job.sample(pre, post, third)
    if isinstance(sample.said, Dense):
        factor, decay = sample.said.gain, sample.said.decay
        shows = [factor, decay] if isinstance(decay, Tensor) else [factor]  # the drives of those who did not win
    else:
        assert sample.said.finite is not None
        factor, shows = full_factor(sample, sample.said), [sample.said.finite]
    check_finite(layer, pre, *shows)
    return factor.view(sample.shape)


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed blocks, once for the process.

    It gives them back to the system above a threshold that slides with the largest block ever freed. A rule would then
    pay for thousands of page faults in every step (3 x the time at 784 -> 2000, batch 100). Freeing one untouched block
    of almost 32 MiB slides the threshold to its end. No effect elsewhere.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _samples(job: Job, pre: Tensor, post: Tensor | None, third: Third) -> Iterable[Sample]:
    """All samples: the patches of a convolution where that is faster, otherwise pieces of a few examples."""
    if post is not None or not isinstance(job.layer, Conv):
        return [job.sample(pre, post, third)]
    if has_patches(job.layer) and not third:
        chooses = _chooses(job, pre)
        if chooses or not _answers_fast(job.layer, pre, job.plan):
            return _patches(job, pre, chooses)
    return _pieces(job, pre, third)


def _pieces(job: Job, pre: Tensor, third: Third) -> Iterator[Sample]:
    """A few examples at a time, each with its part of the third factors."""
    done = 0
    for piece in pieces(job.layer, pre, job.plan):
        part = slice(done, done + len(piece))
        yield job.sample(piece, None, {key: value if len(value) == 1 else value[part] for key, value in third.items()})
        done += len(piece)


def _chooses(job: Job, pre: Tensor) -> bool:
    """Whether the law chooses units, as its `post` declares, or else by what it says of a silent sample."""
    declared = job.law.post.__annotations__.get("return")
    if declared in (Chosen, Dense):
        return declared is Chosen
    return isinstance(job.law.post(pre.new_zeros(1, len(job.weight))), Chosen)


def _patches(job: Job, pre: Tensor, chooses: bool) -> Iterator[Sample]:
    """The patches of a convolution, as the dense layer with the same weights sees them, a few thousand at a time."""
    dense = job._replace(layer=as_dense(job.layer))
    matrix = job.drive_weight.to(job.law.ranking_dtype or pre.dtype)
    for patch in patches(job.layer, pre, plan=job.plan):
        if chooses:
            u = rankable(patch.to(matrix.dtype), matrix, job.plan)
            u = u if job.bias is None else u + job.bias.to(u)
            yield dense.ask(patch, u, u.shape, {}, own=True)
        else:
            yield dense.sample(patch, None, {})


def _answers_fast(layer: nn.Module, pre: Tensor, plan: Plan) -> bool:
    """Whether a convolution takes less time than the product of its patches, which have to be copied out first.

    On CPUs it does not where many units look at a single channel.
    """
    narrow = pre.device.type == "cpu" and layer.in_channels == 1 and units(layer) > plan.many_units
    return type(layer) in Conv and not narrow


def _dense_change(sample: Sample, said: Dense) -> Tensor:
    """(units, fan-in): what samples change in which every unit may learn; NaN and infinity stay visible in it."""
    job, layer, weight = sample.job, sample.job.layer, sample.job.weight
    gain, divisor = said.gain.to(weight.dtype), job.divisor
    mixing = None if said.mixing is None else said.mixing.to(weight.dtype)
    first = gain.numel() < weight.numel() or weight.dtype == torch.float16  # where there is less to divide, or overflow
    if first and divisor > 1:
        gain, mixing, divisor = gain / divisor, None if mixing is None else mixing / divisor, 1
    hebbian = correlate(layer, sample.pre, gain if gain.shape == sample.shape else gain.view(sample.shape))
    change = rows(layer, hebbian)
    if sample.by_drive and sample.own and job.bias is None and gain.numel() > weight.numel():
        change = drive_decayed(change, weight, job.drive_weight)  # the shorter way to the same numbers
    elif isinstance(said.decay, Tensor) or said.decay != 0:
        change = decayed(change, (gain * said.decay).sum([axis for axis in range(gain.dim()) if axis != 1]), weight)
    if mixing is not None:
        change = change - _within_groups(layer, mixing) @ weight
    return change.div_(divisor) if divisor > 1 else change


def _within_groups(layer: nn.Module, mixing: Tensor) -> Tensor:
    """`mixing` (units, units) without what would mix units that see different channels."""
    groups, device = getattr(layer, "groups", 1), mixing.device
    group = torch.arange(len(mixing), device=device) * groups // len(mixing)
    return mixing * (group[:, None] == group)
