"""a model of a finished run, for tools that do not know neuropil

usage: neuropil export RUN --to onnx|torch|nir --out FILE [--learner NAME] [--seed N] [--shape 1 28 28]

--to onnx      a .onnx file, opset 20: input "images" (n, channels, height, width) in [0, 1], output "scores"
--to torch     a .pt2 file, which torch.export.load reads without neuropil
--to nir       for networks of leaky neurons in a row; says why a model has no such form, and none of a recipe has
--learner NAME the model, where the run has several; --seed N the seed, where it has several
--shape ...    of one example, where the run does not say it

RUN is the folder of a finished run, the file of a model, or the name of a network, see neuropil zoo.
A model of a table takes its rows as they stand there: how columns were standardised is in the file.
Any number of images may go in at once. What was written is read again and compared, where that is possible.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from neuropil.cli.settings import parse
from neuropil.errors import Refusal, require


@dataclass(frozen=True)
class Settings:
    """What to write where."""

    run: Positional[Path]
    to: Literal["onnx", "torch", "nir"]
    out: Path
    learner: str | None = None
    seed: int | None = None
    shape: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()


def main(words: list[str]) -> int:
    """`neuropil export RUN --to onnx|torch|nir --out FILE`."""
    (asked,) = parse(words, Settings)

    import torch

    import neuropil
    from neuropil.exchange import to_nir, to_onnx, to_pt2

    found = neuropil.saved_models(asked.run, name=asked.learner, seed=asked.seed)
    require(bool(found), f"{asked.run} left no model with that name and seed.")
    named = sorted({f"--learner {one.about['name']!r} --seed {one.about['seed']}" for one in found})
    require(len(found) == 1, f"{asked.run} holds {len(found)} models; name one, for example {named[0]}.")
    model, shape = neuropil.load(found[0].path), asked.shape or shape_of(found[0].about)
    write: Any = {"onnx": partial(to_onnx, raw=True), "torch": partial(to_pt2, raw=True), "nir": to_nir}[asked.to]
    write(model, shape, asked.out)
    x, columns = torch.rand(3, *shape), model.columns_
    again = read(asked.out, x)
    scores = model.decision_function(columns.scaled(x) if columns else x)
    off = 0.0 if again is None else float((again - scores).abs().max())
    fine = off <= 1e-3 * (1 + float(scores.abs().max()))
    require(fine, f"the network in {asked.out} gives other scores than the model, off by {off:.1e}; do not use it.")
    difference = "" if again is None else f", off by {off:.1e}"
    what = "rows of the table as they stand there" if columns else "images"
    print(f"{asked.out}: {type(model).__name__}, {what} (n, {', '.join(map(str, shape))}) to scores{difference}")
    return 0


def shape_of(about: dict[str, Any]) -> tuple[int, ...]:
    """Of one example, as the model says, or as its data say."""
    if about.get("shape"):
        return tuple(about["shape"])
    origin = about.get("origin")
    if not origin or origin["data_set"].endswith(".py"):
        raise Refusal("this model does not say how its examples are shaped; name it, for example --shape 1 28 28.")

    from neuropil.data import load

    return tuple(load(origin["data_set"])[1].x.shape[1:])


def read(file: Path, x: Any) -> Any:
    """The scores of the file for the examples `x`; None where the tool that reads it is not there."""
    import torch

    if file.suffix == ".pt2":
        return torch.export.load(file).module()(x)
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        return None
    return torch.from_numpy(InferenceSession(file).run(None, {"images": x.numpy()})[0])
