"""Defaults, constants and what methods are made of are those on record: a changed one changes what users measure.

Where the change is meant: `python tests/test_records.py` records what there is now.
"""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neuropil
from common import rng
from neuropil.cli.recipes import recipe_names, resolve, source
from neuropil.cli.settings import parse
from neuropil.data import Split, digits, iris
from neuropil.experiments.methods import builders
from neuropil.runs import load_recipe_file
from test_recipes import NETS, TINY

RECORDS = Path(__file__).with_name("records")
NOT_RECORDED = ("neuropil.cli", "neuropil.report", "neuropil.plasticity.kernels.gpu", "neuropil.spiking.kernels.gpu")
EMPTY = ("{}", "[]", "set()", "WeakKeyDictionary()")
ATOMS = (bool, int, float, str)
SMALL = {"cifar_softhebb": TINY["mnist_softhebb"], "diehl_cook": "--units 20", "stdp_conv": "--kernels 8 10 --kernel 3"}
SMALL |= {"mnist_parity": NETS, "mnist_conv_krotov": TINY["mnist_conv_krotov"], "spiking_associative": "--units 12"}
ESTIMATORS = ("AssociationRuleClassifier", "STDPNetworkClassifier", "SpikeTimeClassifier")


def described(value: Any) -> Any:
    """What `value` is made of, as dictionaries, lists and atoms."""
    if value is None or isinstance(value, ATOMS):
        return value
    if isinstance(value, torch.Tensor | torch.Generator):
        return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else "generator"
    if isinstance(value, partial):
        return {"is": described(value.func), "given": described(value.args), **described(value.keywords)}
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__qualname__
    if isinstance(value, Mapping):
        return {str(described(key)): described(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(described, value)))
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [described(one) for one in value]
    if type(value).__module__.partition(".")[0] != "neuropil" and not isinstance(value, nn.Sequential):
        return re.sub(r" at 0x\w+", "", repr(value)) if isinstance(value, nn.Module) else type(value).__name__
    children = dict(value.named_children()) if isinstance(value, nn.Module) else {}
    given = () if isinstance(value, nn.Sequential) else inspect.signature(type(value)).parameters
    parts = {name: getattr(value, name) for name in given if hasattr(value, name) and name not in children}
    return {"is": type(value).__name__, **described(parts), **described(children)}


def lines(name: str, what: Any) -> Iterator[str]:
    """`name = value`, one line for all atoms of a part; prose is left out."""
    if isinstance(what, dict):
        what = {key: one for key, one in what.items() if not is_prose(one)}
        parts = {key: one for key, one in what.items() if isinstance(one, dict) or has_parts(one)}
        yield f"{name} = " + ", ".join(f"{key} {one!r}" for key, one in what.items() if key not in parts)
        for key, one in parts.items():
            yield from lines(f"{name}.{key}", one)
    elif has_parts(what):
        for k, one in enumerate(what):
            yield from lines(f"{name}.{k}", one)
    elif not is_prose(what):
        yield f"{name} = {what!r}"


def has_parts(what: Any) -> bool:
    """Whether this is a list of more than atoms."""
    return isinstance(what, list) and any(isinstance(one, dict | list) for one in what)


def is_prose(what: Any) -> bool:
    """Whether this is text for people."""
    return isinstance(what, str) and len(what) > 40 and " " in what and "(" not in what


def defaults() -> Iterator[str]:
    """Of every function and class, and the constants of every module."""
    for found in pkgutil.walk_packages(neuropil.__path__, "neuropil."):
        if found.name.startswith(NOT_RECORDED):
            continue
        module = import_module(found.name)
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != found.name:
                continue
            if inspect.isfunction(value) or inspect.isclass(value):
                yield from of_call(f"{found.name}.{name}", value)
            for key, method in vars(value).items() if inspect.isclass(value) else ():
                inner = getattr(method, "__func__", method)
                if inspect.isfunction(inner) and not key.startswith("__"):
                    yield from of_call(f"{found.name}.{name}.{key}", inner)
        for name in constants(module):
            yield from lines(f"{found.name}.{name}", described(getattr(module, name)))


def of_call(name: str, call: Any) -> Iterator[str]:
    """The defaults of its arguments."""
    made = {one.name: one.default_factory for one in fields(call)} if is_dataclass(call) else {}
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return
    for one in parameters:
        if one.default is not one.empty:
            default = made[one.name]() if made.get(one.name, MISSING) is not MISSING else one.default
            yield from lines(f"{name}({one.name})", described(default))


def constants(module: Any) -> list[str]:
    """Names in capitals to which a module gives a value; not what is empty at first and filled by use."""
    given = [one for one in ast.parse(inspect.getsource(module)).body if isinstance(one, ast.Assign | ast.AnnAssign)]
    kept = [one for one in given if one.value is not None and ast.unparse(one.value) not in EMPTY]
    named = [one.targets[0] if isinstance(one, ast.Assign) else one.target for one in kept]
    return [one.id for one in named if isinstance(one, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z\d_]+", one.id)]


def methods() -> Iterator[str]:
    """What `compare`, every recipe and every estimator build, before it learns."""
    numbers = digits(seed=0)[0][:100]
    colours = Split(torch.rand(100, 3, 12, 12, generator=rng(3)), numbers.y, 10)
    flowers = iris(seed=0)[0]
    for data, train in {"digits": numbers, "colours": colours, "columns": flowers}.items():
        for name, build in builders([], 30).items():
            yield from lines(f"compare, {data}, {name}", described(build(train, rng())))
    for recipe in recipe_names():
        for name, build in sorted(built(recipe).items()):
            method = build(flowers if recipe.startswith("iris") else numbers, rng())
            yield from lines(f"{recipe}, {name}", described(method))
    for name in ESTIMATORS:
        yield from lines(name, described(getattr(import_module("neuropil.sklearn"), name)()._model(77)))


def built(recipe: str) -> dict[str, Any]:
    """What builds the methods of a recipe, by name."""
    base, words = resolve(recipe, [])
    module = load_recipe_file(source(recipe))
    (config,) = parse([*words, *SMALL.get(recipe, SMALL.get(base, TINY.get(recipe, ""))).split()], module.Config)
    if base == "mnist_semi":
        return {str(k): build for k, build in enumerate(module.methods(config))}
    if base in ("digits_mstdp", "mnist_association"):
        plans = module.comparison(config)
        return dict((plans[0] if isinstance(plans, list) else plans).builds)
    made = getattr(module, "METHODS", None) or getattr(module, "methods", {})
    return {name: partial(build, config) for name, build in made.items()}


WHAT = {"defaults": defaults, "methods": methods}


@pytest.mark.parametrize("name", WHAT)
def test_what_users_get_unless_they_ask_is_on_record(name):
    found, known = list(WHAT[name]()), (RECORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    changed = [f"+ {one}" for one in set(found) - set(known)] + [f"- {one}" for one in set(known) - set(found)]
    assert not changed, "\n".join([*sorted(changed, key=lambda line: line[2:])[:30], *str(__doc__).splitlines()[-1:]])


if __name__ == "__main__":
    for name, what in WHAT.items():
        (RECORDS / f"{name}.txt").write_text("\n".join(what()) + "\n", encoding="utf-8")
