"""Ten recurrent QIF neurons: two of them learn to fire at 7 and at 2 given times and not again, by exact gradients.

Twenty frozen Poisson inputs of rate 1 drive the network for 10 membrane time constants. The recurrent weights start at
0, and with them the first V and I of every neuron are learned. Spikes are added, removed and moved by the gradient of
one loss: ((t - t*) / (t* + 2))^2, where the spike after the last wanted one is only asked to come
no earlier than 1.1 T.
Pseudospikes, which continue a neuron's spikes past the end of the trial, make all of this differentiable.

Measured: n = 5, 10,000 trials, about 80 s each on a busy core; loss 2.4e-6 to 1.6e-4, mean 7e-5; the number of spikes
is right in all five, 40 of 45 targets are hit within 0.1 tau, the largest miss is 0.25 tau.
neuropil run recurrent --seeds 5.

Try: neuropil run recurrent --seeds 5 --out runs/recurrent
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from neuropil.events import RecurrentQIF
from neuropil.events.losses import spike_time_loss
from neuropil.learners.adabelief import AdaBelief
from neuropil.recipes._pictures import BLUE, GREY, ORANGE, keep, panels
from neuropil.runs import Run


@dataclass(frozen=True)
class Config:
    """As published, but that the rate is higher and falls, the gradient is clipped and its spread forgotten sooner."""

    seed: int = 0
    """of inputs, input weights and target times"""
    neurons: int = 10
    """in the network; the first two have targets"""
    inputs: int = 20
    """Poisson inputs"""
    rate: float = 1.0
    """spikes of an input per membrane time constant"""
    strength: float = 5.0
    """size of every input weight; its sign is drawn"""
    horizon: float = 10.0
    """end of the trial, in membrane time constants"""
    targets: tuple[int, int] = (7, 2)
    """how many target times the two neurons have"""
    trials: int = 10000
    """steps of learning"""
    lr: float = 3e-2
    """first learning rate, falls to 0"""
    memory: float = 0.99
    """beta_2 of AdaBelief; 0.999 needs about four times as many trials"""
    clip: float = 1e-2
    """largest norm of the gradient; a hundred times as much leaves the loss a hundred times as large"""


def main(config: Config, run: Run) -> None:
    """One seed."""
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(config.seed)
    times = poisson(config.inputs, config.rate, config.horizon, rng)
    net = RecurrentQIF(config.inputs, config.neurons, horizon=config.horizon, dtype=torch.float64)
    with torch.no_grad():
        signs = torch.randint(2, net.weight.shape, generator=rng) * 2 - 1
        net.weight.copy_(config.strength * signs).requires_grad_(False)
    goals, one_sided = wanted(config.targets, config.horizon, rng)
    before = net(times).times.detach()

    optimizer = AdaBelief([net.recurrent, net.potential, net.current], lr=config.lr, betas=(0.9, config.memory))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.trials)
    best = torch.full((), torch.inf, dtype=torch.float64)
    kept = {name: part.detach().clone() for name, part in net.state_dict().items()}
    parts: dict[str, Any] = {"net": net, "optimizer": optimizer, "schedule": schedule, "best": best}
    parts |= {f"kept {name}": part for name, part in kept.items()}
    for step in run.loop("trials", config.trials, **parts):
        trial = net(times)
        late = net.continued(trial, goals.shape[-1])[0, : len(config.targets)]
        loss = spike_time_loss(late, goals, one_sided=one_sided)
        if loss < best:
            best.copy_(loss.detach())
            for name, part in net.state_dict().items():
                kept[name].copy_(part)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_([net.recurrent, net.potential, net.current], config.clip)
        optimizer.step()
        schedule.step()
        if step % max(1, config.trials // 200) == 0:
            row = {"loss": loss.item(), "best": best.item(), "gradient": norm.item()}
            run.log("epoch", learner="exact spikes", seed=config.seed, stage="trials", epoch=step, **row)
    net.load_state_dict(kept)
    tell(net, times, before, goals, best, config, run)


def poisson(inputs: int, rate: float, horizon: float, rng: Generator) -> Tensor:
    """Spike times (1, inputs, spikes) of independent Poisson processes up to `horizon`, padded with inf."""
    gaps = torch.empty(1, inputs, int(4 * rate * horizon) + 20, dtype=torch.float64).exponential_(rate, generator=rng)
    times = gaps.cumsum(-1)
    return torch.where(times < horizon, times, torch.inf)


def wanted(counts: tuple[int, int], horizon: float, rng: Generator) -> tuple[Tensor, Tensor]:
    """Target times (neurons, spikes) and where they are one-sided: after the last, 1.1 T or later; NaN is anything.

    The times are drawn evenly from the trial, at least a twentieth of a share apart.
    """
    goals = torch.full((len(counts), max(counts) + 1), torch.nan, dtype=torch.float64)
    for row, count in zip(goals, counts):
        share = horizon / count
        row[:count] = share * (torch.arange(count) + 0.05 + 0.9 * torch.rand(count, generator=rng))
        row[count] = 1.1 * horizon
    last = torch.arange(goals.shape[1]) == torch.tensor(counts)[:, None]
    return goals, last


def tell(
    net: RecurrentQIF, times: Tensor, before: Tensor, goals: Tensor, best: Tensor, config: Config, run: Run
) -> None:
    """Log how near the spikes came to their targets, and draw the trial before and after."""
    after = net(times).times.detach()
    trains = [train[train.isfinite()] for train in after[0, : len(config.targets)]]
    exact = [len(train) == count for train, count in zip(trains, config.targets)]
    misses = [(t - goal[: len(t)]).abs().max().item() for t, goal, ok in zip(trains, goals, exact) if ok and len(t)]
    hit = sum(
        int(((train[:, None] - goal[:count]).abs().amin(0) < 0.1).sum()) if len(train) else 0
        for train, goal, count in zip(trains, goals, config.targets)
    )
    numbers = {"loss": best.item(), "right_numbers": sum(exact), "hit": hit, "targets": sum(config.targets)}
    numbers["largest_miss"] = max(misses) if all(exact) else float("nan")
    run.log("recurrent", learner="exact spikes", seed=config.seed, seconds=run.seconds, **numbers)
    run.save(**{f"network.{name}": part for name, part in net.state_dict().items()})
    with panels(1, 2, width=9, height=2.8) as (figure, axes):
        for axis, trains, title in zip(axes, (before, after), ("before learning", f"after: loss {best.item():.1e}")):
            rows = [train[train.isfinite()].tolist() for train in trains[0]]
            colours = [ORANGE, BLUE] + [GREY] * (len(rows) - 2)
            axis.eventplot(rows, colors=colours, lineoffsets=range(len(rows)), linelengths=0.8)
            for k, (goal, count) in enumerate(zip(goals, config.targets)):
                axis.plot(goal[:count].tolist(), [k] * count, "o", mfc="none", color="black", ms=7)
            axis.set(title=title, xlabel="time (tau)", ylabel="neuron", xlim=(0, config.horizon))
        keep(figure, run.folder, "recurrent", "Spikes of all neurons; circles are the targets of neurons 0 and 1.")
