"""An associative network as tensors that a run keeps, and back."""

from collections.abc import Mapping

import torch
from torch import Size, Tensor

from neuropil.associative.network import AssociativeNetwork
from neuropil.associative.sampling import Sampling
from neuropil.associative.settling import Settling
from neuropil.associative.tasks import DRAW, NAME
from neuropil.associative.training import AssociativeTraining
from neuropil.errors import Refusal, require

SHAPE = "shape"


def to_tensors(learner: AssociativeNetwork) -> dict[str, Tensor]:
    """All that a fitted `learner` needs to be used again, by name."""
    return {SHAPE: torch.tensor(list(learner.shape_)), **learner.net_.state_dict()}


def from_tensors(
    tensors: Mapping[str, Tensor], *, settling: Settling | None = None, sampling: Sampling | None = None
) -> AssociativeNetwork:
    """The learner that left `tensors`, ready to be used; the groups are read off the tensors themselves."""
    sizes = {key.removeprefix("rest."): len(part) for key, part in tensors.items() if key.startswith("rest.")}
    require(SHAPE in tensors and {"pixels", "label"} <= set(sizes), "these tensors are not of an associative network.")
    naming = sorted(((int(name[6:]), units) for name, units in sizes.items() if name.startswith("naming")))
    draws = "synapses.label>pixels.weight" in tensors
    practice = AssociativeTraining(trials=(NAME, DRAW) if draws else (NAME,))
    layers = tuple(units for _, units in naming)
    drawing, parts = sizes.get("drawing", 0), sizes.get("parts", 0)
    direct = "synapses.pixels>naming2.weight" in tensors
    learner = AssociativeNetwork(
        layers, drawing, parts, settling=settling, practice=practice, sampling=sampling, direct=direct
    )
    learner.net_ = learner.wiring(sizes["pixels"], sizes["label"])
    try:
        learner.net_.load_state_dict({key: part for key, part in tensors.items() if key != SHAPE})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"these tensors are not of an associative network ({reason:.200}).") from error
    learner.shape_, learner.classes_ = Size(tensors[SHAPE].tolist()), sizes["label"]
    learner.net_.requires_grad_(False)
    return learner
