"""Settings that Optuna proposes from what earlier ones have reached, the same however often the search is stopped."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from neuropil.errors import Refusal, optional, require
from neuropil.sweeps.axes import Axis, Setting

JOURNAL = "journal.log"
TRIES = 20  # proposals before a search says that there is nothing new


class Alone:
    """The lock of a journal that has no other writer: the folder of a sweep is held by one process."""

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing was held."""


class Search:
    """Proposals of Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24), kept in its journal.

    The sampler gets its seed anew for every proposal. So a proposal follows from its number, the settings before it and
    the values that were told, and not from when the search was stopped.

    Args:
        folder: of the sweep, which this process holds.
        axes: what may be proposed.
        seed: of the proposals.
        known: trial numbers of the settings that the sweep knows; whatever else is open in the journal is dropped.

    Attributes:
        told: numbers of the trials whose value is known.

    Raises:
        Refusal: the journal is damaged, or has lost trials.
    """

    def __init__(self, folder: Path, axes: Sequence[Axis], seed: int, known: Sequence[int]):
        self._optuna: Any = optional("optuna", "--search", extra="sweep")
        journal: Any = optional("optuna.storages.journal", "--search", extra="sweep")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._axes, self._seed, path = axes, seed, folder / JOURNAL
        if path.is_file():
            whole = path.read_bytes()
            if not whole.endswith(b"\n"):  # a line that a kill or a full disk cut off
                os.truncate(path, whole.rfind(b"\n") + 1)  # in place: nothing is written, so a full disk loses nothing
        try:
            storage = self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), Alone()))
            self._study = self._optuna.create_study(
                storage=storage, study_name="sweep", direction="maximize", load_if_exists=True
            )
        except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
            raise Refusal(f"{path} is damaged ({error}); start a new sweep.") from error
        trials = self._study.get_trials(deepcopy=False)
        lost = {*known} - {trial.number for trial in trials}
        require(not lost, f"{path} is damaged: {len(lost)} of {len(known)} settings are not in it; start a new sweep.")
        self.told = {trial.number for trial in trials if trial.state.is_finished()}
        for trial in trials:
            if trial.number not in self.told and trial.number not in known:
                self._drop(trial.number)

    def ask(self, index: int, known: Sequence[Setting]) -> tuple[int, Setting] | None:
        """(trial number, setting) number `index`, which is none of those `known`; None if nothing new is found."""
        for attempt in range(TRIES):
            seed = (self._seed * 1_000_003 + index * TRIES + attempt) % 2**32
            with catch_warnings():
                simplefilter("ignore")  # what was experimental in older versions is not
                self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            trial = self._study.ask()
            setting = {axis.name: self._suggest(trial, axis) for axis in self._axes}
            if setting not in known:
                return trial.number, setting
            self._drop(trial.number)
        return None

    def tell(self, number: int, value: float) -> None:
        """What the setting of a trial has reached."""
        self._study.tell(number, value)
        self.told.add(number)

    def _drop(self, number: int) -> None:
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    @staticmethod
    def _suggest(trial: Any, axis: Axis) -> str:
        if not axis.ranged:
            return str(trial.suggest_categorical(axis.name, axis.values))
        low, high = axis.values
        if axis.whole:
            return str(trial.suggest_int(axis.name, int(low), int(high), log=axis.log))
        return f"{trial.suggest_float(axis.name, float(low), float(high), log=axis.log):.4g}"
