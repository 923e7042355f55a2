"""The contract of everything that learns: what a model can be asked, and where its layers of units are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Protocol, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from neuropil.data import Columns, Split
from neuropil.errors import Refusal, enough_memory, require
from neuropil.models.description import layers_of
from neuropil.models.nn.convolution import Beside
from neuropil.models.saving import write_model
from neuropil.plasticity.joint import check_alike
from neuropil.runs.tracker import Tracker


class FeatureLayer(NamedTuple):
    """One layer of units of a fitted model; `FeatureClassifier.feature_layers` lists them.

    Attributes:
        name: dotted name of the layer in the network.
        module: maps (batch, *shape) to the activity of the units, (batch, units, *positions).
        weight: (units, *fan_in).
    """

    name: str
    module: nn.Module
    weight: Tensor


class Model(Protocol):
    """What fits and predicts. Examples are (n, *shape), float32 as `Split.pixels` gives them, or uint8 as stored.

    Attributes:
        names_: what the classes are called, as of the split that it learned from.
        columns_: how the columns of a table were standardised that it learned from. It takes rows of that table after
            ``columns_.scaled(rows)``. Both travel with its file.
    """

    names_: tuple[str, ...] = ()
    columns_: Columns | None = None

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn from `train`; all randomness comes from `rng`, `tracker` takes the rows of every epoch."""

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels, int64."""

    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) scores; no gradient, in memory that does not grow with n."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes), the same scores with their gradient by `x`, all at once."""

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn again what needs labels, from `labelled` alone; features learned without labels stay.

        A model without a readout apart from its features learns everything afresh: it needs labels throughout.
        """
        return self.fit(labelled, rng=rng, tracker=tracker)

    def feature_layers(self) -> list[FeatureLayer]:
        """The layers of units below the readout, from below; none for a linear model."""

    def save(self, path: Path | str, *, about: Mapping[str, Any] | None = None, precision: str | None = None) -> Path:
        """Write the fitted model into one .safetensors file, from which `neuropil.load` brings it back.

        Args:
            path: the file; its folder is made if need be.
            about: facts that travel with it, such as its name and its seed.
            precision: "float16", "int8" or "int4" rounds the weights, for a file of a half, a quarter or an eighth the
                size; see `pack`.
        """
        return write_model(self, path, about, precision=precision)


class OnlineModel(Model, Protocol):
    """A model that learns from one batch after the other, too: `OnlineClassifier`, `AssociationClassifier`.

    Examples:
        >>> from neuropil.models import OnlineClassifier
        >>> model = OnlineClassifier(nn.Sequential(nn.Flatten()))
        >>> for x, y in ((torch.zeros(1, 2), 0), (torch.ones(1, 2), 1)):
        ...     model = model.partial_fit(x, torch.tensor([y]), classes=2)
        >>> model.predict(torch.full((1, 2), 0.9))
        tensor([1])
    """

    def partial_fit(self, x: Tensor, y: Tensor, *, classes: int | None = None) -> Self:
        """Learn from one batch (batch, *shape) and its labels (batch,), once; `classes`, in all, in the first call."""


class NotFitted(Refusal, AttributeError):
    """A model was asked for what it has not learned yet."""


def not_fitted(model: object, name: str) -> NoReturn:
    """The ``__getattr__`` of a model: what `fit` makes ends with an underscore."""
    who = type(model).__name__
    if name.endswith("_") and not name.startswith("_"):
        raise NotFitted(
            f"this {who} is not fitted; call fit(train, rng=...) first, or bring one back with neuropil.load."
        )
    raise AttributeError(f"{who!r} object has no attribute {name!r}")


def begin_fit(model: Any, train: object, rng: object) -> None:
    """Refuse examples or a generator that are none, as they are handed to `fit`; remember how they are to be read."""
    who = type(model).__name__
    if not isinstance(train, Split):
        raise Refusal(f"{who} learns from a Split, as of Split.from_numpy(x, y), got {type(train).__name__}.")
    require(len(train) > 0, f"{who} needs examples to learn from, got a split of none.")
    if not isinstance(rng, Generator):
        raise Refusal(f"{who} needs rng=torch.Generator().manual_seed(0) or another, got {rng!r}.")
    check_alike(who, train.x, train.y, rng)
    model.names_, model.columns_ = train.names, train.columns


def copied(model: object, body: nn.Module, device: torch.device) -> Any:
    """A copy of `body` on `device`, for a model to learn with; weights that nothing can learn from are refused."""
    who = type(model).__name__
    for name, weight in (*body.named_parameters(), *body.named_buffers()):
        where = f"{who} needs a body whose weights are there and in float32; {name!r}"
        require(not is_lazy(weight), f"{where} has no size yet: let a batch through the body first.")
        require(not weight.is_meta, f"{where} is on the device meta, which holds no numbers: make the body on the cpu.")
        fits = not weight.is_floating_point() or weight.dtype == torch.float32
        require(fits, f"{where} is {str(weight.dtype).removeprefix('torch.')}: give it body.float().")
    try:
        return deepcopy(body).to(device)
    except RuntimeError as error:  # an old weight_norm, whose weight is no leaf
        cure = "use torch.nn.utils.parametrizations in place of an old weight_norm or spectral_norm"
        raise Refusal(f"the body of {who} cannot be copied ({str(error).split('.')[0]}); {cure}.") from error


def as_batch(model: object, x: Tensor, y: Tensor, classes: int | None, known: int | None) -> Split:
    """A batch as handed to `partial_fit`, in float32; every example has a label.

    Args:
        model: named in refusals.
        x, y: examples and labels.
        classes: what the caller says is the number of classes, if anything.
        known: what the model knows it to be, if it has begun.
    """
    who, count = type(model).__name__, known if classes is None else classes
    if count is None:
        raise Refusal(f"the first partial_fit of {who} needs the number of all classes: partial_fit(x, y, classes=10).")
    if known not in (None, count):
        raise Refusal(
            f"this {who} has learned {known} classes, got classes={count}; leave it out, or make a new model."
        )
    split = Split(x, torch.as_tensor(y), count, channels_first=True)
    split.check_labelled(who)
    (batch,) = split.batches(len(split))
    return batch


def as_examples(model: object, x: Tensor, network: str = "network_") -> Tensor:
    """`x` in the dtype of the `network` of a model, with its gradient; uint8 images are divided by 255.

    Examples on another device than the network are refused.
    """
    if not isinstance(x, Tensor):
        cure, what = "give split.x" if isinstance(x, Split) else "use torch.as_tensor", type(model).__name__
        raise Refusal(f"{what} classifies a tensor (n, *shape), got {type(x).__name__}; {cure}.")
    weights = (one for one in getattr(model, network).parameters() if one.is_floating_point())
    weight = next(weights, x.new_empty(0, dtype=torch.float32))
    if weight.device != x.device:
        where = f"{type(model).__name__} is on {weight.device}, got examples on {x.device}"
        raise Refusal(f"{where}; move them with x.to({str(weight.device)!r}).")
    return x.to(weight.dtype) / 255 if x.dtype == torch.uint8 else x.to(weight.dtype)


@contextmanager
def fitting(model: object, x: Tensor) -> Iterator[None]:
    """Within, what torch says is a refusal that names the shape of examples, if even one of them cannot pass."""
    try:
        with enough_memory():
            yield
    except RuntimeError as error:
        if _passes(model, x[:1]):
            raise
        cure = "give them the shape of those it was fitted to"
        raise cannot_take(type(model).__name__, x, error, cure) from error


def _passes(model: Any, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            model.forward(x)
    except RuntimeError:
        return False
    return True


def cannot_take(who: str, x: Tensor, error: RuntimeError, cure: str) -> Refusal:
    """A refusal that names the shape of examples, with what torch said of them."""
    return Refusal(f"{who} cannot take examples of shape {tuple(x.shape[1:])} ({str(error).splitlines()[0]}); {cure}.")


class Classifier(Model):
    """A model whose scores are those of its `forward`, batch by batch: the others follow from it.

    Attributes:
        shown: the settings that `repr` shows.
        shares: whether several processes can learn it together.
    """

    shown: ClassVar[tuple[str, ...]]
    shares: ClassVar[bool] = False
    network_: Any

    if not TYPE_CHECKING:
        __getattr__ = not_fitted

    @torch.no_grad()
    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) scores, those of `forward` without a gradient."""
        as_examples(self, x[:0])  # refuses what is no tensor; `forward` takes care of each part
        with fitting(self, x):
            return torch.cat([self.forward(part) for part in x.split(1000)])

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels: the class with the largest score. Scores that are NaN are refused."""
        scores = self.decision_function(x)
        unknown = int(scores.isnan().any(1).sum())
        require(not unknown, f"the scores of {unknown} of {len(scores)} examples are NaN, so they have no label.")
        return scores.argmax(1)

    def __repr__(self) -> str:
        shown = [f"{name}={_show(getattr(self, name))}" for name in self.shown]
        if "network_" in vars(self):
            sizes = [f"{layer.name} {tuple(layer.weight.shape)}" for layer in self.feature_layers()]
            shown.append("fitted: " + (", ".join(sizes) or "no hidden layer"))
        return f"{type(self).__name__}({', '.join(shown)})"


def feature_layers_of(body: nn.Sequential, features: int) -> list[FeatureLayer]:
    """The dense and convolutional layers of `body`, from below.

    The activity of a dense layer on top is the output of `body`, if that has one feature for each unit. Of all other
    layers it is the drive.

    Args:
        body: maps a batch to features.
        features: how many come out, flattened.
    """
    found = [*{layer.weight.untyped_storage()._cdata: layer for layer in _layers(body)}.values()]  # each weight once
    if found and found[-1].weight.ndim == 2 and len(found[-1].weight) == features:
        found[-1] = found[-1]._replace(module=body)
    return found


def _layers(body: nn.Sequential) -> list[FeatureLayer]:
    found = []
    for index, (name, child) in enumerate(layers_of(body).items()):
        weight = getattr(child, "weight", None)
        if isinstance(child, nn.Sequential):
            below = () if isinstance(body, Beside) else (body[:index],)
            inner = [(layer, nn.Sequential(*below, layer.module)) for layer in _layers(child)]
            found += [FeatureLayer(f"{name}.{layer.name}", module, layer.weight) for layer, module in inner]
        elif isinstance(weight, Tensor) and weight.ndim > 1:
            found.append(FeatureLayer(name, body[: index + 1], weight.detach()))
    return found


def _show(value: Any) -> str:
    """A setting in a line; a sequence of layers by the names of their classes."""
    if isinstance(value, nn.Sequential):
        return " > ".join(type(layer).__name__ for layer in value) or "nothing"
    return repr(value)
