"""The kinds of row that a run logs: the writer fills in a class, the reader gets the same class back.

A column that is misspelt is therefore an error for mypy, at both ends.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, dataclass_transform

KINDS: dict[str, type["Row"]] = {}  # what parse_row knows; filled in by the classes below


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of metrics.jsonl. A kind of your own is a `Row` with that `kind` and its columns in `metrics`.

    Every class that inherits from it is such a dataclass, too; `EpochRow` is of kind "epoch".

    Attributes:
        kind: what the row is about.
        learner, family, data, seed: whose numbers they are; a `TaggedTracker` fills them in.
        metrics: further columns, by name.

    >>> Row(kind="tuning", seed=0, metrics={"lr": 0.1}).columns()
    {'kind': 'tuning', 'seed': 0, 'lr': 0.1}
    """

    kind: str = "other"
    learner: str | None = None
    family: str | None = None
    data: str | None = None
    seed: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __init_subclass__(cls) -> None:
        cls.kind = cls.__name__.removesuffix("Row").lower()
        cls.__annotations__ = {"kind": str, **cls.__annotations__}
        KINDS[cls.kind] = dataclass(frozen=True, kw_only=True)(cls)

    def columns(self) -> dict[str, Any]:
        """The row as it is written: its columns by name, without those that are None."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "metrics"}
        return {name: value for name, value in own.items() if value is not None} | dict(self.metrics)


class MethodRow(Row):
    """What a method does, in one sentence, and a `link` to where it comes from. `Run` logs it."""

    about: str
    link: str = ""


class ImagesRow(Row):
    """Small images that the run saved, and a word for each.

    Attributes:
        title: what they are; the report shows images of one title together.
        tensor: name under which `Run.save` saved them: (n, channels, height, width), uint8, or float in [0, 1].
        words: what stands below each; none for no words.
        caption: what else a reader has to know.
        per_line: images in a line; 0 for as many as fit.
    """

    title: str
    tensor: str
    words: Sequence[str] = ()
    caption: str = ""
    per_line: int = 0


class ResultRow(Row):
    """What a fitted learner reached on the test set. One per learner, data set and seed of a run.

    Attributes:
        n_train: number of training examples.
        accuracy: fraction of the test set classified correctly, in [0, 1].
        majority_rate: fraction of the test set in its most common class.
        seconds: time of the fit, s.
        peak_mb: largest memory during the fit, MiB.
        baseline: the learner that this one is compared with.
    """

    accuracy: float
    n_train: int | None = None
    majority_rate: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    baseline: str | None = None


class FailedRow(Row):
    """Why a learner has no result: it cannot take the data, or its training `diverged`. `Run` logs it."""

    reason: str
    diverged: bool = False

    @property
    def words(self) -> str:
        """'failed: why' or 'left out: why'."""
        return f"{'failed' if self.diverged else 'left out'}: {self.reason}"


class EpochRow(Row):
    """The `metrics` of one epoch of training.

    Attributes:
        stage: the part of the training that it belongs to.
        epoch: its number, from 0.
    """

    stage: str = "training"
    epoch: int


class LabelsRow(Row):
    """The test `accuracy` of a learner that saw only `n_labels` labelled examples."""

    n_labels: int
    accuracy: float


class ConfusionRow(Row):
    """Test examples counted by class: true class in rows, predicted class in columns; `classes` are called so.
    `Run` logs it.
    """

    matrix: Sequence[Sequence[int]]
    classes: Sequence[str] | None = None


class UnitsRow(Row):
    """Statistics of the units of one layer; see `neuropil.evaluate.UnitStatistics`. `Run` logs it."""

    layer: str = ""
    wins: Sequence[float] = ()
    norms: Sequence[float] = ()
    dead: float = math.nan
    converged: float = math.nan
    effective_rank: float = math.nan
    win_entropy: float = math.nan


class WarningRow(Row):
    """A sentence about a result that should not be trusted without a look. `Run` logs it."""

    message: str


class SamplesRow(Row):
    """Scores of generated images; see `neuropil.evaluate.GenerationScores`. `Run` logs it.

    Attributes:
        source: what made the images.
        n: number of images.
        attempts: mean number of attempts for one image.
        reference_accuracy: test accuracy of the reference classifier.
    """

    source: str
    n: int
    attempts: float
    reference_accuracy: float
    class_accuracy: float
    pixel_variance: float
    feature_variance: float
    frechet: float
    nearest: float


class AttackRow(Row):
    """Accuracy under one attack of one budget. `Run` logs it.

    Attributes:
        norm: of the budget, "Linf" or "L2".
        attack: its name.
        access: what it knows: "white box", "black box" or "floor".
        size: the budget.
        accuracy: fraction of the examples that are still classified correctly.
        invalid: whether a check for gradient masking failed, so that the accuracy is an upper bound at best.
        n_test: number of examples.
    """

    norm: str
    attack: str
    access: str = ""
    size: float
    accuracy: float
    invalid: bool = False
    n_test: int | None = None


class CheckRow(Row):
    """One check of one attack for gradient masking: whether it `passed`, and the `finding` in words. `Run` logs it."""

    norm: str
    attack: str
    check: str
    passed: bool
    finding: str


class MatchedRow(Row):
    """A learner and the linear classifier on the `n_both` examples that both classify correctly. `Run` logs it.

    Attributes:
        norm, size: the budget.
        accuracy: fraction that no attack on the learner changed.
        linear: name of the linear classifier.
        linear_accuracy: fraction that no attack on the linear classifier changed.
        n_both: number of examples.
    """

    norm: str
    size: float
    accuracy: float
    linear: str
    linear_accuracy: float
    n_both: int


class CorruptionRow(Row):
    """The `accuracy` on corrupted images; `severity` is 1 to 5."""

    corruption: str
    severity: int
    accuracy: float


class DamageRow(Row):
    """The `accuracy` of a damaged network; `severity` is 1 to 5 and `amount` what it means for this damage."""

    damage: str
    severity: int
    amount: float
    accuracy: float
