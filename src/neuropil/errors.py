"""One voice for refusals: every error a user can cause says what was needed, what came, and the cure."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory", "overflow")
"""What torch says where memory ran out, or where a size cannot even be written down."""
LONGEST = (5.0, 0.05)  # a time constant of a neuron or synapse, and a step, s: beyond they were given in ms


class Refusal(ValueError):
    """A request that cannot be met; its message is one line meant for the person who asked."""


class Diverged(Refusal):
    """Learning that ran away: loss, weights or scores are NaN or infinite, or all activity is at its limits."""


class Gone(ConnectionError):
    """Another process, without which this one cannot go on, has ended."""


def require(condition: bool, message: str) -> None:
    """Refuse with `message` unless `condition` holds."""
    if not condition:
        raise Refusal(message)


def printable(text: object) -> str:
    """A text as one printable line: whatever a terminal or a file format could take for a command is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def needs(settings: object, fine: bool, what: str) -> None:
    """Refuse `settings`, an object whose `repr` tells all of them, unless they are `fine`: they need `what`."""
    require(fine, f"{type(settings).__name__} needs {what}, got {settings}.")


def unknown(kind: str, got: str, known: Iterable[str]) -> Refusal:
    """The refusal for a name that is not one of `known`, with the nearest right name."""
    names = sorted(known)
    near = [name for name in names if name.lower() == got.lower()] or get_close_matches(got, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return Refusal(f"unknown {kind} {got!r}.{hint} Known: {', '.join(names) or 'none'}.")


def optional(package: str, what: str, *, extra: str = "") -> ModuleType:
    """The module of a package that is not always installed.

    Args:
        package: or a module in it.
        what: needs it.
        extra: of neuropil, which brings it; "" where none does.

    Raises:
        Refusal: it is not there or cannot be imported; how to install it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        damage = "" if error.name == top else f", which cannot be imported ({printable(error)})"
        cure = f"'neuropil[{extra}]'" if extra else top
        raise Refusal(f"{what} needs the package {top}{damage}; install it with: pip install {cure}") from error


@contextmanager
def enough_memory() -> Iterator[None]:
    """Refuse in one line what asks for more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not any(sign in said for sign in OUT_OF_MEMORY):
            raise
        size = re.search(r"allocate (?:more than )?([\d.]+ ?\w+)", said)
        what = f"{_readable(size[1])} at once" if size else "it all"
        cure = "ask for fewer units, kernels, examples or images in a batch"
        raise Refusal(f"there is not enough memory for {what}; {cure}.") from error


def _readable(size: str) -> str:
    """A number of bytes in GiB; what has a unit already stays as it is."""
    count, _, unit = size.partition(" ")
    return f"{float(count) / 2**30:,.1f} GiB" if unit in ("", "bytes") else f"{count.rstrip('.')} {unit}"


def at_least(least: float, config: object, *names: str) -> None:
    """Refuse those settings of `config` (a number, or a tuple of some) that are below `least`, NaN, or empty."""
    for name in names:
        value = getattr(config, name)
        numbers, what = (value, "numbers") if isinstance(value, tuple) else ((value,), "a number")
        fine = bool(numbers) and all(number >= least for number in numbers)
        require(fine, f"setting {name!r} needs {what} >= {least}, got {value}.")


def device_named(name: str) -> str:
    """The device `name`, for "auto" the GPU where there is one.

    Raises:
        Refusal: torch does not know the device, this machine has not got it, or it holds no numbers.
    """
    import torch  # here, so that commands which need no tensors start at once

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    require(name != "meta", "device 'meta' holds no numbers, so nothing can learn there; take cpu or cuda.")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:  # ImportError: a device whose extension is missing
        why = str(error).splitlines()[0].partition(". ")[0].removesuffix(".")  # torch may list all it has
        cure = "take cpu, cuda where torch sees a GPU, or auto"
        raise Refusal(f"device {name!r} cannot be used ({why}); {cure}.") from error
    return name


def check_seconds(owner: object, dt: float, *, slow: tuple[str, ...] = (), **taus: float) -> None:
    """Refuse time constants and a step that no simulation in seconds has: negative, in ms, or a step above them.

    Args:
        owner: whose they are; its class is named.
        dt: length of a step, s.
        slow: names of those that may be longer than `LONGEST`.
        taus: time constants by name, s.
    """
    who = type(owner).__name__
    for name, tau in {"dt": dt, **taus}.items():
        longest = math.inf if name in slow else LONGEST[name == "dt"]
        if not 0 < tau < math.inf:
            raise Refusal(f"{who} needs {name} > 0, in s, got {name}={tau}.")
        if tau > longest:
            cure = f"if this is in ms give {name}={tau / 1000:g}"
            raise Refusal(f"{who} takes times in s and {name} up to {longest:g}, got {name}={tau}; {cure}.")
        if dt > tau:
            cure = "give both in s and a dt below every time constant"
            raise Refusal(f"{who} needs dt <= {name}, got dt={dt} and {name}={tau}; {cure}.")
