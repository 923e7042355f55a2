"""How recipes are wired: a setting arrives where it is named, baselines get what learners get, seeds are the user's."""

import ast
import re
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import neuropil
from neuropil.data import digits, hold_out, yin_yang
from neuropil.experiments.k_means import init_centres_, init_whitened_
from neuropil.models import FeatureClassifier
from neuropil.recipes import continual

RECIPES = {  # settings of networks small enough to build
    "cifar_softhebb": {"channels": (4, 5, 6), "n_augmented": 1, "ridge": 0.0},  # see test_wide.py
    "cifar_wide": {"units": 5, "kernel": 3, "grid": 2, "stride": 1},
    "diehl_cook": {"units": 5, "dt": 1e-3},
    "digits_mstdp": {"classification_units": (6, 5), "generation_units": 5, "completion_units": 4},
    "mnist_association": {"hidden": (80, 40), "columns": (4, 2), "receptive_field": 5, "n_send": 3, "k": 2},
    "mnist_conv_krotov": {"kernels": 5, "kernel": 3, "grid": 2, "n_augmented": 1, "whitening_floor": 0.1},
    "mnist_krotov": {"units": 5, "random_power": 2.0},
    "mnist_semi": {"classification_units": (6,)},
    "mnist_theta": {"hidden": (6, 5)},
    "mnist_theta_best": {"units": 6},
    "mnist_unsupervised": {"units": 6, "components": 3},
    "stdp_conv": {"kernels": (5, 6), "kernel": 3, "grid": 2, "patch_threshold": 1.5},
    "yin_yang": {"units": 6},
}
IN_LOOPS = {"lr", "epochs", "batch"}  # of recipes that show their loop, see test_recipe_loops.py
OTHERWISE = {"cifar_softhebb": IN_LOOPS, "mnist_conv_krotov": IN_LOOPS, "mnist_krotov": IN_LOOPS}
OTHERWISE["diehl_cook"] = {"excitation"}  # divided by the sum of weights
OTHERWISE["stdp_conv"] = {"batch"}  # of the loop that the recipe shows
KEPT = {"seed", "n_train", "threads", "last", "low", "t_end", "threshold", "duration", "margin", "tau"}


def train_of(recipe):
    return (yin_yang() if recipe == "yin_yang" else digits(seed=0))[0][:40]


def builds_of(recipe, config):
    """The functions of (train, rng) that make its methods, by name."""
    room = import_module(f"neuropil.recipes.{recipe}")
    if recipe == "digits_mstdp":
        return room.comparison(config).builds
    if recipe == "mnist_semi":
        return {f"method {k}": build for k, build in enumerate(room.methods(config))}
    if recipe == "mnist_unsupervised":
        kinds = (room.stdp, room.random_features, room.centres, room.principal, room.pixels)
        return {kind.__name__: partial(kind, config) for kind in kinds}
    return {name: partial(build, config) for name, build in room.METHODS.items()}


@cache
def usual(recipe):
    """Its methods with seed 0."""
    return methods_of(recipe)


def methods_of(recipe, seed=0, train=None, **settings):
    room = import_module(f"neuropil.recipes.{recipe}")
    for few in (init_centres_, init_whitened_):
        if hasattr(room, few.__name__):
            setattr(room, few.__name__, partial(few, count=100))
    config = room.Config(**RECIPES[recipe] | settings, seed=seed)
    train, rng = train or train_of(recipe), lambda: torch.Generator().manual_seed(seed)
    return config, {name: build(train, rng()) for name, build in builds_of(recipe, config).items()}


def walk(one, path=(), seen=None):
    """(path of names, number) of every number that an object of ours holds, whatever it is inside."""
    seen = set() if seen is None else seen
    if isinstance(one, bool | int | float):
        yield path, one
    elif isinstance(one, tuple | list):
        for part in one:
            yield from walk(part, path, seen)
    elif isinstance(one, dict):
        for name, part in one.items():
            yield from walk(part, (*path, str(name)), seen)
    elif is_ours(one) and id(one) not in seen:
        seen.add(id(one))
        own = {item.name: getattr(one, item.name) for item in fields(one)} if is_dataclass(one) else vars(one)
        yield from walk(own, path, seen)


def is_ours(one):
    """Whether it is an object with parts, but for the settings themselves."""
    ours = type(one).__module__.startswith(("neuropil", "torch.nn")) and not isinstance(one, Tensor)
    return ours and type(one).__name__ != "Config"


def unlike(config):
    """The settings with a value that no other has; what sizes and ranges depend on stays."""
    number, found = count(1), {}
    for item in fields(config):
        value, k = getattr(config, item.name), next(number)
        if item.name in KEPT | {*RECIPES.get(type(config).__module__.rpartition(".")[2], {})}:
            continue
        if type(value) is float:
            found[item.name] = value * (1 - k / 2000) if value else k / 2000
        elif type(value) is int and value > 0:
            found[item.name] = 100 + k
        elif type(value) is tuple and value and all(type(one) is float for one in value):
            found[item.name] = tuple(one * (1 - k / 2000) for one in value)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_setting_arrives_where_its_name_stands(recipe):
    kind = import_module(f"neuropil.recipes.{recipe}").Config
    given = unlike(kind(**RECIPES[recipe]))
    _, methods = methods_of(recipe, **given)
    held = [
        ((method.family, name, *path), number)
        for name, method in methods.items()
        for path, number in walk(method.learner)
    ]
    for name in given.keys() - OTHERWISE.get(recipe, ()):
        places, want = [(path, number) for path, number in held if stands(name, path)], given[name]
        wanted = set(want) if isinstance(want, tuple) else {want}
        assert not places or wanted <= {number for _, number in places}, (name, want, places)


def stands(name, path):
    """Whether a setting is what this path says: readout_lr is learner.readout.lr."""
    *above, last = path
    if "learning_rates" in above:
        return name in ("lr", f"{last}_lr", f"{last.removesuffix('s')}_lr")
    last = {"n": "power"}.get(last, last)
    return name == last or any(name == f"{part}_{last}" for one in above for part in (one, one.partition("_")[0]))


def test_heads_of_a_stream_have_the_rates_of_the_recipe():
    config = continual.Config(**unlike(continual.Config()))
    assert vars(config.rates()) == {name: getattr(config, name) for name in vars(config.rates())}


@pytest.mark.parametrize("recipe", RECIPES)
def test_readouts_and_images_are_alike_for_all_methods(recipe):
    """But for the linear model, which is the same everywhere, and a weight decay that was chosen apart."""
    config, methods = usual(recipe)
    own = {"weight_decay": 0.0} if hasattr(config, "random_weight_decay") else {}
    for name, method in methods.items() if own else ():
        decay = config.random_weight_decay if name == "random_features" else config.weight_decay
        assert getattr(getattr(method.learner, "readout", None), "weight_decay", decay) == decay, name
    learners = [method.learner for method in methods.values() if method.name != "linear"]
    features = [one for one in learners if isinstance(one, FeatureClassifier)]
    copies = [(replace(one.readout, **own), one.n_augmented, one.augment, one.min_examples) for one in features]
    assert all(one == copies[0] for one in copies)
    augments = {repr(one.training.augment) for one in learners if hasattr(getattr(one, "training", None), "augment")}
    assert len(augments) <= 1
    assert "None" not in augments or all(one.augment is None for one in features)
    units = {name: tuple(len(one) for one in matrices(method)) for name, method in methods.items()}
    assert len({shape for name, shape in units.items() if shape and name != "principal"}) <= 1, units


def matrices(method):
    """First weights of the layers, if it has some before it learns."""
    body = getattr(method.learner, "body", None)
    return [weight for weight in body.parameters() if weight.ndim > 1] if isinstance(body, nn.Module) else []


def weights(learner):
    """All that a learner has before it learns."""
    bodies = [getattr(learner, name, None) for name in ("body", "learner")]
    return [tensor for body in bodies if isinstance(body, nn.Module) for tensor in body.state_dict().values()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_first_weights_are_those_of_the_seed(recipe):
    """The same with the same seed, whatever the generator of torch; others with another."""
    found = [usual(recipe)[1]]
    for number, seed in enumerate((0, 3), start=1):
        torch.manual_seed(number)
        found.append(methods_of(recipe, seed=seed)[1])
    for name, one, again, other in ((name, *(methods[name] for methods in found)) for name in found[0]):
        first, same, new = (weights(method.learner) for method in (one, again, other))
        assert all(map(torch.equal, first, same)), name
        if name != "principal" and any(tensor.ndim > 1 for tensor in first):
            assert not all(map(torch.equal, first, new)), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_random_features_have_seen_nothing(recipe):
    """First weights of random features are the same whatever the examples; patches, images and centres are not."""
    found = [usual(recipe)[1], methods_of(recipe, train=digits(seed=0)[0][100:140])[1]]
    for name, one, other in ((name, *(methods[name] for methods in found)) for name in found[0]):
        if recipe != "yin_yang" and one.family == "baseline" and matrices(one):
            blind = one.name.startswith(("random features", "backprop"))
            assert all(map(torch.equal, matrices(one), matrices(other))) == blind, name


KNOWN = {  # what has to be the same for all, or a tie of two equals
    "evaluate/metrics/probe.py: manual_seed(0)",
    "evaluate/robustness/damage.py: manual_seed(0)",  # of the noise that tells whether weights are in use
    "experiments/diagnose.py: manual_seed(0)",
    "recipes/reward_stdp.py: manual_seed(0)",
    "recipes/reward_stdp.py: manual_seed(trial)",
}


def seeds_of(tree):
    """The seeds that a file gives to whatever draws, each with the name of that."""
    places = {"manual_seed": 0, "subset": 2, "hold_out": 2, "data_splits": 2, "load": 9, "k_means_centres": 2}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = [word.value for word in call.keywords if word.arg in ("seed", "random_state")]
        yield from ((name, one) for one in given + call.args[places.get(name, 9) :][:1])


@pytest.mark.parametrize("room", ["recipes", "experiments", "cli", "evaluate", "sklearn"])
def test_every_seed_is_the_users(room):
    """Where data, weights or noise are drawn by something else, they are the same whatever seed the user gives."""
    home = Path(neuropil.__file__).parent
    for file in sorted((home / room).rglob("*.py")):
        for name, seed in seeds_of(ast.parse(file.read_text(encoding="utf-8"))):
            said = f"{file.relative_to(home).as_posix()}: {name}({ast.unparse(seed)})"
            assert re.search("seed|random_state", ast.unparse(seed)) or said in KNOWN, said


@pytest.mark.parametrize("recipe", ["krotov_settings", "linear_settings"])
def test_candidates_learn_one_part_of_the_training_examples_and_are_scored_on_the_other(recipe, monkeypatch):
    room, given = import_module(f"neuropil.recipes.{recipe}"), []
    monkeypatch.setattr(room, "data_splits", lambda data, n_train, seed, **how: digits(seed=seed))
    monkeypatch.setattr(room, "score_candidates", lambda some, rest, held, **how: given.append((rest, held, how)))
    room.main(room.Config(seed=3, holdout_fraction=0.25), None)
    ((rest, held, how),) = given
    want = hold_out(digits(seed=3)[0], 0.25, 3)
    assert [part.checksum() for part in (rest, held)] == [part.checksum() for part in want]
    assert how["seed"] == 3
