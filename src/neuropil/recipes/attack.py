"""The robustness suite on the learners of a finished run: attacks, checks for masking, corruptions, damage.

Nothing is trained: the learners come back as the run kept them, and have to name as many test examples right as the
run wrote down, or are refused.

Try: neuropil attack DIR
"""

from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

from neuropil.data import Split
from neuropil.errors import Refusal, require, unknown
from neuropil.evaluate import accuracy, majority_rate
from neuropil.experiments.comparison import Comparison, Method
from neuropil.experiments.robustness import Attacks, attack_all, revived
from neuropil.report.results import folders_of
from neuropil.runs import Record, ResultRow, Run, TaggedTracker, load_recipe_file, read


@dataclass(frozen=True)
class Config(Attacks):
    """Which run, and how hard."""

    of: str = ""
    """folder of a finished run, or one that holds folders of runs with different seeds"""
    tasks: tuple[str, ...] = ()
    """of a run of several tasks attack only these ("mnist 4 or 9"), all if none is named"""
    recipe: str = ""
    """file of the recipe if the run is of one of your own (mine.py); its code is run"""


def main(config: Config, run: Run) -> None:
    """Runs outside, seeds inside; every attack can be resumed."""
    require(bool(config.of), "setting 'of' is needed: the folder of the run whose learners are attacked.")
    records = [read(folder) for folder in folders_of(Path(config.of))]
    for record in records:
        plans = chosen(comparisons_of(record, config.recipe), config.tasks)
        run.update_metadata(attacked={str(record.folder): record.facts.get("data", {})})
        each = [(plan, seed) for plan in plans for seed in plan.seeds]
        for step in run.loop(f"tasks and seeds of {record.folder.name}", len(each)):
            plan, seed = each[step]
            train, test = plan.splits(seed)
            methods = revived(plan, train, record.folder, seed)
            for method in methods:
                confirm(method, record, train, test, plan.data, seed, run)
            attack_all(methods, test, config, data=plan.data, seed=seed, run=run)


def chosen(plans: list[Comparison], tasks: tuple[str, ...]) -> list[Comparison]:
    """Those of the named tasks; all if none is named."""
    known = {plan.data: plan for plan in plans}
    for name in tasks:
        if name not in known:
            raise unknown("task", name, known)
    return [known[name] for name in tasks] or plans


def comparisons_of(record: Record, own: str) -> list[Comparison]:
    """What the run compared, from its recipe and its settings: several comparisons if it had several tasks.

    `own` is the file of the user's recipe, empty if the recipe is one of these.
    """
    require(record.finished, f"the run in {record.folder} is unfinished; go on with neuropil run --resume first.")
    name, recipes = record.recipe, {file.stem for file in Path(__file__).parent.glob("[!_]*.py")}
    if own:
        require(own.endswith(".py") and Path(own).is_file(), f"there is no recipe file {own}.")
    elif name.endswith(".py"):
        raise Refusal(f"{record.folder} is of {name}, whose code is run only if you name it; add --recipe {name}.")
    elif name not in recipes:
        raise unknown("recipe", name, recipes)
    recipe = load_recipe_file(Path(own)) if own else import_module(f"neuropil.recipes.{name}")
    offers = hasattr(recipe, "comparison")
    require(offers, f"recipe {name!r} has no function comparison(config) that says how its learners come back.")
    known = {field.name for field in fields(recipe.Config)}
    strange = set(record.config) - known
    require(
        not strange, f"{name} has no setting {', '.join(sorted(strange))} any more; attack the run with its version."
    )
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in record.config.items()}
    plans = recipe.comparison(recipe.Config(**settings))
    return plans if isinstance(plans, list) else [plans]


def confirm(method: Method, record: Record, train: Split, test: Split, data: str, seed: int, run: Run) -> None:
    """Log the accuracy of a revived learner, which must be the one that its run wrote down."""
    found = accuracy(method.learner, test)
    wanted = {"learner": method.name, "data": data, "seed": seed}
    rows = [row for row in record.rows if row["kind"] in ("result", "pair")]
    said = [row["accuracy"] for row in rows if wanted.items() <= row.items()]
    require(
        bool(said) and abs(found - said[0]) < 0.005,
        f"{method.name} of {record.folder} names {found:.2%} right, its run wrote {said or 'nothing'}; changed code?",
    )
    tracker = TaggedTracker(run, learner=method.name, family=method.family, data=data, seed=seed)
    tracker.log(ResultRow(n_train=len(train), accuracy=found, majority_rate=majority_rate(test)))
