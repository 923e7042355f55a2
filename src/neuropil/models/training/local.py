"""How the layers of a body learn without labels and without a backward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import needs, needs_numbers, require, unknown
from neuropil.models.description import layers_of
from neuropil.models.training.supervised import passes
from neuropil.plasticity import Rule, propose_, tap
from neuropil.plasticity.attachable import in_evaluation
from neuropil.plasticity.geometry import per_sample, rows, units, weight_of
from neuropil.plasticity.joint import Portion, joined
from neuropil.plasticity.patches import has_patches, in_sample
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import Tracker

SAMPLES = 5  # per unit, on which the progress display counts the wins


@dataclass(frozen=True)
class LocalLearning:
    """How the layers of a body learn without labels and without a backward pass.

    The learning rate falls linearly to 0 from pass to pass. Greedily, each layer learns on the output of the finished
    layers below it; together, all layers learn from the same forward pass. Layers with statistics (batch
    normalisation) gather them while the layer above them learns, and are fixed from then on.

    Attributes:
        rules: a rule for each layer that learns, by its name in the body.
        epochs: passes over the images, for each layer (greedily) or for all (joint).
        batch: images in a step; a smaller data set is one batch.
        lr: first learning rate of plain SGD, for all layers or by name.
        norm_rate: power q of `rate_by_norm`, by which units whose norm is far from 1 learn faster; 0 for none.
        joint: whether all layers learn at once.
        patch_fraction: fraction of the patches of a convolution that it learns from, chosen at random in every step;
            all of them with `joint`.
        max_images: learn from the first so many images only; 0 for all.
        min_steps: fewest steps; a small data set gets as many more epochs as this takes.
        reduction: "mean" or "sum" over the samples of a batch, see `Rule`.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    epochs: int = 20
    batch: int = 100
    lr: float | Mapping[str, float] = 0.02
    norm_rate: float = 0.0
    joint: bool = False
    patch_fraction: float = 1.0
    max_images: int = 0
    min_steps: int = 1
    reduction: str = "mean"

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.epochs >= 1 and self.batch >= 1, "epochs and batch >= 1")
        rates = [self._rate(name) for name in self.rules] if isinstance(self.lr, Mapping) else [self.lr]
        needs(self, all(rate > 0 for rate in rates), "a positive learning rate lr for every layer with a rule")
        needs(self, self.reduction in ("mean", "sum"), "reduction='mean' or 'sum'")
        needs(self, self.max_images >= 0, "max_images >= 0 (0 for all)")
        sampled = 0 < self.patch_fraction < 1 and not self.joint
        needs(self, sampled or self.patch_fraction == 1, "0 < patch_fraction <= 1, and all patches if joint=True")

    def _rate(self, name: str) -> float:
        return self.lr.get(name, 0.0) if isinstance(self.lr, Mapping) else self.lr

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Let the named layers of `body` learn in place; it ends in evaluation mode."""
        names = list(layers_of(body))
        for name in self.rules:
            if name not in names:
                raise unknown("layer", name, names)
            weight_of(body.get_submodule(name))  # refuses what no change can reach
        ordered = [name for name in names if name in self.rules]
        stages = [ordered] if self.joint else [[name] for name in ordered]
        finished = 0  # modules whose statistics are fixed
        train = train[: self.max_images] if self.max_images else train
        for stage in filter(None, stages):
            end = names.index(stage[-1]) + 1
            below = cast(nn.Sequential, body[:end])
            below.train()
            below[:finished].eval()
            with joined(body) as part:
                self._stage(below, stage, train, part, rng=rng, tracker=tracker)
            finished = end
        body.eval()

    def _stage(
        self, body: nn.Sequential, stage: list[str], train: Split, part: Portion, *, rng: Generator, tracker: Tracker
    ) -> None:
        """Let the layers of one stage learn; the last of them is the last of `body`."""
        weights = {name: body.get_parameter(f"{name}.weight") for name in stage}
        optimizer = torch.optim.SGD([{"params": [weight], "lr": self._rate(name)} for name, weight in weights.items()])
        if self.norm_rate:
            rate_by_norm(optimizer, self.norm_rate, p=[getattr(self.rules[name], "p", 2.0) for name in stage])
        epochs = passes(len(train), epochs=self.epochs, batch=self.batch, min_steps=self.min_steps)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        title = "features " + " + ".join(stage)
        for epoch in tracker.loop(title, epochs, body=body, optimizer=optimizer, schedule=schedule, rng=rng):
            before = {name: weight.detach().clone() for name, weight in weights.items()}
            for batch in train.batches(min(self.batch, len(train)), shuffle=rng):
                self._propose(body, stage, part(batch.x), rng)
                optimizer.step()
            schedule.step()
            for name in stage:
                p = getattr(self.rules[name], "p", 2.0)
                log_progress(tracker, body, name, train, epoch=epoch, before=before[name], p=p)

    def _propose(self, body: nn.Sequential, stage: list[str], x: Tensor, rng: Generator) -> None:
        """One batch: every rule's change into the gradient of its layer."""
        with torch.no_grad():
            if len(stage) == 1:  # its rule needs what reaches the layer, not what the layer makes of it
                rule, layer, pre = self.rules[stage[0]], body[-1], body[:-1](x)
                sampled = self.patch_fraction < 1 and has_patches(layer)
                change = partial(rule, reduction=self.reduction)
                propose_(
                    layer, in_sample(change, layer, pre, self.patch_fraction, rng) if sampled else change(layer, pre)
                )
                return
            with tap(body, stage) as seen:
                body(x)
        for name, activity in seen.items():
            layer = body.get_submodule(name)
            propose_(layer, self.rules[name](layer, *activity, reduction=self.reduction))


def unit_state(weight: Tensor, wins: Tensor, *, norm: float) -> dict[str, float]:
    """Numbers to watch while a layer learns.

    Args:
        weight: (units, fan-in).
        wins: how often each unit was the most active, (units,).
        norm: the p of the fixed point sum |w|^p = 1 of its rule.

    Returns:
        dead: fraction of the units that win no sample.
        converged: fraction of the units with ``|sum |w|^p - 1| < 0.1``.
        effective_rank: participation ratio of the singular values s of the weight: (sum s^2)^2 / sum s^4.
    """
    weight = weight.float()
    gram = weight @ weight.T if len(weight) < weight.shape[1] else weight.T @ weight
    return {
        "dead": (wins == 0).float().mean().item(),
        "converged": ((weight.abs().pow(norm).sum(1) - 1).abs() < 0.1).float().mean().item(),
        "effective_rank": (weight.square().sum() ** 2 / gram.square().sum()).item(),
    }


def rate_by_norm(optimizer: torch.optim.Optimizer, power: float = 0.5, *, p: float | Sequence[float] = 2.0) -> Any:
    r"""Make every row of a weight learn at :math:`|1 - |w_i|_p|^{q}` times the optimiser's rate.

    It is fast while its norm is far from 1, and rests when it has arrived. Journe et al. 2023 (ICLR) use q = 0.5 on
    every layer. The norm is the one that the rule leads to: p = 2, but that of a `KrotovHopfield` for its rows.

    Meant for plain SGD, which keeps the size of a gradient. The change must be dense.

    Args:
        optimizer: its gradients are scaled before every step.
        power: q > 0.
        p: of the norm; one number, or one for each parameter group of the optimiser.

    Returns:
        a handle; ``handle.remove()`` ends it.
    """
    require(power > 0, f"rate_by_norm needs a power > 0, got {power}.")

    def scale(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        powers = p if isinstance(p, Sequence) else [p] * len(groups)
        for weight, power_of_norm in ((weight, q) for group, q in zip(groups, powers) for weight in group["params"]):
            if weight.grad is not None:
                require(not weight.grad.is_sparse, "rate_by_norm needs a dense change; give the rule sparse=False.")
                norm = weight.detach().flatten(1).norm(power_of_norm, dim=1)
                rate = (
                    (1 - norm).abs().pow(power).clamp_min(torch.finfo(norm.dtype).eps ** 2)
                )  # 0 would look like cleared
                weight.grad *= rate.view(-1, *[1] * (weight.dim() - 1))

    return optimizer.register_step_pre_hook(scale)


def log_progress(
    tracker: Tracker, body: nn.Sequential, name: str, train: Split, *, epoch: int, before: Tensor, p: float = 2.0
) -> None:
    """Log how far a layer moved in a pass and where its units stand, see `progress`.

    Args:
        tracker: takes the row.
        body, name, train, p: as for `progress`.
        epoch: number of the pass.
        before: the weight of the layer before the pass.
    """
    change = ((weight_of(body.get_submodule(name)) - before).norm() / before.norm()).item()
    metrics = {"relative_change": change, **progress(body, name, train, p=p)}
    tracker.log(EpochRow(stage=f"features {name}", epoch=epoch, metrics=metrics))


@torch.no_grad()
def progress(body: nn.Sequential, name: str, train: Split, *, p: float = 2.0) -> dict[str, float]:
    """Where the units of the layer `name` of `body` stand: `unit_state` on the first examples of `train`.

    Args:
        body: stays in the mode that it is in.
        name: of one of its layers.
        train: examples as the body meets them.
        p: of the fixed point sum |w|^p = 1 of the layer's rule.
    """
    layer = body.get_submodule(name)
    below = body[: list(layers_of(body)).index(name) + 1]
    wins = torch.zeros(units(layer), dtype=torch.int64, device=train.y.device)
    with in_evaluation(body):
        for part in train.batches(min(100, len(train))):
            wins += per_sample(layer, below(part.x)).argmax(1).bincount(minlength=len(wins))
            if wins.sum() >= SAMPLES * len(wins):
                break
    return unit_state(rows(layer, weight_of(layer)), wins, norm=p)
