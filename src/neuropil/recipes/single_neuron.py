"""One QIF neuron learns to fire at 2.5 and 7.5 and not again, from silence and from too many spikes.

The weights and times of its inputs follow the exact gradient of ((t - t*) / (t* + 2))^2 for the first two spikes. The
third spike is only asked to come no earlier than 1.1 T, where T is the end of the trial. From silence, pseudospikes
move into the trial and become spikes. From too many spikes, the third leaves through the end of the trial.

Measured: one seed, 2000 updates; loss 3e-20 from silence and 0 from too many; both fire at 2.5000 and 7.5000 and not
again. neuropil run single_neuron.

Group: start here. Minutes: 0.3.

Try: neuropil run single_neuron --out runs/single_neuron
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuropil.errors import at_least
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.models.training.adabelief import AdaBelief, descend_
from neuropil.runs import EpochRow, Row, Run
from neuropil.spiking import LIF, QIF, simulate_lif, simulate_qif
from neuropil.spiking.losses import spike_time_loss

STARTS = {"from silence": 0.5, "from too many": 8.0}  # weight of every input at first


@dataclass(frozen=True)
class Config(Machine):
    """The published task: targets 2.5 and 7.5 of 10 membrane time constants."""

    seed: int = 0  # seed of the input times
    # the neuron; spikes of a LIF neuron appear and vanish with a jump, and the end of the trial stands for missing ones
    neuron: Literal["qif", "lif"] = "qif"
    inputs: int = 10  # number of inputs, one spike each
    t_end: float = 10.0  # end of the trial, in membrane time constants
    targets: tuple[float, ...] = (2.5, 7.5)  # target times, in membrane time constants
    n_updates: int = 2000  # number of optimiser steps, for each start
    lr: float = 2e-2  # first learning rate of AdaBelief; it falls to 0
    clip: float = 1.0  # largest norm of the gradient
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        at_least(1, self, "inputs", "n_updates")


def main(config: Config, run: Run) -> None:
    """Two starts, one after the other."""
    targets = torch.tensor([*config.targets, 1.1 * config.t_end], dtype=torch.float64, device=config.device)
    one_sided = torch.arange(len(targets), device=config.device) == len(config.targets)
    paths = torch.full((len(STARTS), config.n_updates, len(targets)), torch.nan, dtype=torch.float64)
    for index in run.loop("starts", len(STARTS), paths=paths):
        name, strength = list(STARTS.items())[index]
        rng = torch.Generator().manual_seed(config.seed)
        start = torch.rand(config.inputs, generator=rng, dtype=torch.float64) * config.t_end
        times = nn.Parameter(start.to(config.device))
        weights = nn.Parameter(torch.full((config.inputs, 1), strength, dtype=torch.float64, device=config.device))
        optimizer = AdaBelief([times, weights], lr=config.lr, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_updates)
        state: dict[str, Any] = {"times": times, "weights": weights, "optimizer": optimizer, "schedule": schedule}
        for step in run.loop(name, config.n_updates, **state):
            late, spikes = first_spikes(config.neuron, times, weights, config.t_end, len(targets))
            loss = spike_time_loss(late, targets, one_sided=one_sided)
            paths[index, step] = late.detach()
            descend_(loss, optimizer, schedule, config.clip)
            with torch.no_grad():
                times.clamp_(0, config.t_end)
            if step % max(1, config.n_updates // 100) == 0:
                metrics = {"loss": loss.item(), "spikes": spikes}
                run.log(EpochRow(learner=name, seed=config.seed, stage="updates", epoch=step, metrics=metrics))
        late, spikes = first_spikes(config.neuron, times, weights, config.t_end, len(targets))
        loss = spike_time_loss(late, targets, one_sided=one_sided)
        found = {"start": name, "loss": loss.item(), "times": late.tolist(), "spikes": spikes}
        run.log(Row(kind="single_neuron", seed=config.seed, metrics=found))
        run.save(**{f"{name}: path": paths[index]})
    plot_paths(paths, config, run)


def first_spikes(kind: str, times: Tensor, weights: Tensor, t_end: float, count: int) -> tuple[Tensor, int]:
    """The first `count` output times (pseudospikes after ordinary ones), and how many are ordinary."""
    trial, rest = (times[None], weights), times.new_zeros(1)
    if kind == "lif":
        spikes, membrane = simulate_lif(*trial, rest, rest, LIF(), t_end)
        late = LIF().with_pseudospikes(spikes, membrane, t_end, count)
    else:
        spikes, end = simulate_qif(*trial, rest, rest, QIF(), t_end)
        late = QIF().with_pseudospikes(spikes, end, t_end, count)
    return late[0, 0], int(spikes.isfinite().sum())


def plot_paths(paths: Tensor, config: Config, run: Run) -> None:
    """How the output times moved."""
    caption = "Output times of one neuron while it learns. Above the line they are pseudospikes. Dotted: targets."
    with picture(run.folder, "single_neuron", caption, columns=len(paths), width=9, height=3) as axes:
        for axis, path, name in zip(axes, paths, STARTS):
            for k, colour in zip(range(path.shape[1]), (ORANGE, BLUE, GREY)):
                axis.plot(path[:, k].numpy(), color=colour, label=f"spike {k + 1}")
            axis.axhline(config.t_end, color="black", lw=0.8)
            for target in config.targets:
                axis.axhline(target, color="black", lw=0.8, ls=":")
            axis.set(title=name, xlabel="update", ylabel="output time (tau)", ylim=(0, 1.5 * config.t_end))
            axis.legend(frameon=False)
