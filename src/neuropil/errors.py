"""One voice for refusals: every error a user can cause says what was needed, what came, and the cure."""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Rational, Real
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin

OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory", "overflow")
"""What torch says where memory ran out, or where a size cannot even be written down."""
TOO_LONG = 1.0  # a time constant of a neuron or synapse from here on, s, was given in ms
LONGEST_STEP = 0.05  # s


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


def needs_numbers(settings: object, **given: object) -> None:
    """Refuse `settings` that are not the numbers they have to be: a text, NaN, a fraction for a whole number.

    Args:
        settings: whose they are; what each has to be is read from the annotations of its ``__init__``.
        given: the settings by name; without any, the attributes are looked at.
    """
    values = given or vars(settings)
    for name, kind in type(settings).__init__.__annotations__.items():
        what = _number(kind)
        if what and name in values and not _fits(kind, values[name]):
            raise Refusal(f"{type(settings).__name__} needs {what} as {name}, got {values[name]!r}.")


def _number(kind: Any) -> str:
    """What numbers an annotation asks for; "" for one that is about something else."""
    if kind in (int, float):
        return "a number" if kind is float else "a whole number"
    inner = [what for what in map(_number, get_args(kind)) if what]
    if not inner or get_origin(kind) not in (tuple, Mapping, Union, UnionType):
        return ""
    return inner[0] if get_origin(kind) in (Union, UnionType) else f"{inner[0].removeprefix('a ')}s"


def _fits(kind: Any, value: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (int, float):
        whole = isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63
        real = isinstance(value, Real) and not isinstance(value, Rational)  # as of Python or numpy, no fraction
        return whole or (kind is float and real and bool(value == value))
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(inner[0], part) for part in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(inner[1], part) for part in value.values())
    return isinstance(value, origin or kind)


def unknown(kind: str, got: str, known: Iterable[str]) -> Refusal:
    """The refusal for a name that is not one of `known`, with the nearest right name."""
    names = sorted(known)
    near = [name for name in names if name.lower() == got.lower()] or get_close_matches(got, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(name) if "," in name else name for name in names)
    return Refusal(f"unknown {kind} {got!r}.{hint} Known: {listed or 'none'}.")


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
        amount = _readable(size[1]) if size else ""
        what = f"{amount} at once" if amount else "it all"
        cure = "ask for fewer units, kernels, examples or images in a batch"
        raise Refusal(f"there is not enough memory for {what}; {cure}.") from error


def _readable(size: str) -> str:
    """A number of bytes in GiB, "" where that is next to none; what has a unit already stays as it is."""
    count, _, unit = size.partition(" ")
    if unit not in ("", "bytes"):
        return f"{count.rstrip('.')} {unit}"
    return f"{float(count) / 2**30:,.1f} GiB" if float(count) > 2**27 else ""


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
        why = "torch knows none of that name" if why.startswith("Expected one of") else why
        cure = "take cpu, cuda where torch sees a GPU, or auto"
        raise Refusal(f"device {name!r} cannot be used ({why}); {cure}.") from error
    return name


def check_seconds(owner: object, dt: float, *, slow: tuple[str, ...] = (), **taus: float) -> None:
    """Refuse time constants and a step that no simulation in seconds has: negative, in ms, or a step above them.

    Args:
        owner: whose they are; its class is named.
        dt: length of a step, s.
        slow: names of those that may be longer than `TOO_LONG`.
        taus: time constants by name, s.
    """
    who = type(owner).__name__
    for name, tau in {"dt": dt, **taus}.items():
        if not 0 < tau < math.inf:
            raise Refusal(f"{who} needs {name} > 0, in s, got {name}={tau}.")
        too_long = tau > LONGEST_STEP if name == "dt" else tau >= TOO_LONG and name not in slow
        if too_long:
            most = f"up to {LONGEST_STEP:g}" if name == "dt" else f"below {TOO_LONG:g}"
            cure = f"if this is in ms give {name}={tau / 1000:g}"
            raise Refusal(f"{who} takes times in s and {name} {most}, got {name}={tau}; {cure}.")
        if dt > tau:
            cure = "give both in s and a dt below every time constant"
            raise Refusal(f"{who} needs dt <= {name}, got dt={dt} and {name}={tau}; {cure}.")


def check_refractory(owner: object, time: float, dt: float) -> None:
    """Refuse a refractory time that is none, or in ms; a warning says where no step is left of it.

    >>> check_refractory("", 0.0, 1e-3)
    """
    who = type(owner).__name__
    if not 0 <= time <= TOO_LONG:
        raise Refusal(f"{who} needs refractory from 0 to {TOO_LONG:g}, in s, got refractory={time}.")
    if time > 0 and round(time / dt) == 0:
        what = f"{who} has no refractory time: {time:g} s is less than half a step of {dt:g} s"
        warnings.warn(f"{what}; lower dt, or say refractory=0.", stacklevel=4)
