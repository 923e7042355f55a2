"""Rules compute in the dtype of the weight, whatever autocast would make of it."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
DEVICES = ("cpu", "cuda")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with autocast switched off inside, where it is on."""

    @wraps(function)
    def run(*args: P.args, **named: P.kwargs) -> R:
        if not any(map(torch.is_autocast_enabled, DEVICES)):
            return function(*args, **named)
        with ExitStack() as stack:
            for device in filter(torch.is_autocast_enabled, DEVICES):
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **named)

    return run
