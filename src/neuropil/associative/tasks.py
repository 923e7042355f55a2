"""What a task clamps, what it asks for, and which synapses its nudge may change."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from neuropil.errors import needs_numbers, require, unknown


@dataclass(frozen=True)
class Task:
    """One task of an `AssociativeNetwork`: visible units are clamped, it settles, the target units are nudged.

    Attributes:
        target: the population that is nudged towards the data, "label" or "pixels".
        clamped: which pixels are clamped: "all", or "partial" for a random mask for every image, see `random_masks`.
        label_fraction: if pixels are the target, fraction of the known labels that are clamped.
        lr_scale: factor of the learning rates in the steps of this task.
        occlusion_probability: of a mask to be all but a rectangle.
        pseudo_label_margin: if the label is the target, an image without a label is nudged towards the network's own
            answer. The activity of that answer must exceed all others by this much. None leaves such images out.
            The image is classified as it is, then trained as `AssociativeTraining.augment` changes it.

    Raises:
        Refusal: settings that do not go together.
    """

    target: Literal["label", "pixels"]
    clamped: Literal["all", "partial"] = "partial"
    label_fraction: float = 1.0
    lr_scale: float = 1.0
    occlusion_probability: float = 0.0
    pseudo_label_margin: float | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        for word, known in ((self.target, ("label", "pixels")), (self.clamped, ("all", "partial"))):
            if word not in known:
                raise unknown("word of a task", word, known)
        require(self.target == "label" or self.clamped == "partial", "pixels that are all clamped cannot be a target.")
        fits = 0 <= self.label_fraction <= 1 and self.lr_scale > 0
        require(fits, f"a task needs 0 <= label_fraction <= 1 and lr_scale > 0, got {self}.")
        require(0 <= self.occlusion_probability <= 1, f"a task needs 0 <= occlusion_probability <= 1, got {self}.")
        margin = self.pseudo_label_margin
        fits = margin is None or (self.target == "label" and 0 <= margin < 1)
        require(fits, f"pseudo-labels need a task with the label as target and a margin in [0, 1), got {self}.")


CLASSIFY = Task("label", "all")
CLASSIFY_PARTIAL = Task("label", "partial")
GENERATE = Task("pixels", "partial")


def spikes(activity: Tensor, rng: Generator) -> Tensor:
    """0 or 1 for each unit, 1 with the probability that is its activity."""
    return (torch.rand(activity.shape, generator=rng, device=rng.device).to(activity) < activity).to(activity)
