"""What a competition does to the rows of a dense layer on a GPU: one program adds up what one unit has won."""

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS, ENTRIES, CHOICES = 2048, 4096, 512  # inputs at a time; these times samples; choices that are looked at


def row_change(
    pre: Tensor, chosen: Tensor, gains: tuple[float, ...], weight: Tensor, drive_weight: Tensor | None,
    decay: float, bias: Tensor | None, finite: Tensor, divisor: int, average: bool,
) -> Tensor:  # fmt: skip
    """The change of a weight (units, in) by the samples `pre` (n, in) that each unit was chosen by.

    Args:
        pre, chosen, gains, weight: as for `kernels.rows.row_change`, with one or two gains.
        drive_weight: weights of the drive, (units, in), where the decay is by the drive; otherwise None.
        decay: what it is otherwise.
        bias: of the drive, (units,), or None.
        finite: a number; if it is NaN or infinite, so is the change, and if a sample chose a unit that is not there.
        divisor: of every row.
        average: whether to divide each row by the number of samples that chose it instead.
    """
    (units, inputs), pre, weight = weight.shape, pre.contiguous(), weight.contiguous()
    drive = weight if drive_weight is None else drive_weight.contiguous()
    out = torch.empty(weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
    wide = min(COLUMNS, int(triton.next_power_of_2(inputs)))
    change_rows[(units,)](
        pre, chosen, weight, drive, weight if bias is None else bias, finite, out, len(pre), units, inputs,
        divisor, float(gains[0]), float(gains[-1]), decay,
        RANKS=len(gains), DRIVEN=drive_weight is not None, BIASED=bias is not None, AVERAGE=average,
        BLOCKS=triton.cdiv(inputs, wide), WIDE=wide, TALL=max(1, min(16, ENTRIES // wide)), LOOK=CHOICES, num_warps=4,
    )  # fmt: skip
    return out.to(weight.dtype)


@triton.jit
def sum_of_chosen(  # type: ignore[no-untyped-def]
    pre, chosen, unit, samples, units, inputs, column, gain, total, lost, TALL: tl.constexpr, LOOK: tl.constexpr
):  # fmt: skip
    """`total` and the inputs `column` of all samples that chose `unit`, times gain; and how many samples these are.

    Of LOOK choices at a time the hits are numbered. TALL of them are then fetched together. `lost` becomes NaN where
    there is no such unit.
    """
    count = 0
    lane, turn = tl.arange(0, LOOK), tl.arange(0, TALL)
    for start in range(0, samples, LOOK):
        choice = tl.load(chosen + start + lane, mask=start + lane < samples, other=unit)
        lost = tl.where((tl.min(choice, 0) < 0) | (tl.max(choice, 0) >= units), float("nan"), lost)
        hit = (choice == unit) & (start + lane < samples)
        found = tl.sum(hit.to(tl.int32), 0)
        if found > 0:
            number = tl.where(hit, tl.cumsum(hit.to(tl.int32), 0), 0)
            for done in range(0, found, TALL):
                mine = number[None, :] == (done + turn + 1)[:, None]
                sample = (start + tl.sum(tl.where(mine, lane[None, :], 0), 1)).to(tl.int64)
                here = (done + turn < found)[:, None] & (column < inputs)[None, :]
                x = tl.load(pre + sample[:, None] * inputs + column[None, :], mask=here, other=0.0)
                total += gain * tl.sum(x.to(total.dtype), 0)
            count += found
    return total, lost, count


@triton.jit
def change_rows(  # type: ignore[no-untyped-def]
    pre, chosen, weight, drive_weight, bias, finite, out, samples, units, inputs, divisor,
    first_gain: tl.float64, last_gain: tl.float64, decay: tl.float64,
    RANKS: tl.constexpr, DRIVEN: tl.constexpr, BIASED: tl.constexpr, AVERAGE: tl.constexpr,
    BLOCKS: tl.constexpr, WIDE: tl.constexpr, TALL: tl.constexpr, LOOK: tl.constexpr,
):  # fmt: skip
    """The change of one row: first the sums of what chose it, whose product with the drive weights is the decay."""
    unit = tl.program_id(0)
    row, lane = unit.to(tl.int64) * inputs, tl.arange(0, WIDE)
    KIND: tl.constexpr = tl.float64 if pre.dtype.element_ty == tl.float64 else tl.float32
    first, last, rest = tl.full([1], first_gain, KIND), tl.full([1], last_gain, KIND), tl.full([1], decay, KIND)
    f = tl.load(finite)
    lost = (f - f).to(KIND) + tl.zeros([1], KIND)
    total, won, came = tl.zeros([WIDE], KIND), 0, 0
    for block in range(BLOCKS):
        column = block * WIDE + lane
        total, lost, won = sum_of_chosen(
            pre, chosen, unit, samples, units, inputs, column, first, tl.zeros([WIDE], KIND), lost, TALL, LOOK
        )
        if RANKS == 2:
            total, lost, came = sum_of_chosen(
                pre, chosen + samples, unit, samples, units, inputs, column, last, total, lost, TALL, LOOK
            )
        if DRIVEN:
            drive = tl.load(drive_weight + row + column, mask=column < inputs, other=0.0).to(KIND)
            lost += tl.sum(drive * total, 0)
        if BLOCKS > 1:
            tl.store(out + row + column, total, mask=column < inputs)
    gained = first * won + last * came
    if BIASED:
        rest += tl.load(bias + unit).to(KIND)
    lost += gained * rest
    share = tl.maximum(won + came, 1) if AVERAGE else divisor
    for block in range(BLOCKS):
        column = block * WIDE + lane
        if BLOCKS > 1:
            total = tl.load(out + row + column, mask=column < inputs, other=0.0)
        old = tl.load(weight + row + column, mask=column < inputs, other=0.0).to(KIND)
        tl.store(out + row + column, (total - lost * old) / share, mask=column < inputs)
