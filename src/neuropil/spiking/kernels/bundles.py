"""What the kernels take: parameters of a layer, gradients of its outputs, and how much room they may take."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from neuropil.errors import Refusal

UNKNOWN = 2**32  # bytes assumed for a machine that does not tell how much memory it has
Bundle = TypeVar("Bundle", bound=tuple[Any, ...])


class ThetaModel(NamedTuple):
    """A layer of theta neurons."""

    weight: Tensor  # (inputs, neurons)
    start: Tensor  # (2, neurons), x and y at time 0
    speed: float  # r / tau
    r: float
    t_end: float


class QIFModel(NamedTuple):
    """A layer of QIF neurons."""

    weight: Tensor  # (inputs, neurons)
    start: Tensor  # (3, 1 or batch, neurons), x, y and I at time 0
    tau: float
    t_end: float


class LIFModel(NamedTuple):
    """A layer of LIF neurons."""

    weight: Tensor  # (inputs, neurons)
    start: Tensor  # (2, 1 or batch, neurons), V and I at time 0
    tau: float
    t_end: float


class RecurrentModel(NamedTuple):
    """A recurrent network of QIF or LIF neurons."""

    weight: Tensor  # (inputs, neurons)
    recurrent: Tensor  # (neurons, neurons), rows are senders
    start: Tensor  # QIF: (3, 1 or batch, neurons), x, y and I at time 0; LIF: (2, ...), V and I
    tau: float
    t_end: float


class OutputGrads(NamedTuple):
    """Gradients of the loss with respect to what a simulation returned."""

    times: Tensor  # (batch, neurons, spikes), of the spike times
    state: Tensor  # theta: (batch, neurons), of the angle at the end; QIF, LIF: (2, batch, neurons), as in start


class InputGrads(NamedTuple):
    """What the adjoint of a layer writes on the CPU; what several trials share has one copy per thread."""

    weight: Any  # (threads, inputs, neurons)
    start: Any  # theta: (threads, neurons), of the angle at time 0; QIF (LIF): (2, batch, neurons), of angle (V) and I
    time: Any  # (batch, events)


@dataclass(frozen=True)
class Plan:
    """How a simulation runs. No field changes its result.

    Attributes:
        triton: run Triton's kernels on CPU tensors too, in Triton's interpreter.
        slots: room for the spikes of a neuron at first; it grows to what is needed. 0: what such a neuron often needs.
        events: room for the events of a recurrent trial at first, beyond its inputs; it is doubled until they fit.
        block: most neurons that one GPU program simulates.
        memory: bytes that the device has; None asks the device. Spikes may take half of them.
    """

    triton: bool = False
    slots: int = 0
    events: int = 256
    block: int = 128
    memory: int | None = None


def arrays(bundle: Bundle) -> Bundle:
    """The same bundle with a NumPy array in place of every tensor, both on the same memory."""
    make: Any = type(bundle)
    made: Bundle = make(*[part if isinstance(part, float) else part.numpy() for part in bundle])
    return made


def device_memory(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    known = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in known else UNKNOWN


def check_room(spikes: int, size: int, device: torch.device, plan: Plan) -> None:
    """Refuse `spikes` of `size` bytes each if they take more than half of the memory."""
    most, gib = (plan.memory or device_memory(device)) // 2, 2**30
    if spikes * size > most:
        needed = f"{spikes * size / gib:.3g} GiB, more than half of the memory, {most / gib:.3g}"
        cure = "take a smaller batch, an earlier end or smaller weights."
        raise Refusal(f"the spikes of this batch need {needed}; {cure}")


def no_spikes(batch: int, neurons: int, slots: int, like: Tensor, plan: Plan) -> Tensor:
    """Spike times without a spike, (batch, neurons, slots) of inf, on the device and in the dtype of `like`."""
    check_room(batch * neurons * slots, like.element_size(), like.device, plan)
    return torch.full((batch, neurons, slots), torch.inf, dtype=like.dtype, device=like.device)


def counted(end: Tensor) -> Tensor:
    """Whether theta neurons can still be told from each other by their (x, y) at the end, (2, ...); not read yet."""
    if not end.numel():
        return torch.ones((), dtype=torch.bool, device=end.device)
    least, longest = end.square().sum(0).aminmax()
    return (least > 0) & (longest < torch.inf)


def refuse_uncounted(well: object, weight: Tensor) -> None:
    """Refuse weights of theta neurons that are not `counted`."""
    if not well:
        most, kind = float(weight.abs().max()), str(weight.dtype).removeprefix("torch.")
        what = f"weights up to {most:.3g} are too large for {kind}"
        raise Refusal(f"theta neurons lost count: {what}; scale them down.")


def with_room(
    simulate: Callable[[Tensor, Tensor], Any], batch: int, neurons: int, slots: int, like: Tensor, plan: Plan,
    also: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor, int]:  # fmt: skip
    """Simulate with room for `slots` spikes of every neuron, and again with more room if that was not enough.

    Args:
        simulate: fills in spike times (batch, neurons, slots), as far as there is room, and their true numbers.
        batch, neurons, slots, like, plan: as for `no_spikes`.
        also: gives another integer that a simulation leaves. A GPU is waited for once in a simulation.

    Returns:
        times (batch, neurons, spikes), as many as the busiest neuron has; numbers (batch, neurons) int32; and what
        `also` gave, or 0.
    """
    while True:
        times = no_spikes(batch, neurons, slots, like, plan)
        numbers = torch.zeros(batch, neurons, dtype=torch.int32, device=like.device)
        simulate(times, numbers)
        most = numbers.max() if numbers.numel() else numbers.sum().int()
        needed, other = torch.stack([most, also().int()]).tolist() if also else (int(most), 0)
        if needed <= slots:
            return times[..., : max(needed, 1)], numbers, other
        slots = needed
