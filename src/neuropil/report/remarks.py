"""What a reader of the results has to know: unfinished, failed and uneven runs, and warnings, in sentences."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuropil.report.results import Results, damage_of, plain
from neuropil.report.stats import counted, interval, percent, recall, spans
from neuropil.runs import AttackRow, ConfusionRow

UNEVEN = 1.5  # times an even share, from which on the size of the largest class is told

__all__ = [
    "FEW",
    "Warned",
    "classes_of",
    "few_seeds_of",
    "remarks_on",
    "sizes",
    "uneven_of",
    "warnings_of",
    "without_numbers",
]


@dataclass(frozen=True)
class Warned:
    """One warning about a learner.

    Attributes:
        first: its sentence in the first seed.
        sentences: seed by seed, if they differ; in numbers only.
        seeds: the seeds that have it.
    """

    first: str
    sentences: list[str]
    seeds: list[int]


def remarks_on(results: Results) -> list[str]:
    """What a reader of the bare table has to know: unfinished runs, uneven comparisons, warnings."""
    counts = [f"{name} ({count})" for name, count in counts_of(warnings_of(results)).items()]
    counted = [f"Warnings: {', '.join(counts)}."] if counts else []
    return [
        *held_out_of(results),
        *altered_of(results),
        *unfinished_of(results),
        *failed_of(results),
        *uneven_of(results),
        *splits_of(results),
        *classes_of(results),
        *counted,
    ]


def counts_of(warnings: Mapping[str, Sequence[Warned]]) -> dict[str, int]:
    """Learner -> how many warnings it has."""
    return {name: sum(len(one.seeds) for one in found) for name, found in warnings.items()}


def unfinished_of(results: Results) -> list[str]:
    """One sentence about unfinished runs, if there are any."""
    names = ", ".join(results.unfinished)
    return [f"Unfinished: {names}. What an unfinished run has logged is shown, but enters no mean."] if names else []


def held_out(results: Results) -> bool:
    """Whether all runs scored held-out training examples."""
    return bool(results.runs) and all("hold_out" in run.record.facts for run in results.runs)


def held_out_of(results: Results) -> list[str]:
    """One sentence on the runs that scored held-out training examples, if there are any."""
    names = [run.name for run in results.runs if "hold_out" in run.record.facts]
    who = "Accuracies are" if held_out(results) else f"Accuracies of {', '.join(names)} are"
    return [f"{who} of held-out training examples, not of the test set."] if names else []


def altered_of(results: Results) -> list[str]:
    """One sentence for each run with damaged lines, and for each that went on though something had changed."""
    said = [text for run in results.runs for text in damage_of(run)]
    for run in results.runs:
        again = [one for one in run.record.facts.get("resumed", []) if isinstance(one, dict)]
        what = [plain(change) for one in again for change in one.get("changed", [])]
        if what:
            said.append(f"Changed: {run.name} was resumed after a change ({'; '.join(dict.fromkeys(what))}).")
    return said


def failed_of(results: Results) -> list[str]:
    """One sentence for each learner that failed or was left out, and each reason; those of a kind once."""
    said = []
    for one in results.summaries:
        reasons: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for seed, words in one.failed.items():
            reasons[without_numbers(words)].append((seed, words))
        where = f" on {one.data}" * (len(results.data) > 1)
        for found in reasons.values():
            seeds = f"seed{'s' * (len(found) > 1)} {spans(seed for seed, _ in found)}"
            said.append(f"{one.learner}{where}, {found[0][1].rstrip('.')} ({seeds}).")
    return said


def few_seeds_of(results: Results) -> list[str]:
    """What one or two seeds can tell, if there are no more."""
    most = max((len(one.accuracy) for one in results.summaries), default=0)
    return [FEW[most]] if most in FEW else []


FEW = {
    1: "One seed: there is no interval, and another seed may order the methods differently. Take more with --seeds 5.",
    2: "Two seeds: their interval reaches six times their distance to either side, and is 0 where they are equal. "
    "Read the two themselves, or take more with --seeds 5.",
}


def uneven_of(results: Results) -> list[str]:
    """Where learners on one data set had different seeds or different numbers of training examples."""
    said = []
    for data in results.data:
        done = [summary for summary in results.on(data) if summary.accuracy]
        if len({frozenset(summary.accuracy) for summary in done}) > 1:
            each = "; ".join(f"{summary.learner}: {spans(summary.accuracy)}" for summary in done)
            said.append(f"Uneven on {data}: the learners did not all run the same seeds ({each}).")
        if len({summary.n_train for summary in done}) > 1:
            each = "; ".join(f"{summary.learner}: {sizes(summary.n_train)}" for summary in done)
            said.append(f"Uneven on {data}: the learners saw different numbers of training examples ({each}).")
    return said


def splits_of(results: Results) -> list[str]:
    """Where each seed splits the same examples anew: seeds are then not independent, and intervals too narrow."""
    tests: dict[str, set[str]] = defaultdict(set)
    for name, parts in (item for run in results.runs for item in _data_of(run.record.facts)):
        several = parts.values() if isinstance(parts, dict) and "test" not in parts else [parts]
        tests[name].update(str(part["test"]) for part in several if isinstance(part, dict) and "test" in part)
    return [_said_of_splits(results, name, len(found)) for name, found in tests.items() if len(found) > 1]


def _data_of(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Data sets that a run has seen, with their checksums, and those of the runs that it attacked."""
    for seen in (facts.get("data", {}), *facts.get("attacked", {}).values()):
        yield from seen.items()


def _said_of_splits(results: Results, data: str, seeds: int) -> str:
    counts = [int(counted(row.matrix, "").sum()) for row in results.of(ConfusionRow) if (row.data or "") == data]
    counts += [row.n_test for row in results.of(AttackRow) if (row.data or "") == data and row.n_test]
    trained = [count for one in results.on(data) for count in one.n_train]
    said = (
        f"Each seed chose its test examples from all of {data}. So seeds share examples, and intervals are too narrow"
    )
    if not counts or not trained or not min(trained):
        return said + "."
    wider = math.sqrt(1 + seeds * counts[0] / max(trained))
    return f"{said}: by a factor of about {wider:.1f}, after Nadeau & Bengio 2003 (Machine Learning 52)."


def classes_of(results: Results) -> list[str]:
    """Where the classes of a data set are of uneven size: what a constant answer gets, and accuracy by class."""
    said = []
    for data in results.data:
        rows = [row for row in results.of(ConfusionRow) if (row.data or "") == data and row.learner]
        counts = counted(rows[0].matrix, str(rows[0].learner)).sum(1) if rows else np.zeros(1)
        seen, largest = int((counts > 0).sum()), int(counts.argmax())
        if seen < 2 or counts[largest] <= UNEVEN / seen * counts.sum():
            continue
        name = plain(rows[0].classes[largest]) if rows[0].classes else str(largest)
        who = [one.learner for one in results.on(data)]
        each = {learner: [recall(row.matrix, learner) for row in rows if row.learner == learner] for learner in who}
        told = "; ".join(f"{learner} {percent(*interval(found))}" for learner, found in each.items() if found)
        share = f"{100 * counts[largest] / counts.sum():.1f} %"
        said.append(
            f"The classes of {data} differ in size: to answer always {name!r} is right for {share} of the examples. "
            f"Balanced accuracy, the mean over classes, %: {told}."
        )
    return said


def sizes(counts: Sequence[int]) -> str:
    """'1,437 or 2,000'."""
    return " or ".join(f"{count:,}" for count in counts) or "unknown"


def warnings_of(results: Results, *, baselines: bool = False) -> dict[str, list[Warned]]:
    """Learner -> its warnings, of methods or of baselines; sentences that differ in numbers only are one."""
    found: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    family = {one.learner: one.family for one in results.summaries}
    for row in results.warnings:
        if (family.get(row.learner or "", row.family) == "baseline") != baselines:
            continue
        message = plain(row.message)
        found[row.learner or "the run"][without_numbers(message)].append((row.seed or 0, message))
    return {name: [warned(sorted(rows)) for rows in kinds.values()] for name, kinds in found.items()}


def without_numbers(text: str) -> str:
    """`text` with every number as 0, so that sentences of a kind are equal."""
    return re.sub(r"\d+(\.\d+)?", "0", text)


def warned(rows: Sequence[tuple[int, str]]) -> Warned:
    """One warning from its (seed, sentence), in the order of seeds."""
    different = len({message for _, message in rows}) > 1
    sentences = [f"seed {seed}: {message}" for seed, message in rows] if different else []
    return Warned(rows[0][1], sentences, [seed for seed, _ in rows])
