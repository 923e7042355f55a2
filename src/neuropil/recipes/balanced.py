"""Inhibitory STDP makes a network that fires regularly and too often fire seldom, irregularly and asynchronously.

Excitatory and inhibitory neurons with conductances are connected at random and driven by a constant current. Inhibition
is too weak at first: all fire regularly and too often. Then the synapses from inhibitory to excitatory neurons learn by
`InhibitorySTDP` alone, each from its own two neurons. The network is measured with frozen weights before and after.
Controls: the same network for as long without plasticity; and the learned weights shuffled among the synapses, so that
their distribution stays.

Measured: excitatory neurons fire at 141.7 ± 1.5 Hz before and 6.8 ± 0.6 Hz after, with a CV of 0.13 ± 0.02 and 1.04 ±
0.03 and a synchrony of 0.24 ± 0.02 and 0.034 ± 0.007; 26.4 ± 6.3 Hz with shuffled weights; n = 5, 95 % interval.
neuropil run balanced --seed 10 --seeds 5.

Group: STDP. Minutes: 1.

Try: neuropil run balanced --seeds 5 --out runs/balanced
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from neuropil.errors import at_least, require
from neuropil.experiments.machine import Machine
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.plasticity import InhibitorySTDP, constrain_, propose_
from neuropil.plasticity.stdp.pair import Traces
from neuropil.report import plot_isi, plot_psth, plot_raster, plot_weights
from neuropil.runs import EpochRow, PotentialsRow, Row, Run, SpikeTrainsRow, WeightsRow
from neuropil.spiking import ConductanceLIF, ConductanceState, firing_rates, from_raster, interval_cv, synchrony

SHOWN = 100  # neurons in a raster
RULE = "inhibitory STDP"
FOLLOWED = 200  # synapses whose weights are kept over time


@dataclass(frozen=True)
class Config(Machine):
    """After Vogels et al. 2011, Science 334, figure 4, with 600 neurons in place of 10,000."""

    seed: int = 0  # seed of the connections and the first potentials
    excitatory: int = 400  # number of excitatory neurons
    inhibitory: int = 200  # number of inhibitory neurons
    connected: float = 0.2  # probability of a synapse between two neurons
    excitation: float = 0.1  # conductance that an excitatory spike opens, in units of the leak
    inhibition: float = 0.8  # the same of an inhibitory spike in an excitatory neuron, at first
    inhibition_fixed: float = 3.0  # the same in an inhibitory neuron, where nothing learns
    drive: float = -45e-3  # potential to which a neuron without input goes, V; above the threshold of -50 mV
    rate: float = 5.0  # rate to which inhibitory STDP brings the excitatory neurons, Hz
    lr: float = 0.2  # change of a conductance by two spikes at once, in units of the leak
    strongest: float = 20.0  # largest conductance that a synapse can learn
    block: float = 1.0  # length of a block, s, of which the last is shown
    learning: int = 8  # blocks of learning
    measured: int = 2  # blocks in which the network is measured with frozen weights
    dt: float = 1e-3  # length of a step, s
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        at_least(2, self, "excitatory", "inhibitory")
        at_least(1, self, "learning", "measured")
        at_least(4 * self.dt, self, "block")
        at_least(0, self, "excitation", "inhibition", "inhibition_fixed", "lr")
        require(0 < self.connected <= 1, f"setting 'connected' needs a number above 0, up to 1, got {self.connected}.")


class Network(nn.Module):
    """The network; what goes on from one step to the next is in its buffers."""

    connected: Tensor  # which inhibitory neuron has a synapse on which excitatory one, (excitatory, inhibitory)
    spikes: Tensor  # of the last step, (1, excitatory + inhibitory)
    state: Tensor  # potential, conductances, threshold and refractory steps of all neurons, (5, 1, neurons)
    x: Tensor  # traces of inhibitory spikes, as the rule keeps them, (1, inhibitory)
    y: Tensor  # traces of excitatory spikes, (1, excitatory)

    def __init__(self, config: Config, rng: Generator):
        super().__init__()
        e, n = config.excitatory, config.excitatory + config.inhibitory
        synapses = (torch.rand(n, n, generator=rng) < config.connected).float().fill_diagonal_(0)
        self.e, self.dt, self.rule = e, config.dt, InhibitorySTDP(rate=config.rate, dt=config.dt)
        self.neuron = ConductanceLIF(
            tau=20e-3, tau_e=5e-3, tau_i=10e-3, rest=config.drive, threshold=-50e-3, reset=-60e-3, i_rev=-80e-3,
            refractory=5e-3, dt=config.dt,
        )  # fmt: skip
        self.excite = nn.Parameter(config.excitation * synapses[:, :e], requires_grad=False)
        self.calm = nn.Parameter(config.inhibition_fixed * synapses[e:, e:], requires_grad=False)
        self.plastic = nn.Linear(n - e, e, bias=False)
        self.plastic.weight.requires_grad_(False).copy_(config.inhibition * synapses[:e, e:])
        self.register_buffer("connected", synapses[:e, e:])
        self.register_buffer("spikes", torch.zeros(1, n))
        self.register_buffer("x", torch.zeros(1, n - e))
        self.register_buffer("y", torch.zeros(1, e))
        v = -60e-3 + 10e-3 * torch.rand(1, n, generator=rng)
        self.register_buffer("state", torch.stack([v, *torch.zeros(4, 1, n)]))

    def step(self, optimizer: torch.optim.Optimizer | None, strongest: float) -> Tensor:
        """One step; inhibition of excitatory neurons learns if an optimiser is given. Potentials, (1, neurons)."""
        excited, inhibited = self.spikes[:, : self.e], self.spikes[:, self.e :]
        inhibition = torch.cat([self.plastic(inhibited), inhibited @ self.calm.T], 1)
        v, g_e, g_i, theta, resting = self.state
        before = ConductanceState(v, g_e, g_i, theta, resting.int())
        self.spikes, after = self.neuron.step(excited @ self.excite.T, inhibition, before)
        self.state = torch.stack([part.float() for part in after])
        if optimizer is not None:
            change, new = self.rule.step(self.plastic, inhibited, self.spikes[:, : self.e], Traces(self.x, self.y))
            propose_(self.plastic, change * self.connected)
            optimizer.step()
            constrain_(self.plastic, low=0.0, high=strongest)
            self.x, self.y = new
        return after.v


def main(config: Config, run: Run) -> None:
    """Measure, learn, measure again; then the controls."""
    rng = Generator().manual_seed(config.seed)
    net, control = (Network(config, Generator().manual_seed(config.seed)).to(config.device) for _ in range(2))
    before = measure("before", net, config, run)
    at, weights = learn(net, config, run)
    after = measure("after", net, config, run)
    run.save(**{f"after.{name}": tensor for name, tensor in net.state_dict().items()})
    shuffled = shuffle(net, rng)
    frozen = measure("without plasticity", control, config, run, first=config.learning + config.measured)
    other = measure("weights shuffled", shuffled, config, run, first=1)
    rasters = {"before": before, "after": after, "without plasticity": frozen, "weights shuffled": other}
    plot(rasters, at, weights, config, run)


def measure(name: str, net: Network, config: Config, run: Run, first: int = 0) -> Tensor:
    """Log what the network does with frozen weights, once `first` blocks have gone by: spikes (time, neurons)."""
    steps, neurons = round(config.block / config.dt), net.spikes.shape[1]
    raster = torch.zeros(config.measured * steps, neurons, device=config.device)
    v = torch.zeros(steps // 2, 2, device=config.device)
    for block in run.loop(name, first + config.measured, net=net, raster=raster, v=v):
        for step in range(steps):
            potentials = net.step(None, config.strongest)
            if block >= first:
                raster[(block - first) * steps + step] = net.spikes[0]
            if step >= steps - len(v):
                v[step - steps] = potentials[0, :2]
    raster = raster.cpu()
    log_state(name, raster, v.cpu(), net, config, run)
    return raster


def learn(net: Network, config: Config, run: Run) -> tuple[Tensor, Tensor]:
    """Let inhibition learn; the times at which its weights were looked at, s, and some of them."""
    optimizer = torch.optim.SGD(net.plastic.parameters(), lr=config.lr)
    some = net.connected.nonzero()[:: max(1, int(net.connected.sum()) // FOLLOWED)].T.unbind()
    steps, looks = round(config.block / config.dt), torch.zeros(config.learning + 1, len(some[0]))
    looks[0] = net.plastic.weight[some].cpu()
    raster = torch.zeros(steps, net.e, device=config.device)
    for block in run.loop("learning", config.learning, net=net, looks=looks):
        for step in range(steps):
            net.step(optimizer, config.strongest)
            raster[step] = net.spikes[0, : net.e]
        looks[block + 1] = net.plastic.weight[some].cpu()
        metrics = {**numbers(raster.cpu(), config.dt), "weight": looks[block + 1].mean().item()}
        run.log(EpochRow(learner=RULE, seed=config.seed, stage="learning", epoch=block, metrics=metrics))
    at = config.block * torch.arange(config.learning + 1)
    about: dict[str, Any] = {"learner": RULE, "seed": config.seed}
    run.log(WeightsRow(title="weights", times=at.tolist(), weights=looks.tolist(), **about))
    return at, looks


def shuffle(net: Network, rng: Generator) -> Network:
    """The same network, its learned weights in another order among the synapses that there are."""
    there = net.connected > 0
    learned = net.plastic.weight[there]
    net.plastic.weight[there] = learned[torch.randperm(len(learned), generator=rng).to(learned.device)]
    return net


def numbers(raster: Tensor, dt: float) -> dict[str, float]:
    """Rate, Hz, its standard deviation over neurons, irregularity and synchrony of excitatory neurons."""
    rates = firing_rates(raster, dt)
    cv = interval_cv(raster).nanmean().item()
    return {"rate": rates.mean().item(), "rate_sd": rates.std().item(), "cv": cv, "synchrony": synchrony(raster, dt)}


def coincidences(raster: Tensor, net: Network) -> dict[str, float]:
    """What the rule sees at connected pairs of neurons: excitatory spikes near an inhibitory one, weighted by traces.

    Beside it what it would be for independent neurons, and where the rule is at rest.
    """
    traces, decay = torch.zeros_like(raster), math.exp(-net.dt / net.rule.tau)
    for step in range(1, len(raster)):
        traces[step] = decay * (traces[step - 1] + raster[step - 1])
    excited, inhibited = raster[:, : net.e], raster[:, net.e :]
    near = excited.T @ traces[:, net.e :] + traces[:, : net.e].T @ inhibited
    independent = 2 * net.rule.tau * firing_rates(excited, net.dt)[:, None] * inhibited.sum(0)
    synapses = net.connected.cpu()
    number = (synapses * inhibited.sum(0)).sum()
    seen, alone = ((synapses * one).sum() / number for one in (near, independent))
    return {"near": seen.item(), "near_if_independent": alone.item(), "near_at_rest": 2 * net.rule.rate * net.rule.tau}


def log_state(name: str, raster: Tensor, v: Tensor, net: Network, config: Config, run: Run) -> None:
    """Numbers of the whole, spikes and potentials of its last block."""
    excitatory = raster[:, : config.excitatory]
    metrics = {"state": name, **numbers(excitatory, config.dt)}
    metrics["rate_inhibitory"] = firing_rates(raster[:, config.excitatory :], config.dt).mean().item()
    metrics |= coincidences(raster, net)
    run.log(Row(kind="balanced", seed=config.seed, metrics=metrics))
    trains = from_raster(last_block(excitatory, config)[:, None, :SHOWN], config.dt)[0]
    times = [train[train.isfinite()].tolist() for train in trains]
    run.log(SpikeTrainsRow(learner=name, seed=config.seed, title=f"spikes, {name}", trains=times, t_end=config.block))
    window: dict[str, Any] = {"dt": config.dt, "t_start": config.block - len(v) * config.dt, "threshold": -50e-3}
    late = [[t for t in train if t >= window["t_start"]] for train in times[:2]]
    row = PotentialsRow(learner=name, seed=config.seed, title="potentials", v=v.T.tolist(), trains=late, **window)
    run.log(row)


def last_block(raster: Tensor, config: Config) -> Tensor:
    """Of a raster."""
    return raster[-round(config.block / config.dt) :]


def plot(rasters: dict[str, Tensor], at: Tensor, weights: Tensor, config: Config, run: Run) -> None:
    """Rasters and rates of a block before and after; intervals of all that was measured; weights over time."""
    caption = (
        f"{SHOWN} excitatory neurons in the last {config.block:g} s before learning and after it, the mean rate of all "
        "in bins of 10 ms, their interspike intervals (dotted: a Poisson process), rates of neurons (box: middle half, "
        "whiskers: 90 %), and learned weights: median, middle half, 90 %."
    )
    with picture(run.folder, "balanced", caption, rows=2, columns=4, width=12, height=4.6) as axes:
        for k, (name, colour) in enumerate((("before", GREY), ("after", ORANGE))):
            excitatory = rasters[name][:, : config.excitatory]
            block = from_raster(last_block(excitatory, config)[:, None], config.dt)[0]
            plot_raster(axes[k], block[:SHOWN], t_end=config.block, colour=colour)
            plot_psth(axes[4 + k], block, t_end=config.block, colour=colour)
            plot_isi(axes[2 + 4 * k], from_raster(excitatory[:, None], config.dt)[0], colour=colour)
            axes[k].set_title(name)
            axes[2 + 4 * k].set_title(f"intervals, {name}")
        plot_weights(axes[3], at, weights, colour=BLUE)
        axes[3].set_title("inhibitory weights while learning")
        rates = {name: firing_rates(raster[:, : config.excitatory], config.dt) for name, raster in rasters.items()}
        axes[7].boxplot([*rates.values()], whis=(5, 95), showfliers=False)
        axes[7].set_xticks(range(1, len(rates) + 1), [name.replace(" ", "\n") for name in rates])
        axes[7].axhline(config.rate, color=GREY, ls=":")
        axes[7].set(title="rates of neurons; dotted: target", ylabel="rate, Hz", yscale="log")
