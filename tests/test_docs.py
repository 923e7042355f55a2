"""What the documents show runs as it stands there, each block on its own, and what they point to exists."""

import dataclasses
import re
from copy import deepcopy
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import neuropil as npl
from neuropil.data import Split, load
from neuropil.evaluate import linear_probe

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/neuropil"
OTHERS = "accelerate|lightning|nir|skorch"  # packages that a page shows and the tests do not need
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def targets(page):
    """What the links and pictures of a page point to inside this project."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        file, _, part = (target[0] or target[1]).partition("#")
        if not file.startswith("http"):
            yield (ROOT / page).parent / file if file else ROOT / page, part


def small(name, **settings):
    """Digits in the size of MNIST, with which a page that names MNIST runs quickly and anywhere."""
    if name != "mnist":
        return load(name, **settings)
    grown = [(F.interpolate(split.pixels(), size=28, mode="bilinear"), split.y) for split in load("digits")]
    return tuple(Split(x, y, 10) for x, y in grown)


def run(page, number, folder, monkeypatch):
    """The names that block `number` of `page` leaves, run alone in `folder`, with the random numbers of no other."""
    for name in re.findall(rf"^(?:import|from) ({OTHERS})", blocks(page)[number], re.MULTILINE):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(npl, "load_data", small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        here = {"__name__": "block"}
        exec(compile(blocks(page)[number], f"{page}, block {number + 1}", "exec"), here)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return here


ALL = [(page, number) for page in PAGES for number in range(len(blocks(page)))]


@pytest.mark.filterwarnings("ignore:.*had not settled")
@pytest.mark.parametrize(("page", "number"), ALL, ids=[f"{page}-{number + 1}" for page, number in ALL])
def test_a_block_runs_as_it_stands(page, number, tmp_path, monkeypatch):
    here = run(page, number, tmp_path, monkeypatch)
    if hasattr(here.get("learner"), "predict") and "test" in here:
        assert (here["learner"].predict(here["test"].x) == here["test"].y).float().mean() > 0.6


def test_the_loop_of_the_readme_moves_the_named_layers_and_helps_them(tmp_path, monkeypatch, capsys):
    here = run("README.md", 0, tmp_path, monkeypatch)
    moved = {name for name, parameter in here["model"].named_parameters() if parameter.grad is not None}
    assert moved == {f"{name}.weight" for name in here["rules"]}
    assert capsys.readouterr().out.startswith("0: Conv2d, 16 units. Linear probe:")
    probes, halves = [], (here["train"], here["test"])
    for network in (before(here["model"], here["learner"].untrained), here["model"]):
        network.eval()
        splits = [Split(network(half.pixels()).detach().flatten(1), half.y, 10) for half in halves]
        probes.append(linear_probe(*splits))
    assert probes[1] >= probes[0]


def before(model, untrained):
    """A copy of `model` as it was before rules were attached."""
    model = deepcopy(model)
    for name, parameters in untrained.items():
        model.get_submodule(name).load_state_dict(parameters)
    return model


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_to_exists(page):
    for file, part in targets(page):
        assert file.exists(), f"{page} points to {file}"
        if part:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert part in anchors, f"{page} points to {file}#{part}; there are {anchors}"
    if page != "CHANGELOG.md":
        for file in re.findall(r"`(tests/\w+\.\w+)`", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / file).exists(), f"{page} names {file}"


def test_every_page_has_a_place_on_the_site():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [path.name for path in sorted(ROOT.glob("docs/*.md")) if f"- {path.name}\n" not in menu]
    assert not missing, f"the menu in mkdocs.yml has no {missing}"


def test_every_picture_is_shown_somewhere():
    shown = {file.resolve() for page in PAGES for file, _ in targets(page)}
    unused = [path.name for path in sorted((ROOT / "docs/pictures").iterdir()) if path.resolve() not in shown]
    assert not unused, f"no page shows {unused}"


def settings(room):
    """Names of recipes, commands or benchmarks, each with its flags."""
    for file in sorted((PACKAGE / room).glob("[!_]*.py")):
        module = import_module(f"neuropil.{room.replace('/', '.')}.{file.stem}")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
        yield file.stem, {f"--{field.name.replace('_', '-')}" for kind in kinds for field in dataclasses.fields(kind)}


def test_every_flag_and_recipe_of_the_pages_exists():
    recipes, benchmarks = dict(settings("recipes")), dict(settings("bench"))
    variants = re.findall(r"^\[(\w+)\]", (PACKAGE / "recipes/variants.toml").read_text(encoding="utf-8"), re.MULTILINE)
    words = set(re.findall(r"--[a-z][a-z-]+", "".join(file.read_text("utf-8") for file in PACKAGE.glob("cli/**/*.py"))))
    flags = words.union(*recipes.values(), *benchmarks.values(), *dict(settings("cli")).values())
    wrong = []
    for page in PAGES:
        if page == "CHANGELOG.md":  # it names the old ones, too
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        ours = re.sub(r"(torchrun|pip install|tensorboard)\s[^`#\n]*", "", text)
        used = re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", ours)
        wrong += [f"{page}: {flag}" for flag in used if not {flag, flag.replace("--no-", "--")} & flags]
        used = re.findall(r"(?<!# )neuropil (?:run|copy) ([a-z]\w+)", text)
        wrong += [f"{page}: recipe {name}" for name in used if name not in {*recipes, *variants}]
        used = re.findall(r"neuropil bench ([a-z]\w+)", text)
        wrong += [f"{page}: benchmark {name}" for name in used if name not in benchmarks]
    assert not wrong, f"these do not exist: {wrong}"
