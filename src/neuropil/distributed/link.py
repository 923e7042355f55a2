"""Batches on their way from one process to the next, sent while both of them work."""

import json
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from neuropil.plasticity.processes import answers

AHEAD = 2  # batches that may wait for the process above; more would only take memory
END = -1  # rows of the batch that does not come
OPENING = 1024  # bytes of the message that says what batches are like


class Batch(NamedTuple):
    """Examples, their labels, and how many rows the batch after them has, or `END`."""

    x: Tensor
    label: Tensor | None
    later: int


class Link:
    """What goes from this process to `peer`, or comes from it, in one pass.

    Every batch says how many rows the next one has. So its memory is ready before it comes, and it arrives while this
    process computes.

    Attributes:
        peer: the other process, by its rank in `group`.
        group: of ``torch.distributed``.
        sent: bytes of activity and labels.
        waited: how long this process waited for the other, s.
    """

    def __init__(self, peer: int, group: Any):
        self.peer, self.group, self.sent, self.waited = peer, group, 0, 0.0
        self._forms: list[Any] | None = None
        self._flying: deque[tuple[list[Any], list[Tensor]]] = deque()
        nccl = dist.get_backend(group) == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

    @answers()
    def open(self, forms: list[Any] | None) -> None:
        """Say what batches are like: the forms of examples and labels, rows of the first; None where there is none."""
        self._forms = forms
        text = bytearray(json.dumps(forms).encode().ljust(OPENING))
        dist.send(torch.frombuffer(text, dtype=torch.uint8).to(self._device), group=self.group, group_dst=self.peer)

    @answers()
    def send(self, batch: Batch) -> None:
        """Let a batch go."""
        if self._forms is None:
            self.open([*(None if one is None else _form(one) for one in batch[:2]), len(batch.x)])
        both = zip(batch[:2], self._forms or [])
        parts = [one.permute(form[2]).contiguous() for one, form in both if one is not None and len(one)]
        self.sent += sum(one.numel() * one.element_size() for one in parts)
        parts.append(torch.tensor([batch.later], device=self._device))
        works = [dist.isend(one, group=self.group, group_dst=self.peer) for one in parts]
        self._flying.append((works, parts))
        self._land(AHEAD)

    @answers()
    def close(self) -> None:
        """Wait until all that was sent has been taken; where nothing was, say so."""
        if self._forms is None:
            self.open(None)
        self._land(0)

    def arriving(self) -> Iterator[Batch]:
        """The batches that the other process sends."""
        forms = self._opened()
        rows = forms.pop() if forms else END
        coming = self._expect(forms, rows)
        while rows != END:
            x, label, later = self._arrived(coming)
            rows = int(later)
            coming = self._expect(forms, rows)
            yield Batch(x, label, rows)

    @answers()
    def _opened(self) -> list[Any]:
        """What `open` said."""
        text = torch.empty(OPENING, dtype=torch.uint8, device=self._device)
        start = perf_counter()
        dist.recv(text, group=self.group, group_src=self.peer)
        self.waited += perf_counter() - start
        return json.loads(bytes(text.tolist())) or []

    @answers()
    def _expect(self, forms: list[Any], rows: int) -> tuple[list[Any], list[Any]]:
        """What is on its way for a batch of so many rows, and where it will be: examples, labels, rows of the next."""
        if rows == END:
            return [], []
        places = [None if form is None else _empty(form, rows, self._device) for form in forms]
        places.append(torch.empty(1, dtype=torch.int64, device=self._device))
        works = []
        for form, one in zip([*forms, [0, 0, [0]]], places):
            if one is not None and len(one):
                works.append(dist.irecv(one.permute(form[2]), group=self.group, group_src=self.peer))
        return works, places

    @answers()
    def _arrived(self, coming: tuple[list[Any], list[Any]]) -> list[Any]:
        """Examples, labels and rows of the next batch, once they are there."""
        start = perf_counter()
        for work in coming[0]:
            work.wait()
        self.waited += perf_counter() - start
        return coming[1]

    def _land(self, most: int) -> None:
        """Wait until no more than `most` batches are on their way."""
        start = perf_counter()
        while len(self._flying) > most:
            for work in self._flying.popleft()[0]:
                work.wait()
        self.waited += perf_counter() - start


def _form(x: Tensor) -> list[Any]:
    """Its dtype, the shape of a row, and its axes in the order in which they lie in memory."""
    hops = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: -hops[axis])
    return [str(x.dtype).removeprefix("torch."), list(x.shape[1:]), order]


def _empty(form: list[Any], rows: int, device: torch.device) -> Tensor:
    """A tensor of that form that has so many rows; permuted by ``form[2]`` it is contiguous."""
    dtype, rest, order = form
    shape = [rows, *rest]
    place = torch.empty([shape[axis] for axis in order], dtype=getattr(torch, dtype), device=device)
    return place.permute([order.index(axis) for axis in range(len(shape))])
