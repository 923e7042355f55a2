"""One n x n matrix of products of examples: summed, factorised and solved in its own place, tile by tile."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neuropil.errors import require

TILE = 4096  # examples whose products with as many others are taken at a time


@torch.no_grad()
def add_products_(kernel: Tensor, x: Tensor, mean: Tensor, scale: float) -> None:
    r"""Add :math:`c (x - \mu) (x - \mu)^\top` to the tiles on and below the diagonal of `kernel` (n, n), in place."""
    for i in range(0, len(x), TILE):
        left = x[i : i + TILE].float() - mean
        for j in range(0, i + 1, TILE):
            right = left if i == j else x[j : j + TILE].float() - mean
            kernel[i : i + TILE, j : j + TILE].addmm_(left, right.T, alpha=scale)


def mirror_(kernel: Tensor) -> Tensor:
    """`kernel` (n, n) with the tiles above its diagonal made those below it, in place."""
    for i in range(0, len(kernel), TILE):
        for j in range(0, i, TILE):
            kernel[j : j + TILE, i : i + TILE] = kernel[i : i + TILE, j : j + TILE].T
    return kernel


@contextmanager
def rounded_products(precision: str) -> Iterator[None]:
    """Inside, products of float32 may be those of bfloat16 numbers, summed in float32, if `precision` says so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
def solved_in_place(kernel: Tensor, wanted: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    r"""Weights a (n, classes) and intercepts b of ridge regression: (kernel + penalty) a = wanted - b, sum of a = 0.

    The Cholesky factor stands in the tiles on and below the diagonal while it is needed. Then they are made those above
    it again. So no second matrix is needed.

    Args:
        kernel: (n, n), symmetric, with no negative eigenvalue.
        wanted: (n, classes).
        penalty: above 0.

    Raises:
        Refusal: the penalty is so small that there is no factor.
    """
    starts = range(0, len(kernel), TILE)
    own = [kernel[j : j + TILE, j : j + TILE].clone() for j in starts]
    try:
        _factor_(kernel, penalty)
        both = _substituted_(kernel, torch.cat([wanted, torch.ones_like(wanted[:, :1])], dim=1))
    finally:
        for j, tile in zip(starts, own):
            kernel[j : j + TILE, j : j + TILE] = tile
            kernel[j + TILE :, j : j + TILE] = kernel[j : j + TILE, j + TILE :].T
    answer, ones = both[:, :-1], both[:, -1:]
    intercept = answer.sum(0) / ones.sum()
    return answer - ones * intercept, intercept


def _factor_(kernel: Tensor, penalty: float) -> None:
    """The Cholesky factor of `kernel` + `penalty` in place of its tiles on and below the diagonal."""
    for j in range(0, len(kernel), TILE):
        end = j + TILE
        tile, below = kernel[j:end, j:end], kernel[end:, j:end]
        tile.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(tile)
        alike = "features are so alike that their products cannot be inverted; take a larger one of its strengths"
        require(not bool(failed), f"ridge regression with a penalty of {penalty:g}: {alike}.")
        tile.copy_(factor)
        below.copy_(torch.linalg.solve_triangular(factor, below.T, upper=False).T)
        for i in range(end, len(kernel), TILE):
            kernel[i : i + TILE, end : i + TILE].addmm_(
                kernel[i : i + TILE, j:end], kernel[end : i + TILE, j:end].T, alpha=-1
            )


def _substituted_(factor: Tensor, x: Tensor) -> Tensor:
    """The solution for `x` (n, c) by a factor in the lower tiles, in its place."""
    starts = range(0, len(factor), TILE)
    for j in starts:
        part, below = x[j : j + TILE], factor[j + TILE :, j : j + TILE]
        part.copy_(torch.linalg.solve_triangular(factor[j : j + TILE, j : j + TILE], part, upper=False))
        x[j + TILE :].addmm_(below, part, alpha=-1)
    for j in reversed(starts):
        part, below = x[j : j + TILE], factor[j + TILE :, j : j + TILE]
        part.addmm_(below.T, x[j + TILE :], alpha=-1)
        part.copy_(torch.linalg.solve_triangular(factor[j : j + TILE, j : j + TILE].T, part, upper=True))
    return x
