"""Who may import whom, and that help needs nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import neuropil

PACKAGE = Path(neuropil.__file__).parent
BASE = {"errors", "_threads", "_subnormals", "_grid"}
RULES = BASE | {"data", "plasticity", "spiking", "runs"}
MODELS = RULES | {"models", "associative"}
ALL = MODELS | {"distributed", "sklearn", "zoo", "loading", "exchange", "evaluate", "report", "experiments"}
TABLE = {
    "__init__": ALL,  # for type checkers alone: at run time a name is loaded when it is used
    "__main__": {"cli"},
    "errors": set(),
    "_threads": set(),
    "_grid": set(),
    "_subnormals": {"_threads"},
    **dict.fromkeys(("data", "plasticity", "spiking", "runs"), BASE),
    "models": RULES,
    "associative": RULES | {"models"},
    "distributed": BASE | {"plasticity"},
    "zoo": BASE | {"data"},
    "loading": MODELS | {"zoo"},
    "exchange": MODELS,
    "play": MODELS,
    "sklearn": MODELS,
    "evaluate": BASE | {"data", "runs.rows", "runs.tracker"},
    "sweeps": BASE | {"runs"},
    "report": BASE | {"runs", "sweeps"},
    "experiments": ALL,
    "recipes": ALL,
    "bench": ALL,
    "cli": BASE | {"runs", "report", "data", "distributed", "sweeps", "zoo", "loading", "exchange", "play"},
}


def imports(tree):
    """(dotted name, whether inside a function) of every import of a part of neuropil."""
    inside = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "neuropil" and rest and not rest.startswith("__"):
                yield rest, id(node) in inside


def test_every_room_imports_only_what_the_table_allows():
    seen = set()
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        seen.add(room)
        for other, lazy in imports(ast.parse(file.read_text(encoding="utf-8"))):
            above = [other.rsplit(".", n)[0] for n in range(other.count(".") + 1)]  # x.y.z may be imported if x.y may
            assert {room, *TABLE[room]} & set(above), f"{file} imports {other}"
            assert room == "cli" or not lazy, f"{file} imports {other} inside a function"
    assert {"errors", "data", "plasticity", "runs", "cli"} <= seen


def test_help_needs_no_torch_and_no_time():
    heavy = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "tyro", "pooch"}
    script = (
        "import sys, time, neuropil; from neuropil.cli import main; "
        f"code = main(['--help']); print(code, time.process_time(), *{heavy} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    code, seconds, *loaded = done.stderr.split()
    assert (code, loaded) == ("0", [])
    assert float(seconds) < 0.3
    assert "neuropil run --resume DIR" in done.stdout


def test_models_start_without_what_few_of_them_need():
    late = {"triton", "pooch", "requests", "scipy.linalg", "scipy.special"}
    script = f"import sys, neuropil.models; print(*{late} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "\n", done.stderr
