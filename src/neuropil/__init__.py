"""Learning without the global backward pass, in PyTorch, measured fairly against it.

The names below are all there is to start with. Each is loaded when it is first used, so the import itself is quick and
needs no torch. More is in the rooms, for example `neuropil.plasticity` and `neuropil.spiking`.

>>> import neuropil as npl
>>> train, test = npl.load_data("digits")
>>> train
Split(1438 examples of (1, 8, 8), 10 classes)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; _NAMES below says the same
    # isort: off
    from neuropil import distributed as distributed, exchange as exchange, zoo as zoo
    from neuropil.associative import AssociativeNetwork, AssociativeTraining
    from neuropil.data import Split, hold_out, load as load_data, subset
    from neuropil.evaluate import accuracy
    from neuropil.experiments.audit import audit
    from neuropil.experiments.compare_models import compare
    from neuropil.experiments.diagnose import diagnose
    from neuropil.loading import load, saved_models
    from neuropil.zoo import list_models
    from neuropil.models import AssociationClassifier, AssociationTraining, BackpropClassifier, Distort
    from neuropil.models import FeatureClassifier, LocalLearning, Model, PatchNormConv2d, SpikeTimeTraining
    from neuropil.models import SpikingClassifier, SupervisedTraining, Triangle, dense_body, init_examples_
    from neuropil.models import init_kernels_, init_normal_, init_patches_, savable, stacked
    from neuropil.plasticity import BCM, Association, Chosen, Dense, DifferentialHebb, ExplainAway, HardWTA, Hebb
    from neuropil.plasticity import KrotovHopfield, Oja, Rule, Sanger, SoftHebb, attach, correlate, propose_
    from neuropil.plasticity import surrogate_loss, tap
    # isort: on

__version__ = "0.1.0"

__all__ = [
    "BCM", "Association", "AssociationClassifier", "AssociationTraining", "AssociativeNetwork",
    "AssociativeTraining", "BackpropClassifier", "Chosen", "Dense", "DifferentialHebb", "Distort",
    "ExplainAway", "FeatureClassifier", "HardWTA", "Hebb", "KrotovHopfield", "LocalLearning", "Model", "Oja",
    "PatchNormConv2d", "Rule", "Sanger", "SoftHebb", "SpikeTimeTraining", "SpikingClassifier", "Split",
    "SupervisedTraining", "Triangle", "accuracy", "attach", "audit", "compare", "correlate", "dense_body",
    "diagnose", "hold_out", "init_examples_", "init_kernels_", "init_normal_", "init_patches_", "list_models", "load",
    "load_data", "propose_", "savable", "saved_models", "stacked", "subset", "surrogate_loss", "tap",
]  # fmt: skip

_ROOMS = ("distributed", "exchange", "zoo")  # whose names are used with that of the room before them
_NAMES = {  # by the room that they are in; all others are in neuropil.models
    "associative": ("AssociativeNetwork", "AssociativeTraining"),
    "data": ("Split", "hold_out", "load_data", "subset"),
    "evaluate": ("accuracy",),
    "experiments.audit": ("audit",),
    "experiments.compare_models": ("compare",),
    "experiments.diagnose": ("diagnose",),
    "loading": ("load", "saved_models"),
    "zoo": ("list_models",),
    "plasticity": (
        "BCM", "Association", "Chosen", "Dense", "DifferentialHebb", "ExplainAway", "HardWTA", "Hebb",
        "KrotovHopfield", "Oja", "Rule", "Sanger", "SoftHebb", "attach", "correlate", "propose_", "surrogate_loss",
        "tap",
    ),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public object `name`, loaded from its room."""
    if name in _ROOMS:
        return import_module(f"neuropil.{name}")
    if name not in __all__:
        from difflib import get_close_matches  # here, because it takes a while to load

        near = get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; dir(neuropil) lists all names."
        raise AttributeError(f"neuropil has no {name!r}{hint}")
    room = next((room for room, names in _NAMES.items() if name in names), "models")
    value = getattr(import_module(f"neuropil.{room}"), "load" if name == "load_data" else name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return [*__all__, "__version__", *_ROOMS]
