"""The public names of every room, where each is shown at work, and the pages of the reference."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = (
    *("plasticity", "models", "sklearn", "data", "data.masks", "spiking", "spiking.losses", "associative", "evaluate"),
    *("evaluate.robustness", "runs", "report", "zoo", "exchange", "distributed"),
)
OWN = {  # names of the face that are in no room
    "audit": "experiments.audit",
    "compare": "experiments.compare_models",
    "diagnose": "experiments.diagnose",
    "load": "loading",
    "saved_models": "loading",
}


def public(room: str) -> list[str]:
    """The public names of a room: those it lists, or the functions and classes that it defines."""
    module = import_module(f"neuropil.{room}")
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", [name for name in defined if not name.startswith("_")]))


@cache
def names() -> dict[str, Any]:
    """Every public object by its dotted path below neuropil."""
    paths = [f"{room}.{name}" for room in ROOMS for name in public(room)]
    paths += [f"{room}.{name}" for name, room in OWN.items()]
    return {path: getattr(import_module(f"neuropil.{path.rpartition('.')[0]}"), path.split(".")[-1]) for path in paths}


def docstring(value: Any) -> str:
    """What is written at an object itself and, of a class, at what it defines; of a constant, nothing."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    inside = [inspect.getdoc(member) or "" for member in vars(value).values()] if inspect.isclass(value) else []
    return "\n".join([value.__doc__ or "", *inside])


@cache
def shown() -> dict[str, str]:
    """The Python code of every page and notebook, by the page's place in the site; of docstrings, under ``""``."""
    pages = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "results" not in path.parts]
    code = {path.relative_to(ROOT / "docs").as_posix(): "\n".join(_blocks(path)) for path in pages}
    notebooks = sorted(ROOT.glob("docs/notebooks/*.py"))
    code |= {f"notebooks/{path.stem}.md": path.read_text(encoding="utf-8") for path in notebooks}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("src/**/*.py")))
    return code | {"": "\n".join(re.findall(r"^\s*(?:>>>|\.\.\.) (.*)$", sources, re.MULTILINE))}


def _blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@cache
def uses(path: str) -> list[str]:
    """The pages whose code uses the name of this path."""
    name = path.split(".")[-1]
    rule = re.compile(rf"(?:import [^\n]*|[.\[(,= ]|^){name}\b" if name[0].isupper() else rf"\.{name}\b|\b{name}\(")
    return [page for page, code in shown().items() if rule.search(code)]


@cache
def _direct(path: str) -> bool:
    return ">>>" in docstring(names()[path]) or bool(uses(path))


def _told(path: str) -> list[str]:
    """The names with an example that a docstring refers to: of a result, the function that returns it."""
    mentioned = set(re.findall(r"\w+", " ".join(re.findall(r"`([\w.]+)", docstring(names()[path])))))
    return [other for other in names() if other.split(".")[-1] in mentioned and _direct(other)]


def lacking() -> Iterator[str]:
    """Every public name without a docstring, or without an example of its own or at a name that it refers to."""
    for path, value in names().items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue  # a constant or a name of a type
        if not docstring(value).strip():
            yield f"neuropil.{path} has no docstring"
        elif not _direct(path) and not _told(path):
            yield f"neuropil.{path} has no example: no >>> at it, no page whose code uses it, no `name` that has one"


def _entry(path: str, heading: str = "") -> str:
    """One name of the reference, with the pages that use it where it has no example of its own."""
    options = f"\n    options: {{ heading: {heading}, toc_label: {heading} }}" if heading else ""
    text = f"::: neuropil.{path}{options}\n"
    pages = [] if ">>>" in docstring(names()[path]) else [page for page in uses(path) if page]
    if pages:
        text += "\n*Example:* " + ", ".join(f"[{_title(page)}](../{page})" for page in pages[:4]) + "\n"
    return text


def _title(page: str) -> str:
    file = (ROOT / "docs" / page).with_suffix(".py" if page.startswith("notebooks/") else ".md")
    return re.findall(r"^(?:# )?# (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)[0]


def _summary(path: str) -> str:
    """The first sentence of a docstring, for a table."""
    first = inspect.cleandoc(names()[path].__doc__ or "").partition("\n\n")[0]
    sentence = re.split(r"(?<=[.:]) |:math:", first.replace("\n", " "))[0]
    return " ".join(sentence.split()).rstrip(":,").replace("|", "\\|")


def _room_page(room: str) -> str:
    module = import_module(f"neuropil.{room}")
    entries = [_entry(f"{room}.{name}") for name in public(room) if docstring(names()[f"{room}.{name}"])]
    return f"# neuropil.{room}\n\n{inspect.getdoc(module)}\n\n" + "\n".join(entries)


def _place(name: str) -> str:
    """The path below neuropil of a name of the face."""
    if name in OWN:
        return f"{OWN[name]}.{name}"
    return "data.load" if name == "load_data" else next(path for path in names() if path.split(".")[-1] == name)


def _face_page() -> str:
    import neuropil

    rooms = "\n".join(f"- [neuropil.{room}]({room}.md): {import_module(f'neuropil.{room}').__doc__.splitlines()[0]}"
                      for room in ROOMS)  # fmt: skip
    rows = "\n".join(f"| [`npl.{name}`][neuropil.{_place(name)}] | {_summary(_place(name))} |"
                     for name in sorted(neuropil.__all__, key=str.lower))  # fmt: skip
    own = "\n".join(_entry(f"{room}.{name}", f"neuropil.{name}") for name, room in OWN.items())
    return (
        "# Reference\n\n`import neuropil as npl` has the names that most users need. Each room has more.\n\n"
        f"## Rooms\n\n{rooms}\n\n## Names of the face\n\n| name | what it is |\n|---|---|\n{rows}\n\n{own}"
    )


def pages() -> dict[str, str]:
    """The pages of the reference, by their place in the site."""
    return {"api/index.md": _face_page()} | {f"api/{room}.md": _room_page(room) for room in ROOMS}
