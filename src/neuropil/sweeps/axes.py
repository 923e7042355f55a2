"""What a sweep tries: two values `lr=1e-3,3e-3`, a range `lr=1e-4..1e-1:log`, two tuples `hidden=50 50,100`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from neuropil.errors import Refusal, require

Setting = dict[str, str]  # name -> value, as typed
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(:log)?")


@dataclass(frozen=True)
class Axis:
    """The values of one setting that a sweep tries.

    Attributes:
        name: of the setting.
        values: as they were typed; of a range both ends.
        ranged: whether all between the two values may be tried.
        log: whether a range is searched by ratios.
    """

    name: str
    values: tuple[str, ...]
    ranged: bool = False
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the ends of a range are whole numbers, so that only such are tried."""
        return all(re.fullmatch(r"[-+]?\d+", value) for value in self.values)


def axis_of(text: str) -> Axis:
    """The axis that `text` describes.

    Raises:
        Refusal: no name, no values, a value twice, a range that is none.

    >>> axis_of("lr=1e-4..1e-1:log")
    Axis(name='lr', values=('1e-4', '1e-1'), ranged=True, log=True)
    """
    name, _, rest = text.partition("=")
    name, values = name.strip().lstrip("-").replace("-", "_"), tuple(value.strip() for value in rest.split(","))
    fine = bool(name) and all(values)
    require(fine, f"a setting to sweep is written name=value,value or name=low..high, got {text!r}.")
    if ".." not in rest:
        require(len(set(values)) == len(values), f"setting {name!r} has a value twice in {text!r}.")
        return Axis(name, values)
    found = RANGE.fullmatch(rest.strip())
    if found is None:
        raise Refusal(f"a range is written {name}=low..high or {name}=low..high:log, got {text!r}.")
    low, high, log = found[1], found[2], found[3] is not None
    require(float(low) < float(high), f"the range of {name!r} needs low < high, got {text!r}.")
    require(float(low) > 0 or not log, f"a range with :log needs low > 0, got {text!r}.")
    return Axis(name, (low, high), ranged=True, log=log)


def axes_of(texts: Sequence[str], *, search: bool) -> list[Axis]:
    """The axes that the words after --grid describe.

    Raises:
        Refusal: a setting twice, or a range without a search.
    """
    axes = [axis_of(text) for text in texts]
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, f"setting {twice!r} is swept twice; write all its values after one name.")
    ranged = next((axis.name for axis in axes if axis.ranged and not search), None)
    require(ranged is None, f"the range of {ranged!r} needs --search N; a grid takes values: {ranged}=low,high.")
    return axes


def grid(axes: Sequence[Axis]) -> list[Setting]:
    """Every combination of the values, the last axis fastest.

    >>> grid([axis_of("lr=1,2"), axis_of("k=3,4")])[1]
    {'lr': '1', 'k': '4'}
    """
    return [dict(zip([axis.name for axis in axes], values)) for values in product(*(axis.values for axis in axes))]


def words_of(setting: Mapping[str, str], switches: Collection[str]) -> list[str]:
    """A setting as it is typed on the command line; `switches` are the names of those that are on or off.

    >>> words_of({"lr": "0.1", "hidden": "50 20", "fast_head": "false"}, {"fast_head"})
    ['--lr', '0.1', '--hidden', '50', '20', '--no-fast-head']
    """
    words: list[str] = []
    for name, value in setting.items():
        flag = name.replace("_", "-")
        if name in switches:
            known = value.lower() in ("true", "false")
            require(known, f"setting {name!r} is true or false, got {value!r}.")
            words.append(f"--{flag}" if value.lower() == "true" else f"--no-{flag}")
        else:
            words += [f"--{flag}", *value.split()]
    return words


def title_of(setting: Mapping[str, str]) -> str:
    """A setting in one line: lr 0.1, k 7."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())
