"""`neuropil.load`: a model comes back from its file, from the run that learned it, or from the zoo."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import neuropil.associative  # noqa: F401 (its models are among those that come back)
from neuropil.errors import Refusal, device_named, require, unknown
from neuropil.models.saving import Header, read_header, read_model
from neuropil.runs import read
from neuropil.zoo import file_of, list_models

FOLDER = "models"  # of a run


def load(
    path_or_run: Path | str,
    name: str | None = None,
    seed: int | None = None,
    *,
    can: str | None = None,
    device: str = "cpu",
) -> Any:
    """A fitted model from its file, from the folder of a finished run or of several, or from the zoo.

    It predicts bit for bit as it did when it was saved, but for weights that were rounded.

    Args:
        path_or_run: a .safetensors file that `save` wrote, a folder with runs in it, or a name of `list_models`.
        name: which model of a run, as its table calls it; case and punctuation do not matter.
        seed: which of several seeds.
        can: only models that have this method, for example "generate".
        device: where to put it.

    Raises:
        Refusal: nothing there, several models that fit, a damaged file, or one of another version.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import torch, neuropil as npl
        >>> train, test = npl.load_data("digits")
        >>> model = npl.FeatureClassifier(npl.dense_body(train, 50, n=1.0))
        >>> model = model.fit(train[:200], rng=torch.Generator().manual_seed(0))
        >>> file = model.save(Path(mkdtemp()) / "random_features.safetensors")
        >>> bool((npl.load(file).predict(test.x) == model.predict(test.x)).all())
        True
    """
    path = located(path_or_run)
    device = device_named(device)
    if not path.is_dir():
        return read_model(path, device)
    return read_model(_one(saved_models(path, name=name, seed=seed, can=can), path).path, device)


def located(path: Path | str) -> Path:
    """`path`, or the file of the network of the zoo that has this name. Files and folders come first."""
    require(isinstance(path, str | PathLike), f"load needs a path or a name, got {type(path).__name__}.")
    found = Path(path)
    return file_of(str(path)) if not found.exists() and str(path) in list_models(missing=True) else found


def saved_models(
    folder: Path | str, *, name: str | None = None, seed: int | None = None, can: str | None = None
) -> list[Header]:
    """What is known of the models of the finished runs in `folder`, in the order in which they learned; see `load`.

    A .safetensors file or the name of a network of the zoo serves as well.
    """
    folder = located(folder)
    headers = [_header_of(folder)] if folder.is_file() else _headers_in(folder)
    require(name is None or isinstance(name, str), f"a model is called by a name, got {type(name).__name__}.")
    if name is not None and not any(_is_called(header, name) for header in headers):
        raise unknown("model", name, dict.fromkeys(header.about["name"] for header in headers))
    able = [header for header in headers if can is None or hasattr(header.cls, can)]
    named = [header for header in able if name is None or _is_called(header, name)]
    found = [header for header in named if seed in (None, header.about["seed"])]
    seeds = ", ".join(str(known) for known in sorted({header.about["seed"] for header in named}))
    require(bool(found or not named), f"the models in {folder} are of seed {seeds}; there is none of seed {seed}.")
    return found


def _is_called(header: Header, name: str) -> bool:
    """Whether a table or `--learners` calls the model so."""
    return slug(name) in {slug(header.about[key]) for key in ("name", "short") if header.about.get(key)}


def _header_of(file: Path) -> Header:
    header = read_header(file)
    return header._replace(about={"name": file.stem, "seed": 0, **header.about})


def _headers_in(folder: Path) -> list[Header]:
    require(folder.is_dir(), f"there is no run in {folder}: no such folder; neuropil zoo lists networks by name.")
    runs = sorted(file.parent for file in folder.rglob("run.json"))
    require(bool(runs), f"there is no run in {folder}: no run.json in it or below.")
    for run in runs:
        idle = run != folder and not models_of(run)  # such as the run that attacks the others
        require(idle or read(run).finished, f"the run in {run} is unfinished; go on with: neuropil run --resume {run}")
    return [header for run in runs for header in models_of(run)]


def models_of(run: Path, *, seed: int | None = None) -> list[Header]:
    """What is known of the models that one run has learned so far, in the order in which it learned them."""
    headers = [read_header(file) for file in (run / FOLDER).glob("*.safetensors")]
    wanted = [header for header in headers if seed in (None, header.about["seed"])]
    return sorted(wanted, key=lambda header: (header.about["seed"], header.about["place"]))


def model_path(run: Path, name: str, seed: int, task: str = "") -> Path:
    """Where a run keeps the model `name` that learned with `seed`, at one `task` of several."""
    return run / FOLDER / f"{slug(f'{task} {name}')}-seed{seed}.safetensors"


def slug(name: str) -> str:
    """A name as a word of a file name: "Sanger (PCA)" is "sanger-pca"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _one(found: Sequence[Header], folder: Path) -> Header:
    if len(found) == 1:
        return found[0]
    why = "some recipes keep numbers and figures only, as do runs of another version"
    require(bool(found), f"the runs in {folder} left no model that fits; {why}.")
    names, seeds = ({header.about[key] for header in found} for key in ("name", "seed"))
    example = f"load({str(folder)!r}, {found[0].about['name']!r}, seed={found[0].about['seed']})"
    raise Refusal(f"{folder} holds {len(names)} models x {len(seeds)} seeds; name one, for example {example}.")
