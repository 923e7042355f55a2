"""Competitions on a convolution of a GPU, by kernels that gather patches themselves: memory is flat, nothing waits."""

from typing import Any

import torch
from torch import Tensor

from neuropil.plasticity.chosen import finish
from neuropil.plasticity.geometry import Conv
from neuropil.plasticity.job import Job
from neuropil.plasticity.kernels.dispatch import on_gpu
from neuropil.plasticity.kernels.ranking import WIDEST
from neuropil.plasticity.law import Ranks, Softmax, closed_form
from neuropil.plasticity.patches import PatchNorm, pieces, windows

LARGEST = 1 << 31  # offsets are 32 bits wide


def competition_change(job: Job, pre: Tensor, post: Tensor | None) -> Tensor | None:
    """The change of a convolution by a law with a closed form; None where other ways are to be taken.

    Args:
        job: the law on the layer.
        pre: its input, (batch, channels, *positions).
        post: its output where that is the drive and given.
    """
    gpu = on_gpu("competition", pre, job.plan) if isinstance(job.layer, Conv) else None
    if gpu is None:
        return None
    law: Ranks | Softmax | None = closed_form(job.law, "post", "competition")
    norm: PatchNorm | None = closed_form(job.layer, "preprocess_patches", "patch_norm")
    plain = type(job.layer) in Conv
    if law is None or not (plain or norm):
        return None
    places = windows(job.layer, pre[:1]).shape[1 : pre.dim() - 1]
    inside = max(pre.numel(), len(pre) * places.numel() * 2) < LARGEST
    groups, units, fan_in = job.layer.groups, *job.weight.shape
    fits = inside and post is None and groups == 1 and fan_in <= job.plan.fused_inputs
    seen = gpu.images(job.layer, pre, places, norm and norm.flat)
    if isinstance(law, Softmax):
        return _soft_change(job, on_gpu("soft", pre, job.plan), seen, law, norm) if fits else None
    if law.k > job.plan.most_ranks or not inside or units > WIDEST:
        return None
    if fits and units * pre.element_size() <= 4 * job.plan.fused_units:
        matrix = _through(job.drive_weight, norm).to(job.law.ranking_dtype or pre.dtype)
        chosen, about, finite = gpu.rank_patches(seen, matrix, job.bias, law.k, job.plan.tf32)
    elif plain:
        chosen, about, finite = _ranked(job, gpu, pre, post, law.k, seen.total)
    else:
        return None
    left = law.decay if law.decay is not None else 0.0 if job.bias is None else job.bias
    tally = job.tally if job.tally is not None and len(job.tally) else None
    counted = job.law.average or tally is not None or isinstance(left, Tensor) or left != 0
    sums, counts = gpu.sum_chosen(seen, chosen, about, law.gains, units, groups, counted)
    if tally is not None:
        tally.add_(counts.sum(0))
    hebbian = _back(sums + finite.sum(), norm).to(job.weight.dtype)
    gains = sum(gain * count for gain, count in zip(law.gains, counts.double()))
    assert isinstance(gains, Tensor)
    return finish(job, law.decay is None, left, hebbian, gains, counts.sum(0))


def _ranked(job: Job, gpu: Any, pre: Tensor, post: Tensor | None, k: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks of drives that the layer makes, or has made, of a few examples at a time; as `rank_patches` gives them."""
    kind = torch.promote_types(pre.dtype, torch.float32)
    chosen = torch.empty(min(k, 2), count, dtype=torch.int32, device=pre.device)
    finite, done = torch.zeros((), dtype=kind, device=pre.device), 0
    for drive in [post] if post is not None else map(job.drive, pieces(job.layer, pre, job.plan)):
        ranks, shown = gpu.first_and_kth(drive, k)
        part = ranks[:, : len(chosen)].movedim(1, 0).flatten(1)
        chosen[:, done : done + part.shape[1]] = part
        finite, done = finite + shown.sum(), done + part.shape[1]
    return chosen, finite.new_empty(2, 0), finite


def _soft_change(job: Job, gpu: Any, seen: Any, law: Softmax, norm: PatchNorm | None) -> Tensor:
    """The change where all units share every patch by a softmax."""
    matrix = _through(job.drive_weight, norm)
    found = gpu.soften_patches(seen, matrix, job.bias, law.tau)
    sums, gained = gpu.sum_soft(seen, matrix, job.bias, law.tau, law.anti, *found)
    hebbian = _back(sums, norm).to(job.weight.dtype)
    return finish(job, True, 0.0 if job.bias is None else job.bias, hebbian, gained, gained)


def _through(matrix: Tensor, norm: PatchNorm | None) -> Tensor:
    """Weights that answer to a patch as `matrix` does to a whitened one."""
    return matrix if norm is None or norm.whitening is None else matrix @ norm.whitening.T


def _back(sums: Tensor, norm: PatchNorm | None) -> Tensor:
    """Sums of whitened patches, from those of patches."""
    return sums if norm is None or norm.whitening is None else sums @ norm.whitening.to(sums)
