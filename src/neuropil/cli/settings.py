"""Words on the command line become settings, with every wrong word named at once; tyro reads them."""

import io
import os
import warnings
from collections.abc import Container, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

from neuropil.errors import Refusal, at_least, device_named, require, unknown

NAMES: dict[type, str] = {Path: "a path", str: "text"}
_, POSITIONAL = get_args(tyro.conf.Positional[int])


class Setting(NamedTuple):
    """A field of a dataclass of settings.

    Attributes:
        hint: its type, with what tyro is told about it.
        default: what `dataclasses.field` is told of the default; empty if there is none.
    """

    hint: Any
    default: dict[str, Any]


def parse(words: Sequence[str], *kinds: type) -> list[Any]:
    """One object of each of `kinds`, which are dataclasses of settings.

    A setting that several of them have is the first one's; the others keep their default. The objects are made last, so
    that what a `__post_init__` refuses stays a refusal.

    Raises:
        Refusal: unknown names (with the nearest right one), values of a wrong type, missing values: all in one line.
    """
    bare = read(words, *kinds)
    made, free = [], set(vars(bare))
    for kind in kinds:
        own = free & {item.name for item in fields(kind)}
        made.append(kind(**{name: getattr(bare, name) for name in own}))
        _check_rates(made[-1], sorted(own))
        free -= own
    return made


def _check_rates(config: Any, names: Sequence[str]) -> None:
    """Refuse learning rates below 0, which optimisers refuse by a traceback."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if (name == "lr" or name.endswith("_lr")) and all(isinstance(one, int | float) for one in numbers):
            at_least(0, config, name)


def read(words: Sequence[str], *kinds: type) -> Any:
    """All settings of `kinds` in one object, read as `parse` reads them, without the checks of the dataclasses."""
    wanted = _settings(kinds)
    bare = _read(wanted, words)
    if bare is None:
        raise _what_is_wrong(wanted, words)
    return bare


def show(prog: str, description: str, config: type, *others: type, default: Any = None) -> None:
    """Print every setting of `config` and `others`: its type, its default (or its value in `default`), its meaning."""
    own = _settings([config])
    rest = _bare({name: setting for name, setting in _settings(others).items() if name not in own})
    flat: Any = tyro.conf.OmitArgPrefixes
    first: Any = field() if default is None else field(default=default)
    rows = [("settings", flat[config], first), ("run", flat[rest], field())]
    whole = make_dataclass("Settings", rows, kw_only=True)
    wording = tyro.constructors.ConstructorRegistry()
    wording.primitive_rule(_worded)
    with wording, suppress(SystemExit):
        tyro.cli(whole, args=["--help"], prog=prog, description=description)


def _worded(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """How help shows settings that may be left empty: their default is "none", not a blank."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    several = get_origin(info.type) is tuple and kinds[1:] == [...]
    if not several and (len(kinds) != 1 or get_origin(info.type) not in (Union, UnionType)):
        return None
    name = "PATH" if kinds[0] is Path else kinds[0].__name__.upper()
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"[{name} ...]" if several else name,
        instance_from_str=lambda words: words,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [*map(str, value if several else filter(None, [value]))] or ["none"],
    )


def named(words: Sequence[str], known: Container[str]) -> set[str]:
    """The settings whose flags are among `words`."""
    return {_name(group[0], known) for group in _groups(words)[1:]}


def without(words: Sequence[str], names: set[str]) -> list[str]:
    """`words` without the flags of these settings and their values."""
    first, *flags = _groups(words)
    return [*first, *(word for group in flags if _name(group[0], names) not in names for word in group)]


def use_machine(config: Any) -> Any:
    """Put the settings `device` and `threads` of `config` to work, where it has them; `config` with the device's name.

    Numbers too small to be normal count as 0 from now on: a CPU takes tens of times as long over them.

    Raises:
        Refusal: what this machine has not.
    """
    import torch

    seed = getattr(config, "seed", 0)
    require(not isinstance(seed, int) or abs(seed) < 2**63, f"setting 'seed' needs 64 bits at most, got {seed}.")
    device = device_named(config.device) if hasattr(config, "device") else "cpu"
    if hasattr(config, "threads"):
        at_least(0, config, "threads")
    if getattr(config, "threads", 0):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if config.threads > cores:
            warnings.warn(f"threads={config.threads} on {cores} cores wait for each other; take fewer.", stacklevel=2)
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    return replace(config, device=device) if device != getattr(config, "device", device) else config


def repeatable(config: Any) -> Any:
    """On a GPU, let torch take kernels that give the same numbers every time, where it has them; `config` as it is.

    What a caller has asked of `torch.use_deterministic_algorithms` stays.
    """
    if getattr(config, "device", "cpu").startswith("cuda"):
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        if not torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(True, warn_only=True)
            setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - mypy knows it not
    return config


def config_of(module: Any, name: str) -> type:
    """The dataclass `Config` of the recipe or benchmark `name`."""
    config: Any = getattr(module, "Config", None)
    require(isinstance(config, type) and is_dataclass(config), f"{name} needs a dataclass named Config.")
    typed = vars(config).get("__annotations__", {})
    for bare, value in vars(config).items():
        fine = bare in typed or bare.startswith("_") or not _is_value(value)
        require(fine, f"setting {bare!r} of {name} needs a type, or it is none: {bare}: {type(value).__name__} = ...")
    return config


def _is_value(value: Any) -> bool:
    """Whether an attribute of a class is no method, property or class."""
    return not (callable(value) or hasattr(value, "__get__"))


def _settings(kinds: Sequence[type]) -> dict[str, Setting]:
    """The settings of all `kinds` by name; the first to have a name keeps it."""
    found: dict[str, Setting] = {}
    for kind in kinds:
        try:
            hints = get_type_hints(kind, include_extras=True)
        except NameError as error:
            raise Refusal(f"{kind.__name__} has a setting of an unknown type ({error}).") from error
        for item in (item for item in fields(kind) if item.init and item.name not in found):
            both = {"default": item.default, "default_factory": item.default_factory}
            default = {name: value for name, value in both.items() if value is not MISSING}
            found[item.name] = Setting(hints[item.name], default)
    return found


def _groups(words: Sequence[str]) -> list[list[str]]:
    """The words before the first flag, then each flag with its values."""
    starts = [k for k, word in enumerate(words) if word.startswith("--")]
    return [list(words[begin:end]) for begin, end in zip([0, *starts], [*starts, len(words)])]


def _name(flag: str, known: Container[str]) -> str:
    """The setting that `flag` means: --n-train and --n_train, --fast and --no-fast, --head.lr."""
    name = flag.removeprefix("--").partition("=")[0].partition(".")[0].replace("-", "_")
    return name.removeprefix("no_") if name not in known and name.removeprefix("no_") in known else name


def _what_is_wrong(wanted: dict[str, Setting], words: Sequence[str]) -> Refusal:
    """All that is wrong: stray words, unknown names, words of a wrong type (each setting alone), settings that lack."""
    first, *flags = _groups(words)
    places = {name: one for name, one in wanted.items() if POSITIONAL in getattr(one.hint, "__metadata__", ())}
    wrong = []
    asked = " ".join(places)
    if places and _read(places, first) is None:
        wrong.append(f"expected {asked.upper()}, got {' '.join(first) or 'nothing'}; see --help.")
    elif first and not places:
        wrong.append(f"cannot place {' '.join(first)!r}; settings are written --name value.")
    groups = [(_name(group[0], wanted), group) for group in flags]
    known = [name for name in wanted if name not in places]
    wrong += [str(unknown("setting", name, known)) for name, _ in groups if name not in wanted]
    for name, group in groups:
        if name in wanted and _read({name: wanted[name]}, group) is None:
            wrong.append(f"setting {name!r} takes {_kind(wanted[name].hint, name)}, got {_value(group)}.")
    lacking = [name for name in known if not wanted[name].default and name not in dict(groups)]
    wrong += [f"setting {name!r} is needed: {_kind(wanted[name].hint, name)}." for name in lacking]
    return Refusal(" ".join(wrong) or "cannot read these settings; their help shows how they are written.")


def _read(wanted: dict[str, Setting], words: Sequence[str]) -> Any:
    """The settings that `words` give, or None if they cannot be read."""
    with suppress(SystemExit), redirect_stderr(io.StringIO()):  # tyro puts a box around each error; ours are lines
        return tyro.cli(_bare(wanted), args=words, console_outputs=False)


def _bare(wanted: dict[str, Setting]) -> type:
    """A dataclass of these settings alone, without the checks of the dataclasses that they come from."""
    rows = [(name, setting.hint, field(**setting.default)) for name, setting in wanted.items()]
    return make_dataclass("Settings", rows, kw_only=True)


def _kind(hint: Any, name: str) -> str:
    """A type in words."""
    kinds = get_args(hint)
    if get_origin(hint) is Annotated:
        return _kind(kinds[0], name)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(kind, name) for kind in kinds if kind is not NoneType)
    if hint is bool:
        return f"no value (--{name.replace('_', '-')} or --no-{name.replace('_', '-')})"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, kinds))}"
    if get_origin(hint) is tuple and kinds[1:] == (...,):
        return f"any number of {_kind(kinds[0], name)}"
    return NAMES.get(hint, hint.__name__) if isinstance(hint, type) else str(hint).replace("typing.", "")


def _value(group: list[str]) -> str:
    values = [*group[0].split("=", 1)[1:], *group[1:]]
    return repr(" ".join(values)) if values else "nothing"
