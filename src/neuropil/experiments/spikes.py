"""What only a spiking network has: accuracy from ordinary spikes, activity, a raster, and its way out of silence."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.models import SpikingClassifier
from neuropil.models.spiking import spikes_of
from neuropil.runs import RasterRow, Row, SilenceRow, TaggedTracker
from neuropil.runs.rows import LayerSpikes
from neuropil.spiking import ThetaNetwork

POINTS = 61  # of the way


def log_spikes(method: Any, train: Split, test: Split, tracker: TaggedTracker) -> None:
    """Of an entrant of the events, log a row "spikes": accuracy from ordinary spikes alone (a trial without any is
    wrong), spikes per neuron and trial, and how much of the network was silent before training.
    """
    if method.family != "spiking":
        return
    learner, x = method.learner, test.pixels()
    before = torch.cat(learner.activity(train[:1000].pixels(), learner.start_), 1)
    after = learner.activity(x)
    metrics = {
        "ordinary_accuracy": (learner.predict_from_spikes(x) == test.y).double().mean().item(),
        "hidden_activity": torch.cat(after[:-1], 1).double().mean().item(),
        "output_activity": after[-1].double().mean().item(),
        "silent_before": before.eq(0).double().mean().item(),
        "never_firing_before": before.eq(0).all(0).double().mean().item(),
    }
    tracker.log(Row(kind="spikes", metrics=metrics))


def draw_spikes(learner: SpikingClassifier, train: Split, tracker: TaggedTracker) -> None:
    """Log a row "raster" and a row "silence" for the first training example that the fitted `learner` names right."""
    some = train[:50]
    right = learner.predict(some.pixels()) == some.y
    example = some[int(right.nonzero()[0]) if right.any() else 0]
    times, label = learner.encode(example.pixels()), int(example.y)
    tracker.log(RasterRow(t_end=learner.t_end, label=label, layers=raster(learner, times)))
    tracker.log(out_of_silence(learner, times, label))


def raster(learner: SpikingClassifier, times: Tensor) -> list[LayerSpikes]:
    """Spikes of the inputs and of every layer, and for neurons of theta networks the next one after the end."""
    with torch.no_grad():
        trains, first = spikes_of(learner.network_, times)
        rows = [[[time] if time < torch.inf else [] for time in times[0].tolist()]]
        for depth, train in enumerate(trains):
            spikes = [[t for t in neuron if t < torch.inf] for neuron in train[0].tolist()]
            rows.append([had or [late] for had, late in zip(spikes, later(learner, times, depth, first))])
    names = ["input", *["hidden"] * (len(rows) - 2), "output"]
    return [{"name": name, "times": row} for name, row in zip(names, rows)]


def later(learner: SpikingClassifier, times: Tensor, depth: int, first: Tensor) -> list[float]:
    """The first pseudospike of every neuron of a layer, for those that are silent."""
    network = learner.network_
    if isinstance(network, ThetaNetwork):
        return (learner.t_end + network.neuron.period - network(times).phases[depth][0]).tolist()
    trials, _ = network(times)
    share, period = network.neuron.normalised_phase(trials[depth].angle, trials[depth].current)
    return (learner.t_end + network.neuron.tau * period * (1 - share))[0].tolist()


def out_of_silence(learner: SpikingClassifier, times: Tensor, label: int) -> SilenceRow:
    """Along a straight line in the space of all parameters: first output times, gradient of the label's, activity."""
    first, last = (dict(network.named_parameters()) for network in (learner.start_, learner.network_))
    network = deepcopy(learner.start_).requires_grad_(True)
    bottom = next(network.parameters())
    path, found, slope, spikes = torch.linspace(0, 1, POINTS).tolist(), [], [], []
    for step in path:
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.copy_(torch.lerp(first[name], last[name], step))
        trains, outputs = spikes_of(network, times)
        (gradient,) = torch.autograd.grad(outputs[0, label], bottom)
        found.append(outputs[0].tolist())
        slope.append(gradient.norm().item())
        spikes.append(sum(int(train.isfinite().sum()) for train in trains))
    return SilenceRow(t_end=learner.t_end, label=label, path=path, times=found, gradient=slope, spikes=spikes)
