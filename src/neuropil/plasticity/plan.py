"""Sizes at which the engine changes its route or cuts work in pieces: numbers of speed and memory, not of learning."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How the engine goes about a change. Every plan gives the same change up to rounding.

    Attributes:
        patch_entries: drives, or entries of patches, at a time; they stay in the cache, and memory flat in the batch.
        outputs: outputs of a convolution at a time; a GPU gets four times as many.
        many_units: units on one input channel above which a CPU multiplies patches rather than convolves.
        long_row: units from which a sample is ranked on its own; samples with fewer units are ranked side by side.
        large_product: multiply-adds from which oneDNN multiplies faster than torch's BLAS.
        patches_per_thread: entries of patches that are worth a thread of their own.
        drives_per_thread: drives to rank that are worth a thread.
        changes_per_thread: entries of a change that are worth a thread.
        compiled: whether the CPU may use compiled code where there is some; torch operations otherwise.
        triton: whether competitive rules use Triton's kernels; None where a GPU has them. On the CPU they need
            Triton's interpreter (TRITON_INTERPRET=1).
        most_ranks: the largest k that they search for; a top-k is faster beyond.
        fused_units: units of a convolution up to which a kernel multiplies patches itself and ranks the product.
        fused_inputs: entries of a patch up to which it does.
        tf32: whether that product has factors of tf32 where it only ranks; faster on tensor cores.

    Examples:
        >>> from neuropil.plasticity import Plan
        >>> Plan(compiled=False).compiled
        False
    """

    patch_entries: int = 1 << 21
    outputs: int = 1 << 20
    many_units: int = 128
    long_row: int = 1024
    large_product: int = 1 << 20
    patches_per_thread: int = 1 << 17
    drives_per_thread: int = 1 << 18
    changes_per_thread: int = 1 << 19
    compiled: bool = True
    triton: bool | None = None
    most_ranks: int = 64
    fused_units: int = 1024
    fused_inputs: int = 256
    tf32: bool = False


PLAN = Plan()
IN_USE: ContextVar[Plan] = ContextVar("plan", default=PLAN)  # while a law says who learns
