"""Run folders for the tests of the report."""

import math
from pathlib import Path

from neuropil.runs import Run, parse_row

LOCAL, BASELINE, HOSTILE = "SoftHebb", "backprop", "<script>alert('$x$')</script>|*a*\x1b[31m\"&"


def make(folder: Path, rows, *, finish=True, save=None, command="neuropil compare --data digits", data=None, facts=()):
    """A run folder with these rows, given as (kind, row)."""
    run = Run.start(folder, recipe="compare", config={"lr": 0.04, "note": "<b>"}, command=command)
    for kind, row in rows:
        run.log(parse_row({"kind": kind, **row}))
    run.save(**(save or {}))
    run.update_metadata(**dict(facts), **({"data": data} if data else {}))
    run.finish() if finish else run.close()
    return folder


def result(learner=LOCAL, seed=0, accuracy=0.9, data="digits", **more):
    row = {"learner": learner, "data": data, "seed": seed, "n_train": 1437, "accuracy": accuracy}
    return "result", {**row, "seconds": 2.0 + seed, "peak_mb": 300.0, **more}


def pairs(shift=0.0):
    """Three seeds of a learner and its baseline, logged in different orders, one seed only with the learner."""
    scores = {0: 0.90, 1: 0.80, 2: 0.70, 3: 0.10}
    gaps = {0: 0.01, 1: 0.02, 2: 0.03}
    ours = [result(seed=seed, accuracy=scores[seed] + shift) for seed in (3, 1, 0, 2)]
    return ours + [result(BASELINE, seed, scores[seed] - gaps[seed], family="baseline") for seed in (2, 0, 1)]


def everything(learner=LOCAL, seeds=(0, 1)):
    """Rows of every kind."""
    rows = []
    for seed in seeds:
        rows += [result(learner, seed, 0.9 + 0.01 * seed, majority_rate=0.1), result(BASELINE, seed, 0.95)]
        curve = [{"loss": 2.0**-epoch, "train_accuracy": 1 - 2.0**-epoch, "odd": math.nan} for epoch in range(1, 9)]
        rows += [
            ("epoch", {"learner": learner, "seed": seed, "stage": "head", "epoch": k, **c}) for k, c in enumerate(curve)
        ]
        about = {"learner": learner, "data": "digits", "seed": seed}
        rows += [("labels", {**about, "n_labels": n, "accuracy": 1 - 1 / n}) for n in (10, 100, 1000)]
        rows += [("confusion", {**about, "matrix": [[9, 1], [3, 7]]})]
        rows += [
            (
                "units",
                {
                    **about,
                    "layer": "hidden",
                    "dead": 0.25,
                    "converged": 0.5,
                    "effective_rank": 3.0,
                    "wins": [0, 1, 5, 900],
                    "norms": [1.0, 1.1, 0.9, 1.0],
                },
            )
        ]
        rows += [("raster", {**about, **trial_of_spikes()}), ("silence", {**about, **way_out_of_silence()})]
        trains = {"title": "After <i>", "trains": [[0.1, 0.2, 0.9], [], [0.5]], "t_end": 1.0}
        rows += [("spiketrains", {**about, **trains})]
        rows += [("potentials", {**about, "title": "v", "v": [[-0.06, -0.05]], "dt": 0.5, "trains": [[0.2]]})]
        rows += [("weights", {**about, "title": "w", "times": [0.0, 1.0], "weights": [[0.1] * 9, [0.3] * 9]})]
        if seed == seeds[0]:
            rows += [("method", {**about, "about": "It learns <i>.", "link": "https://example.org/paper"})]
            rows += [("method", {**about, "learner": BASELINE, "about": "All at once.", "link": "javascript:alert(1)"})]
            images = {
                "title": "Misclassified <i>",
                "tensor": "wrong",
                "words": ["1 → 0", "<b>"],
                "caption": "One < two",
            }
            rows += [("images", {**about, **images}), ("tuning", {"seed": 0, "lr": 0.1, "note": "<u>"})]
        rows += [("warning", {"learner": learner, "seed": seed, "message": f"{12 + seed} units never win <i>"})]
    return rows


def trial_of_spikes():
    """Two inputs of which one is silent, three hidden neurons, two outputs; the end of the trial is 2."""
    times = {"input": [[0.5], []], "hidden": [[6.0], [1.5, 1.9], [1.0]], "output": [[4.0], [1.75]]}
    return {"t_end": 2.0, "label": 1, "layers": [{"name": name, "times": rows} for name, rows in times.items()]}


def way_out_of_silence():
    """Two outputs over five networks; the second one comes into the trial at the last but one."""
    times = [[4.0, 3.0], [4.5, 2.8], [5.0, 2.2], [5.0, 1.9], [5.0, 1.5]]
    about = {"t_end": 2.0, "label": 1, "path": [0.0, 0.25, 0.5, 0.75, 1.0], "times": times}
    return {**about, "gradient": [0.3, 0.5, 0.9, 0.8, 0.7], "spikes": [0, 0, 3, 5, 6]}
