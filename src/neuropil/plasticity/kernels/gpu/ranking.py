"""Who wins, on a GPU: the first and the k-th of the units of every sample, without a sort."""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # drives that one program ranks, if a sample has no more


def first_and_kth(drive: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What `kernels.ranking.first_and_kth` gives, for drives (samples, units, *positions) of one sample at least."""
    (samples, units), places = drive.shape[:2], drive.shape[2:]
    drive = drive.flatten(2) if places else drive[:, :, None]
    inner = drive.shape[2]
    count, wide = samples * inner, int(triton.next_power_of_2(units))
    tall = max(1, min(TILE // wide, int(triton.next_power_of_2(count))))
    chosen = torch.empty(2, count, dtype=torch.int64, device=drive.device)
    finite = torch.empty(count, dtype=torch.float32, device=drive.device)
    rank_drives[(triton.cdiv(count, tall),)](
        drive, chosen, finite, count, inner, units, *drive.stride(), K=k, TALL=tall, WIDE=wide,
        num_warps=max(4, min(32, tall * wide // 1024)),
    )  # fmt: skip
    return chosen.view(2, samples, *places).movedim(0, 1), finite


@triton.jit
def first_and_kth_of(drive, unit, here, K: tl.constexpr, LAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """The places of the largest and of the k-th largest entry of every row of `drive`, the lower of equals first.

    A row is searched k times for what is largest below what was found, which is three operations per entry. Only where
    this shows that entries of a row `here` are equal, they are found and left out one by one.
    """
    nothing = -float("inf")
    low = tl.max(drive, 1)
    first = tl.min(tl.where(drive == low[:, None], unit[None, :], LAST), 1)
    kth = first
    if K > 1:
        for _ in range(K - 1):
            low = tl.max(tl.where(drive < low[:, None], drive, nothing), 1)
        kth = tl.min(tl.where(drive == low[:, None], unit[None, :], LAST), 1)
        above = tl.sum((drive >= low[:, None]).to(tl.int32), 1)
        if tl.max(tl.where(here, above, 0), 0) > K:
            left = drive
            for _ in range(K):
                low = tl.max(left, 1)
                kth = tl.min(tl.where(left == low[:, None], unit[None, :], LAST), 1)
                left = tl.where(unit[None, :] == kth[:, None], nothing, left)
    return first, kth


@triton.jit
def rank_drives(  # type: ignore[no-untyped-def]
    drive, chosen, finite, count, inner, units, by_sample, by_unit, by_place,
    K: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Ranks of TALL samples; `finite` gets 0, or NaN where a drive is not finite."""
    sample, unit = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL), tl.arange(0, WIDE)
    here, real = sample < count, unit < units
    row = sample // inner * by_sample + sample % inner * by_place
    at = drive + row[:, None] + unit.to(tl.int64)[None, :] * by_unit
    u = tl.load(at, mask=here[:, None] & real[None, :], other=0.0)
    u = u if u.dtype == tl.float64 else u.to(tl.float32)
    tl.store(finite + sample, tl.sum(u - u, 1).to(tl.float32), mask=here)
    first, kth = first_and_kth_of(tl.where(real[None, :], u, -float("inf")), unit, here, K, units - 1)
    tl.store(chosen + sample, first, mask=here)
    tl.store(chosen + count + sample, kth, mask=here)
