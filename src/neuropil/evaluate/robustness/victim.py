"""One view of whatever predicts: a learner, a plain network, or a classifier of scikit-learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.data import Split
from neuropil.errors import Refusal, require
from neuropil.evaluate.metrics.accuracy import named_labels
from neuropil.evaluate.robustness.norms import Norm

Function = Callable[[Tensor], Tensor]
TOLERANCE = 1e-3  # to which scores of the same examples agree, as a fraction of the largest


class Differentiable(Protocol):
    """A learner that lets a white-box attack such as `PGD` look inside."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes), its scores with their exact gradient by x; the largest names the class."""


@dataclass(frozen=True)
class Victim:
    """What attacks may ask, each answer checked: shapes, labels in range, no NaN; `victim_of` makes it.

    Attributes:
        predict: (n, *shape) to (n,) labels.
        decision_function: (n, *shape) to (n, classes), the largest for the class it names; None if it has none.
        forward: the same with gradient; None if it has no exact gradient.
    """

    predict: Function
    decision_function: Function | None = None
    forward: Function | None = None


def victim_of(learner: Any, classes: int) -> Victim:
    """The view of `learner`, which tells one of `classes` apart.

    Args:
        learner: a `Victim`, or anything with ``predict`` on tensors, and perhaps ``decision_function`` and ``forward``
            (`Differentiable`). An ``nn.Module`` in evaluation mode that makes scores is taken, too. So is a fitted
            classifier of scikit-learn: it sees examples flattened, and its classes are whole numbers from 0.
        classes: number of classes.

    Raises:
        Refusal: it cannot predict, or, when asked, it answers with NaN or another number of classes.
    """
    if isinstance(learner, Victim):
        return learner
    if isinstance(learner, nn.Module):
        check_evaluating(learner)
    if isinstance(learner, nn.Module) and not hasattr(learner, "predict"):
        return _of_module(learner, classes)
    if isinstance(getattr(learner, "classes_", None), np.ndarray) and hasattr(learner, "predict"):
        return _of_sklearn(learner, classes)
    who = type(learner).__name__
    require(hasattr(learner, "predict"), f"an attack needs something with predict(x), got {who}, which has none.")
    scores, forward = (getattr(learner, name, None) for name in ("decision_function", "forward"))
    return Victim(
        checked_labels(learner.predict, classes, who),
        checked_scores(scores, classes, who) if scores else None,
        checked_scores(forward, classes, who) if forward else None,
    )


def ensemble(victims: Sequence[Victim]) -> Function:
    """The mean log probability of several differentiable victims, for attacks that shall carry over to another."""
    inside = [victim.forward for victim in victims if victim.forward is not None]
    require(len(inside) > 0, "an ensemble to craft on needs a differentiable member, got none.")
    return lambda x: torch.stack([forward(x).log_softmax(1) for forward in inside]).mean(0)


def _of_module(network: nn.Module, classes: int) -> Victim:
    who = type(network).__name__
    kind = next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.float32)
    forward = checked_scores(lambda x: network(x.to(kind)), classes, who)
    scores = torch.no_grad()(forward)
    return Victim(lambda x: scores(x).argmax(1), scores, forward)


def _of_sklearn(classifier: Any, classes: int) -> Victim:
    """Its probabilities, or else what its decision function says; none if it has neither."""
    who, names = type(classifier).__name__, np.asarray(classifier.classes_)
    message = f"{who} needs the classes 0 to {classes - 1}, got {names.tolist()}; fit it on examples of all of them."
    require(names.tolist() == list(range(classes)), message)
    ask = next((n for n in ("predict_proba", "decision_function") if callable(getattr(classifier, n, None))), None)

    def scores(x: Tensor) -> Tensor:
        made = torch.as_tensor(np.asarray(getattr(classifier, str(ask))(x.flatten(1).cpu().numpy())))
        return torch.stack([-made, made], 1) if made.ndim == 1 else made

    def predict(x: Tensor) -> Tensor:
        return torch.as_tensor(np.asarray(classifier.predict(x.flatten(1).cpu().numpy()))).long()

    return Victim(checked_labels(predict, classes, who), checked_scores(scores, classes, who) if ask else None)


def check_evaluating(network: nn.Module) -> None:
    """Refuse a network of which any layer is in training mode."""
    training = [name or "the whole" for name, layer in network.named_modules() if layer.training]
    if training:
        who, which = type(network).__name__, ", ".join(training[:3])
        raise Refusal(f"{who} is in training mode ({which}), in which its answers may change; call eval() first.")


def check_repeats(victim: Victim, test: Split) -> None:
    """Refuse a victim that answers otherwise when it is asked about the same examples again.

    What withstands two attacks is counted image by image, which needs one answer for each image.
    """
    some = test[:100].pixels()
    other = int((victim.predict(some) != victim.predict(some)).sum())
    if victim.decision_function is not None and not other:
        scores, again = victim.decision_function(some), victim.decision_function(some)
        close = TOLERANCE * scores[scores.isfinite()].abs().amax() if bool(scores.isfinite().any()) else 0
        other = int((~((scores == again) | ((scores - again).abs() <= close)).all(1)).sum())
    if other:
        cure = "seed its noise anew in every call, or attack the mean of many answers"
        raise Refusal(
            f"an attack needs equal answers to equal questions, got others for {other} of {len(some)}; {cure}."
        )


def check_asked(attack: Any, name: str) -> None:
    """Refuse an `attack` whose function `name` cannot be asked, or whose norm is none."""
    asked, norm, who = getattr(attack, name), attack.norm, type(attack).__name__
    if not callable(asked):
        raise Refusal(f"{who} needs a function as {name}, got {asked!r}; if a learner has none, take another attack.")
    if not isinstance(norm, Norm):
        raise Refusal(f"{who} needs a norm such as Linf() or L2(), got {norm!r}.")
    network = getattr(asked, "__self__", asked)  # of a bound method such as network.forward
    if isinstance(network, nn.Module):
        check_evaluating(network)
        casts = name == "predict" and network is not asked  # a method of its own may convert what it is given
        kinds = set() if casts else {one.dtype for one in network.parameters() if one.is_floating_point()}
        kinds -= {torch.float32}
        cure = f"call float() first, or pass victim_of(network, classes).{name}"
        require(not kinds, f"{who} needs a network in float32, got {[*kinds][:1]}; {cure}.")


def checked_labels(predict: Callable[[Tensor], Any], classes: int, who: str) -> Function:
    """`predict`, refused where it does not name one of `classes` for every example; -1 may say "none"."""
    return lambda x: named_labels(predict(x), len(x), classes, who).to(x.device)


def checked_scores(scores: Function, classes: int, who: str) -> Function:
    """`scores`, refused where they have NaN or another number of classes."""

    def scored(x: Tensor) -> Tensor:
        try:
            made = torch.as_tensor(scores(x)).to(x.device)
        except (TypeError, ValueError) as error:
            raise Refusal(f"{who} needs a tensor of scores: {error}.") from error
        if made.shape != (len(x), classes):
            shape = tuple(made.shape)
            raise Refusal(f"{who} needs scores ({len(x)}, {classes}), got {shape}; other classes?")
        bad = int(made.detach().isnan().any(1).sum())
        if bad:
            raise Refusal(f"{who} gave NaN scores for {bad} of {len(x)} examples; did its training diverge?")
        return made if made.is_floating_point() else made.float()

    return scored
