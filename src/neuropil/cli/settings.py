"""Words on the command line become a `Config`, with every wrong word named at once."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro

from neuropil.errors import Refusal, at_least, check_device, require, unknown


def parse(config: type, words: Sequence[str], also: Iterable[str] = ()) -> Any:
    """A `config` of `words`; it is made last, so that what its `__post_init__` refuses stays a refusal.

    Args:
        also: flags that were taken out of `words` before; offered when a setting is misspelt.
    """
    wanted = {item.name: item for item in fields(config) if item.init}
    groups = [(_name(group[0], wanted), group) for group in _groups(words)]
    try:
        with _silence():
            bare: Any = tyro.cli(_bare(config, wanted.values()), args=words, console_outputs=False)
    except SystemExit:
        raise _what_is_wrong(config, wanted, groups, also) from None
    return config(**{name: getattr(bare, name) for name in wanted})


def show(config: type, prog: str, description: str, *, default: Any = None) -> None:
    """Print every setting of `config`: its type, its default (or its value in `default`), its meaning."""
    try:
        given = {} if default is None else {"default": default}
        tyro.cli(config, args=["--help"], prog=prog, description=description, **given)
    except SystemExit:
        return


def use_machine(config: Any) -> None:
    """Put the settings `device` and `threads` to work, where `config` has them; refuse what this machine has not."""
    import torch

    if hasattr(config, "device"):
        check_device(config.device)
    if hasattr(config, "threads"):
        at_least(0, config, "threads")
    if getattr(config, "threads", 0):
        torch.set_num_threads(config.threads)


def check(config: Any, where: str) -> type:
    """`config` if it is a dataclass."""
    require(isinstance(config, type) and is_dataclass(config), f"{where} needs a dataclass named Config.")
    return config


def _groups(words: Sequence[str]) -> Iterator[list[str]]:
    """Each flag with its values."""
    starts = [k for k, word in enumerate(words) if word.startswith("--")]
    stray = words[: starts[0] if starts else None]
    require(not stray, f"cannot place {' '.join(stray)!r}; settings are written --name value.")
    for begin, end in zip(starts, [*starts[1:], len(words)]):
        yield list(words[begin:end])


def _name(flag: str, known: Iterable[str]) -> str:
    """The setting that `flag` means: --n-train and --n_train, --fast and --no-fast, --head.lr."""
    name = flag.removeprefix("--").partition("=")[0].partition(".")[0].replace("-", "_")
    return name.removeprefix("no_") if name not in known and name.removeprefix("no_") in known else name


def _what_is_wrong(
    config: type, wanted: dict[str, Field[Any]], groups: list[tuple[str, list[str]]], also: Iterable[str]
) -> Refusal:
    """All that is wrong: unknown names, words of a wrong type (each setting is tried alone), settings that lack."""
    hints = get_type_hints(config)
    wrong = [str(unknown("setting", name, {*wanted, *also})) for name, _ in groups if name not in wanted]
    for name, group in groups:
        if name in wanted and not _reads(_bare(config, [wanted[name]]), group):
            wrong.append(f"setting {name!r} takes {_kind(hints[name], name)}, got {_value(group)}.")
    given = {name for name, _ in groups}
    lacking = [name for name, item in wanted.items() if not _default(item) and name not in given]
    wrong += [f"setting {name!r} is needed: {_kind(hints[name], name)}." for name in lacking]
    return Refusal(" ".join(wrong) or "cannot read these settings; their help shows how they are written.")


def _reads(config: type, words: list[str]) -> bool:
    try:
        with _silence():
            tyro.cli(config, args=words, console_outputs=False)
    except SystemExit:
        return False
    return True


def _bare(config: type, items: Iterable[Field[Any]]) -> type:
    """A dataclass of `items` alone, without the checks of `config`."""
    hints = get_type_hints(config, include_extras=True)
    rows = [(item.name, hints[item.name], field(**_default(item))) for item in items]
    return make_dataclass("Settings", rows, kw_only=True)


def _default(item: Field[Any]) -> dict[str, Any]:
    both = {"default": item.default, "default_factory": item.default_factory}
    return {name: value for name, value in both.items() if value is not MISSING}


def _kind(hint: Any, name: str) -> str:
    """A type in words."""
    if hint is bool:
        return f"no value (--{name.replace('_', '-')} or --no-{name.replace('_', '-')})"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        return f"any number of {_kind(get_args(hint)[0], name)}"
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "")


def _value(group: list[str]) -> str:
    _, has_value, value = group[0].partition("=")
    values = ([value] if has_value else []) + group[1:]
    return repr(" ".join(values)) if values else "nothing"


@contextmanager
def _silence() -> Iterator[None]:
    """tyro draws a box around each error; ours are lines."""
    with redirect_stderr(io.StringIO()):
        yield
