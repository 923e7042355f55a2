"""Every recipe takes a device and threads, which are put to work in one place."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from cli_place import go, place, said  # noqa: F401
from neuropil.cli.recipes import load, recipe_names
from neuropil.cli.settings import use_machine
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.experiments.machine import Machine

RECIPES = {name: load(name) for name in recipe_names()}
COMPARE = [name for name, recipe in RECIPES.items() if hasattr(recipe, "METHODS") or hasattr(recipe, "comparison")]
OTHERS = ["mnist_semi", "mnist_unsupervised", "momentum", "krotov_settings", "linear_settings"]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_where_it_computes(name):
    assert issubclass(RECIPES[name].Config, Machine)
    assert {"device", "threads"} <= {item.name for item in fields(RECIPES[name].Config)}


class Moved(Exception):
    """Raised instead of moving examples."""


@pytest.mark.data
@pytest.mark.parametrize("name", [*COMPARE, *OTHERS])
def test_examples_are_moved_to_the_device(name, monkeypatch):
    def move(split, device):
        raise Moved(device)

    monkeypatch.setattr(Split, "to", move)
    recipe, config = RECIPES[name], RECIPES[name].Config(device="meta")
    with pytest.raises((Moved, Refusal)) as seen:
        recipe.comparison(config).splits(0) if hasattr(recipe, "comparison") else recipe.main(config, None)
    if "set NEUROPIL_DATA to the folder" in str(seen.value):
        pytest.skip(str(seen.value))
    assert str(seen.value) == "meta"


@pytest.mark.usefixtures("threads")
def test_threads_are_set_before_the_recipe_begins():
    use_machine(Machine(threads=3))
    assert torch.get_num_threads() == 3
    use_machine(Machine(threads=0))
    assert torch.get_num_threads() == 3
    use_machine(object())
    assert torch.get_num_threads() == 3
    with pytest.raises(Refusal, match="'meta' holds no numbers"):
        use_machine(Machine(device="meta"))


@pytest.mark.usefixtures("threads")
def test_a_recipe_runs_with_as_many_threads_as_asked(place):  # noqa: F811
    toy = Path("toy.py")
    text = toy.read_text().replace("seed: int = 0", "seed: int = 0\n    threads: int = 2")
    toy.write_text(text.replace("    run.every = 0\n", "    run.update_metadata(seen=torch.get_num_threads())\n"))
    assert go("run ./toy.py --threads 3 --out out") == 0
    facts = Path("out/run.json").read_text()
    assert '"seen": 3' in facts
    assert '"threads": 3' in facts.partition('"machine"')[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_one_line(place, capsys):  # noqa: F811
    assert "device 'cuda' cannot be used" in said(capsys, "run mnist_krotov --device cuda --out out")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device")
def test_the_refusal_of_a_device_is_short(place, capsys):  # noqa: F811
    for device in ("mps", "privateuseone"):  # the second is a device of an extension that is not there
        refusal = said(capsys, f"run mnist_krotov --device {device} --out out")
        assert "cannot be used" in refusal
        assert len(refusal) < 250
