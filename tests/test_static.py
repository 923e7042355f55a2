"""What the text of the package says: settings are heard, and a number that may be None is asked for None."""

import ast
from pathlib import Path

import neuropil

PACKAGE = Path(neuropil.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = "plasticity", "spiking", "models", "associative"
CHECKS = {"__post_init__", "__init__", "__repr__", "extra_repr"}
ELSEWHERE = {
    "AssociationReadout": "k per_class slope",
    "AssociativeTraining": "augment tasks",
    "AxonalDelay": "dt",
    "CReLU": "n",
    "CentredUnitNorm": "features",
    "CompetitiveUnits": "inputs",
    "ContrastLatency": "high low sigma",
    "HardWTA": "average sparse",
    "Head": "classes features",
    "KrotovHopfield": "average normalise ranking_dtype sparse",
    "OptimizerMemory": "shapes",
    "PopulationVote": "classes columns neurons",
    "SeenClasses": "classes",
    "SignedWTA": "average",
    "SoftHebb": "normalise",
    "SpikeTimeTraining": "batch clip epochs lr min_steps",
    "SpikingLayer": "plan",
    "Standardise": "features",
    "_Presentation": "rate",
}  # settings that a class does not read itself, but those who get one, or that shape what it is made of
RECORDS = {"Plan", "Sampling", "Settling", "SpikingPhases", "Task", "_Sweep"}  # without a law of their own


def read_in(node):
    """The attributes of ``self`` that are read outside of what checks or shows settings."""
    if isinstance(node, ast.FunctionDef) and node.name in CHECKS:
        return set()
    found = set()
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "self":
        found = {node.attr}
    return found.union(*(read_in(part) for part in ast.iter_child_nodes(node)))


def settings_of(node):
    """The fields of a dataclass, and what the ``__init__`` of another class keeps of its arguments."""
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        return {ast.unparse(one.target) for one in fields if "ClassVar" not in ast.unparse(one.annotation)}
    made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    parts = [part for one in made for part in ast.walk(one)]
    arguments = {part.arg for part in parts if isinstance(part, ast.arg)} - {"self"}
    stored = {part.attr for part in parts if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)}
    return stored & arguments


CLASSES = [
    (node.name, node)
    for path, tree in TREES.items()
    if path.startswith(ROOMS)
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef) and settings_of(node)
]


def test_every_setting_of_a_class_is_read_after_it_was_checked():
    deaf = {}
    for name, node in CLASSES:
        unread = settings_of(node) - read_in(node) - set(ELSEWHERE.get(name, "").split())
        if unread and name not in RECORDS:
            deaf[name] = sorted(unread)
    assert deaf == {}
    assert len(CLASSES) > 60


def may_be_none(annotation):
    """Whether a number or tensor of this annotation may be None."""
    kinds = {one.strip("\"' ") for one in ast.unparse(annotation).split("|")} if annotation else set()
    return "None" in kinds and bool(kinds & {"int", "float", "Tensor"})


def asked_for_truth(node, names, fields):
    """Lines in which a number that may be None stands for its own truth: 0 and a tensor of 0 are taken as None."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        given = [*node.args.args, *node.args.kwonlyargs]
        names = {*names, *(one.arg for one in given if may_be_none(one.annotation))}
    if isinstance(node, ast.ClassDef):
        own = [one for one in node.body if isinstance(one, ast.AnnAssign) and may_be_none(one.annotation)]
        fields = {f"self.{ast.unparse(one.target)}" for one in own}
    tests = node.values if isinstance(node, ast.BoolOp) else [getattr(node, "test", None)]
    tests = [one.operand if isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.Not) else one for one in tests]
    found = [ast.unparse(node) for one in tests if one is not None and ast.unparse(one) in {*names, *fields}]
    for part in ast.iter_child_nodes(node):
        found += asked_for_truth(part, names, fields)
    return found


def test_a_number_that_may_be_none_is_asked_for_none_and_not_for_its_truth():
    wrong = {path: asked_for_truth(tree, set(), set()) for path, tree in TREES.items()}
    assert {path: lines for path, lines in wrong.items() if lines} == {}
    bad = "def f(rate: float | None, x: int):\n    return (rate or 0.5) + (x or 1)"
    assert asked_for_truth(ast.parse(bad), set(), set()) == ["rate or 0.5"]


IN_PLACE = {"append", "extend", "update", "setdefault"}


def filled(statement):
    """The names whose entries a statement sets, or that it adds to."""
    for part in ast.walk(statement):
        kept = part.value if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store) else None
        kept = part.target if isinstance(part, ast.AugAssign) else kept
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            called = part.func.attr
            kept = part.func.value if called in IN_PLACE or called.endswith("_") else kept
        if isinstance(kept, ast.Name):
            yield kept.id


def names_in(parts, context=ast.Load):
    return {
        one.id for part in parts for one in ast.walk(part) if isinstance(one, ast.Name) and isinstance(one.ctx, context)
    }


def lost_in(function):
    """What loops of a tracker fill in, and what is used after them, but no loop keeps for the next sitting."""
    calls = [one for one in ast.walk(function) if isinstance(one, ast.For) and isinstance(one.iter, ast.Call)]
    loops = [one for one in calls if getattr(one.iter.func, "attr", "") == "loop"]
    kept = names_in(keyword.value for loop in loops for keyword in loop.iter.keywords)
    dicts = [one for one in ast.walk(function) if isinstance(one, (ast.Assign, ast.AnnAssign)) and one.value]
    kept |= names_in(one.value for one in dicts if kept & names_in([one], ast.Store))
    for loop in loops:
        later = {one for one in ast.walk(function) if getattr(one, "lineno", 0) > loop.end_lineno}
        lost = {name for statement in loop.body for name in filled(statement)} & names_in(later)
        yield from lost - kept - {"self"}


def test_what_a_loop_fills_in_for_later_is_there_after_an_interruption():
    functions = [(path, one) for path, tree in TREES.items() for one in ast.walk(tree)]
    functions = [(path, one) for path, one in functions if isinstance(one, ast.FunctionDef)]
    assert {(path, one.name, name) for path, one in functions for name in lost_in(one)} == set()
