"""Spiking units learn which action each pattern of spikes asks for, from reward alone: STDP with eligibility traces.

Which action is right for a pattern is a matter of luck, so nothing but the reward can teach it. Inputs spike at random,
units that stand for actions inhibit each other, and the one with the most spikes acts. The reward, 1 or 0, comes after
a delay. Minus the mean of all rewards so far it is multiplied by the eligibility traces of `RewardModulated`.
Controls: the same minus what this pattern brought so far, with the rewards of other presentations, and with a reward
that is always 1. Baseline: a softmax policy on spike counts, trained by REINFORCE.

Measured: STDP with reward 92.2 ± 13.2 % of actions right, minus the pattern's own mean 73.0 ± 20.9; with the rewards of
others 28.2 ± 3.5, with a constant reward 25.0 ± 0.0; REINFORCE 100.0 ± 0.0. By guessing 25; n = 5, 95 % interval.
neuropil run reward_stdp --seed 10 --seeds 5.

Group: STDP. Minutes: 1.

Try: neuropil run reward_stdp --seeds 5 --out runs/reward_stdp
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from neuropil.errors import at_least, require
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.plasticity import PairSTDP, RewardModulated, constrain_, propose_
from neuropil.report import plot_raster, plot_weights
from neuropil.runs import EpochRow, MethodRow, ResultRow, Run, SpikeTrainsRow, WeightsRow
from neuropil.spiking import CurrentLIF, PoissonEncoding, from_raster, lateral_inhibition

DATA = "random patterns"
LOOKS = 50  # numbers of a learning curve
SHOWN = 1 << 20  # index of the first presentation that tests; those before it are for learning
LEARNERS = {
    "reward": "STDP times the reward minus the mean reward of all patterns so far.",
    "own mean": "STDP times the reward minus what this pattern brought so far.",
    "shuffled reward": "The same as with the reward, but each presentation gets the reward of another one.",
    "always rewarded": "The same STDP with a reward of 1 whatever the action, which is STDP without reward.",
    "REINFORCE": "A softmax policy on spike counts that follows the policy gradient, with the same rewards.",
}


@dataclass(frozen=True)
class Config(Machine):
    """Chosen on tasks of other seeds; see docs/results/stdp.md."""

    seed: int = 0  # seed of the patterns, their actions, the first weights and all spikes
    patterns: int = 12  # number of patterns
    actions: int = 4  # number of actions
    inputs: int = 60  # number of inputs
    active: int = 20  # inputs that spike in a pattern
    rate: float = 60.0  # their rate, Hz
    duration: float = 0.1  # of a presentation, s
    delay: float = 20e-3  # from its end to the reward, s
    dt: float = 2e-3  # length of a step, s
    trials: int = 250  # how often the weights change
    batch: int = 24  # presentations between two changes
    lr: float = 1.0  # change of a weight by a spike just after an input spike, times a reward of 1
    tau: float = 0.5  # time constant of the eligibility traces, s
    critic_lr: float = 0.2  # weight of a new reward in what a pattern is known to bring
    first_weight: float = 0.3  # mean of the first weights; all are kept in [0, 1]
    inhibition: float = 10.0  # what a spike takes from the currents of the other actions
    reinforce_lr: float = 0.03  # learning rate of REINFORCE
    n_test: int = 20  # presentations of each pattern by which a learner is tested
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        at_least(2, self, "patterns", "actions")
        at_least(1, self, "trials", "batch", "n_test", "active")
        at_least(0, self, "lr", "reinforce_lr", "delay", "rate", "inhibition")
        require(self.active <= self.inputs, f"setting 'active' needs a number up to {self.inputs}, got {self.active}.")


class Task:
    """Patterns, which action each asks for, and their spikes."""

    def __init__(self, config: Config):
        rng = torch.Generator().manual_seed(config.seed)
        order = torch.rand(config.patterns, config.inputs, generator=rng).argsort(1).argsort(1)
        self.x = (order < config.active).float().to(config.device)
        right = torch.arange(config.patterns) % config.actions
        self.right = right[torch.randperm(config.patterns, generator=rng)].to(config.device)
        self.encode = PoissonEncoding(config.rate, config.duration, config.dt)
        self.seed, self.batch = config.seed, config.batch

    def learning(self, trial: int) -> tuple[Tensor, Tensor]:
        """Patterns of one trial, and what makes their spikes their own."""
        rng = torch.Generator().manual_seed((self.seed << 32) + trial)
        return torch.randint(len(self.x), (self.batch,), generator=rng), trial * self.batch + torch.arange(self.batch)

    def spikes(self, which: Tensor, index: Tensor) -> Tensor:
        """(time, presentations, inputs)."""
        at = which.to(self.x.device)
        return self.encode.raster(self.x[at], index.to(self.x.device), self.seed)


class Actions(nn.Module):
    """Units that stand for actions."""

    def __init__(self, config: Config, rng: Generator):
        super().__init__()
        self.layer = nn.Linear(config.inputs, config.actions, bias=False)
        first = config.first_weight * (0.5 + torch.rand(config.actions, config.inputs, generator=rng))
        self.layer.weight.requires_grad_(False).copy_(first)
        self.neuron, self.inhibition = CurrentLIF(dt=config.dt), config.inhibition
        self.rule = RewardModulated(PairSTDP(dt=config.dt), tau=config.tau)
        self.silent = round(config.delay / config.dt)

    def forward(self, spikes: Tensor) -> Tensor:
        """(time, presentations, inputs) to the spikes of the actions, (time, presentations, actions)."""
        drive = self.layer(spikes)
        state, out, made = self.neuron.init(drive[0]), torch.zeros_like(drive[0]), []
        for now in drive:
            out, state = self.neuron.step(now - lateral_inhibition(out, self.inhibition), state)
            made.append(out)
        return torch.stack(made)

    def change(self, spikes: Tensor, made: Tensor, reward: Tensor) -> Tensor:
        """What STDP makes of these spikes when the reward of each presentation comes after the delay."""
        none, x, y = torch.zeros_like(reward), torch.zeros_like(spikes[0]), torch.zeros_like(made[0])
        memory = self.rule.init(self.layer, x, y)
        for pre, post in [*zip(spikes, made), *[(x, y)] * self.silent]:
            _, memory = self.rule.step(self.layer, pre, post, memory, reward=none)
        change, _ = self.rule.step(self.layer, x, y, memory, reward=reward)
        return change


def main(config: Config, run: Run) -> None:
    """All learners on one task."""
    task = Task(config)
    curves = torch.full((len(LEARNERS), config.trials), torch.nan)
    looks = torch.zeros(LOOKS + 1, config.actions * config.inputs)
    for index in run.loop("learners", len(LEARNERS), curves=curves, looks=looks):
        name, began = list(LEARNERS)[index], run.seconds
        run.log(MethodRow(learner=name, data=DATA, seed=config.seed, about=LEARNERS[name]))
        if name == "REINFORCE":
            act = reinforce(task, curves[index], config, run)
        else:
            act = stdp(name, task, curves[index], looks, config, run)
        every = torch.arange(config.patterns).repeat_interleave(config.n_test)
        answers = act(task.spikes(every, SHOWN + torch.arange(len(every))))
        accuracy = (answers == task.right[every.to(answers.device)]).double().mean().item()
        family, seconds = "baseline" if name == "REINFORCE" else "local", run.seconds - began
        number, majority = config.trials * config.batch, 1 / config.actions
        about: dict[str, Any] = {"learner": name, "family": family, "data": DATA, "seed": config.seed}
        run.log(ResultRow(accuracy=accuracy, n_train=number, seconds=seconds, majority_rate=majority, **about))
    plot(task, curves, looks, config, run)


def stdp(name: str, task: Task, curve: Tensor, looks: Tensor, config: Config, run: Run) -> Callable[[Tensor], Tensor]:
    """Let units learn by one kind of reward; what they do afterwards."""
    units = Actions(config, torch.Generator().manual_seed(config.seed + 1)).to(config.device)
    optimizer = torch.optim.SGD(units.layer.parameters(), lr=config.lr)
    expected = torch.full((config.patterns,), 1 / config.actions, device=config.device)
    weights, looked = looks.clone(), torch.arange(LOOKS + 1) * config.trials // LOOKS  # trials before each look
    for trial in run.loop(name, config.trials, units=units, expected=expected, curve=curve, weights=weights):
        which, index = task.learning(trial)
        if (looked == trial).any():
            weights[looked == trial] = units.layer.weight.flatten().cpu()
        spikes = task.spikes(which, index)
        made = units(spikes)
        at = which.to(made.device)
        earned = (most(made, trial) == task.right[at]).float()
        curve[trial] = earned.mean().item()
        propose_(units.layer, units.change(spikes, made, surprise(name, earned, at, expected, config)))
        optimizer.step()
        constrain_(units.layer, low=0.0, high=1.0)
        report_curve(name, trial, curve, config, run)
    if name == "reward":
        weights[LOOKS] = units.layer.weight.flatten().cpu()
        looks.copy_(weights)
        run.save(weight=units.layer.weight)
    return lambda spikes: most(units(spikes), SHOWN)


def most(made: Tensor, trial: int) -> Tensor:
    """The action with the most spikes; of equals a random one."""
    rng = torch.Generator().manual_seed(trial)
    return (made.sum(0) + 0.5 * torch.rand(made.shape[1:], generator=rng).to(made)).argmax(1)


def surprise(name: str, earned: Tensor, which: Tensor, expected: Tensor, config: Config) -> Tensor:
    """By what the eligibility traces are multiplied; `expected` learns what each pattern brings."""
    if name == "always rewarded":
        return torch.ones_like(earned)
    got = earned.roll(1) if name == "shuffled reward" else earned
    before = expected[which] if name in ("own mean", "REINFORCE") else expected.mean()
    shown = torch.zeros_like(expected).index_add_(0, which, torch.ones_like(got))
    total = torch.zeros_like(expected).index_add_(0, which, got)
    new = torch.where(shown > 0, total / shown.clamp_min(1), expected)
    reward = got - before
    expected.lerp_(new, config.critic_lr)
    return reward


def reinforce(task: Task, curve: Tensor, config: Config, run: Run) -> Callable[[Tensor], Tensor]:
    """Policy gradient of a softmax on spike counts; what it does afterwards. Williams 1992, Mach. Learn. 8."""
    weight = torch.zeros(config.actions, config.inputs, device=config.device)
    expected = torch.full((config.patterns,), 1 / config.actions, device=config.device)
    for trial in run.loop("REINFORCE", config.trials, weight=weight, expected=expected, curve=curve):
        which, index = task.learning(trial)
        counts = task.spikes(which, index).sum(0)
        policy, rng = (counts @ weight.T).softmax(1), torch.Generator().manual_seed((config.seed << 32) + trial)
        action = torch.multinomial(policy.cpu(), 1, generator=rng)[:, 0].to(counts.device)
        at = which.to(counts.device)
        earned = (action == task.right[at]).float()
        curve[trial] = earned.mean().item()
        chosen = nn.functional.one_hot(action, config.actions) - policy
        reward = surprise("REINFORCE", earned, at, expected, config)
        weight += config.reinforce_lr * (reward[:, None] * chosen).T @ counts / len(counts)
        report_curve("REINFORCE", trial, curve, config, run)
    return lambda spikes: (spikes.sum(0) @ weight.T).argmax(1)


def report_curve(name: str, trial: int, curve: Tensor, config: Config, run: Run) -> None:
    """Log the mean reward since the last time."""
    every = max(1, config.trials // LOOKS)
    if (trial + 1) % every == 0:
        metrics = {"reward": curve[trial + 1 - every : trial + 1].mean().item()}
        run.log(EpochRow(learner=name, data=DATA, seed=config.seed, stage="rewards", epoch=trial, metrics=metrics))


def plot(task: Task, curves: Tensor, looks: Tensor, config: Config, run: Run) -> None:
    """Rewards of all learners, spikes of the actions after learning, weights over time."""
    units = Actions(config, torch.Generator().manual_seed(0)).to(config.device)
    units.layer.weight.copy_(looks[-1].view(config.actions, -1))
    which = torch.arange(config.patterns)
    made = units(task.spikes(which, SHOWN + which)).cpu().transpose(0, 1).flatten(0, 1)
    trains = [train[train.isfinite()].tolist() for train in from_raster(made[:, None], config.dt)[0]]
    end = len(made) * config.dt
    about: dict[str, Any] = {"learner": "reward", "data": DATA, "seed": config.seed}
    run.log(SpikeTrainsRow(title="actions, one pattern after the other", trains=trains, t_end=end, **about))
    at = [config.trials * (config.duration + config.delay) * config.batch * k / LOOKS for k in range(len(looks))]
    run.log(WeightsRow(title="weights", times=at, weights=looks.tolist(), **about))
    caption = (
        "Mean reward while learning, running mean of 20 trials; guessing is dotted. Spikes of the actions that learned "
        "by reward, one pattern after the other; blue: the action that is right. Weights: median, middle half, 90 %."
    )
    with picture(run.folder, "reward_stdp", caption, columns=3, width=11, height=2.9) as axes:
        for name, curve, colour in zip(LEARNERS, curves, (ORANGE, "#c98a00", GREY, "#8a1c5b", BLUE)):
            smooth = nn.functional.avg_pool1d(curve[None], min(20, len(curve)), 1)[0]
            axes[0].plot(smooth, color=colour, label=name)
        axes[0].axhline(1 / config.actions, color="black", lw=0.8, ls=":")
        axes[0].set(xlabel=f"trial of {config.batch} presentations", ylabel="mean reward", ylim=(0, 1))
        axes[0].legend(frameon=False)
        for k, right in enumerate(task.right.tolist()):
            axes[1].plot(
                [k * config.duration, (k + 1) * config.duration],
                [right] * 2,
                color=BLUE,
                alpha=0.3,
                lw=8,
                solid_capstyle="butt",
            )
        plot_raster(axes[1], trains, t_end=end)
        axes[1].set_ylabel("action")
        plot_weights(axes[2], at, looks)
