"""What only a spiking network has: accuracy from ordinary spikes, activity, a raster, and the gradient from silence."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.models import SpikingClassifier
from neuropil.runs import RasterRow, Row, SilenceRow, TaggedTracker
from neuropil.runs.spike_rows import LayerSpikes

POINTS = 61  # on the straight line from the first to the trained parameters


def log_spikes(method: Any, train: Split, test: Split, tracker: TaggedTracker) -> None:
    """Log a row "spikes" of a spiking classifier; other models have none.

    It has the accuracy from ordinary spikes alone, where a trial without an output spike is wrong. It also has the
    spikes per neuron and trial, and how much of the network was silent before training.
    """
    learner, x = method.learner, test.pixels()
    if not isinstance(learner, SpikingClassifier):
        return
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


def log_rasters(learner: SpikingClassifier, train: Split, tracker: TaggedTracker) -> None:
    """Log a row "raster" and a row "silence" of the first training example that the fitted `learner` gets right."""
    some = train[:50]
    correct = learner.predict(some.pixels()) == some.y
    example = some[int(correct.nonzero()[0]) if correct.any() else 0]
    times, label = learner.encode(example.pixels()), int(example.y)
    tracker.log(RasterRow(t_end=learner.t_end, label=label, layers=raster(learner, times)))
    tracker.log(path_from_start(learner, times, label))


@torch.no_grad()
def raster(learner: SpikingClassifier, times: Tensor) -> list[LayerSpikes]:
    """Spikes of the inputs and of every layer; of a silent neuron its first pseudospike."""
    network = learner.network_
    output = network(times)
    rows = [[[time] if time < torch.inf else [] for time in times[0].tolist()]]
    for spikes, state in zip(output.spikes, output.states):
        first = network.neuron.with_pseudospikes(spikes, state, network.t_end)[0, :, 0].tolist()
        fired = [[t for t in neuron if t < torch.inf] for neuron in spikes[0].tolist()]
        rows.append([own or [late] for own, late in zip(fired, first)])
    names = ["input", *["hidden"] * (len(rows) - 2), "output"]
    return [{"name": name, "times": row} for name, row in zip(names, rows)]


def path_from_start(learner: SpikingClassifier, times: Tensor, label: int) -> SilenceRow:
    """On the straight line from the first to the trained parameters: output times, gradient of the label's, spikes."""
    first, last = (dict(network.named_parameters()) for network in (learner.start_, learner.network_))
    network = deepcopy(learner.start_).requires_grad_(True)
    bottom = next(network.parameters())
    path, found, slope, spikes = torch.linspace(0, 1, POINTS).tolist(), [], [], []
    for step in path:
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.copy_(torch.lerp(first[name], last[name], step))
        output = network(times)
        outputs = output.times[..., 0]
        (gradient,) = torch.autograd.grad(outputs[0, label], bottom)
        found.append(outputs[0].tolist())
        slope.append(gradient.norm().item())
        spikes.append(sum(int(layer.isfinite().sum()) for layer in output.spikes))
    return SilenceRow(t_end=learner.t_end, label=label, path=path, times=found, gradient=slope, spikes=spikes)
