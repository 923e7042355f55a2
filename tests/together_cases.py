"""Learners of `neuropil.models` that several processes learn together, against one; `shared_cases.py` runs them."""

from collections import OrderedDict

import torch
from torch import nn

import neuropil as npl
from neuropil.associative import AssociativeTraining, DerivativeTargets, Nudge, Settling, Task
from neuropil.associative.tasks import CLASSIFY
from neuropil.distributed import together
from neuropil.errors import Refusal
from neuropil.plasticity.joint import joined
from neuropil.plasticity.sharing import _shared
from neuropil.runs import NullTracker
from neuropil.spiking import LIF, QIF, ThresholdEncoding

DATA = npl.Split(torch.rand(43, 2, 7, 7, generator=torch.Generator().manual_seed(7)), torch.arange(43) % 3, 3)
SOFT, HOPFIELD = npl.SoftHebb(tau=0.4, normalise=True), npl.KrotovHopfield(k=2, average=True)


def body():
    """Two convolutions, each behind batch normalisation with statistics that learning gathers."""
    layers = {"norm1": nn.BatchNorm2d(2, affine=False), "conv1": nn.Conv2d(2, 6, 3), "act1": npl.Triangle(1.0)}
    layers |= {"norm2": nn.BatchNorm2d(6), "conv2": nn.Conv2d(6, 5, 3), "act2": nn.ReLU(), "pool": nn.AvgPool2d(3)}
    return nn.Sequential(OrderedDict(layers))


def learners():
    """Freshly made models by name."""
    torch.manual_seed(3)
    rules, training = {"conv1": SOFT, "conv2": HOPFIELD}, npl.SupervisedTraining(3, 14, min_steps=1, smoothing=0.1)
    joint = npl.LocalLearning(rules, epochs=2, batch=14, joint=True, norm_rate=0.5)
    some = npl.LocalLearning(rules, epochs=2, batch=14, patch_fraction=0.2)
    moved, events = npl.Distort(shift=0.7), npl.AssociationTraining(epochs=2, batch=14)
    return {
        "joint": npl.FeatureClassifier(body(), learning=joint, readout=training),
        "patches": npl.FeatureClassifier(body(), learning=some, readout=training, n_augmented=1, augment=moved),
        "backprop": npl.BackpropClassifier(body(), training=npl.SupervisedTraining(2, 14, min_steps=1, augment=moved)),
        "association": npl.AssociationClassifier((8, 6), k=2, n_send=4, training=events),
    }


class Double(npl.SpikingClassifier):
    """In float64."""

    def initialised(self, train, rng):
        return super().initialised(train, rng).double()


class DoubleNetwork(npl.AssociativeNetwork):
    """In float64."""

    def initialise_(self, train, rng):
        super().initialise_(train, rng).net_.double()
        return self

    def train_step_(self, task, x, *rest):
        return super().train_step_(task, x.double(), *rest)


def exact():
    """Freshly made models in float64 by name, with the data of each."""
    spikes = lambda x: ThresholdEncoding(0.7)(x.double())
    steps = {"epochs": 2, "batch": 14, "min_steps": 1, "flip_probability": 0.2, "late_weight": 0.1}
    bumped = npl.SpikeTimeTraining(**steps, weight_bump=0.02, max_silent=0.5, clip=0.01)
    tasks = CLASSIFY, Task("label", "partial"), Task("pixels", label_fraction=0.6, occlusion_probability=0.5)
    guess, moved = Task("label", "all", pseudo_label_margin=0.02), npl.Distort(shift=0.7)
    settling = Settling(6, step_size=1.0, check_every=2, tolerance=3e-2)
    few = npl.Split(DATA.x, torch.where(torch.arange(43) % 4 == 0, DATA.y, -1), 3)
    mixed = {"training": AssociativeTraining(tasks, 2, 14, augment=moved), "settling": settling}
    guessing = {"training": AssociativeTraining((guess,), 2, 14), "nudge": Nudge(1, extrapolation=2.0, control=True)}
    targets = Settling(6, 0.5, targets=DerivativeTargets(), check_every=1, tolerance=3e-2)
    return {
        "theta": (Double((6, 5), encode=spikes, training=npl.SpikeTimeTraining(**steps)), DATA),
        "LIF": (Double((6,), encode=spikes, neuron=LIF(), training=bumped, init_scale=0.05), DATA),
        "QIF": (Double((6,), encode=spikes, neuron=QIF(), training=npl.SpikeTimeTraining(**steps)), DATA),
        "mSTDP": (DoubleNetwork((9, 7), 8, 6, **mixed), DATA),
        "aSTDP": (DoubleNetwork((9,), settling=targets, **guessing), few),
    }


def differ_exactly(group, alone):
    """By learner the largest difference of weights and numbers logged, in float64; nan but where `alone`."""
    found = {}
    for (name, (model, data)), (other, _) in zip(exact().items(), exact().values()):
        rows, wanted = Rows(), Rows()
        with together(group):
            model.fit(data, rng=torch.Generator().manual_seed(0), tracker=rows)
        if alone:
            other.fit(data, rng=torch.Generator().manual_seed(0), tracker=wanted)
            both = [getattr(one, "net_", None) or one.network_ for one in (model, other)]
            pairs = [*zip(*(one.parameters() for one in both))]
            found[name] = max(float((a - b).abs().max() / b.abs().max().clamp_min(0.1)) for a, b in pairs)
            found[f"{name}, rows"] = max(abs(a - b) for a, b in zip(rows.numbers, wanted.numbers, strict=True))
    return found


def unlike(group, rank):
    """What is said where processes have other data or seeds, by what differs."""
    x, y = DATA.x, DATA.y
    given = {"x": (x * (1 - 1e-3 * rank), y, 0), "y": (x, (y + rank) % 3, 0), "seed": (x, y, rank),
             "number": (x[: 43 - rank], y[: 43 - rank], 0)}  # fmt: skip
    found = {}
    for name, (some, labels, seed) in given.items():
        with together(group):
            try:
                rng = torch.Generator().manual_seed(seed)
                npl.AssociationClassifier((9,)).fit(npl.Split(some, labels, 3), rng=rng)
            except Refusal as refusal:
                found[name] = str(refusal)
    return found


class Rows(NullTracker):
    """Keeps the numbers that are logged."""

    def __init__(self):
        self.numbers = []

    def log(self, row):
        self.numbers += row.metrics.values()


def differ(group, alone):
    """By learner the largest difference of what the processes of `group` learn, relative; nan but where `alone`."""
    found = {}
    for (name, model), other in zip(learners().items(), learners().values()):
        with together(group):
            model.fit(DATA, rng=torch.Generator().manual_seed(0))
        assert not any(weight in _shared for weight in model.network_.parameters()), name  # no longer
        if alone:
            other.fit(DATA, rng=torch.Generator().manual_seed(0))
            pairs = zip(model.network_.parameters(), other.network_.parameters())
            found[name] = max(float((a - b).abs().max() / b.abs().max().clamp_min(0.1)) for a, b in pairs)
    return found


def normalised(group, shape=(9, 3, 4)):
    """How far outputs, gradients and statistics of batch normalisation are from those of one process, in float64."""
    rng = torch.Generator().manual_seed(5)
    x, out = (torch.randn(shape, dtype=torch.float64, generator=rng) for _ in range(2))
    found = []
    for momentum in 0.3, None:
        norms = [nn.BatchNorm1d(3, momentum=momentum).double() for _ in range(2)]
        whole, mine = x.clone().requires_grad_(), x.clone().requires_grad_()
        (norms[0](whole).sin() * out).sum().backward()
        with together(group), joined(norms[1]) as part:
            (norms[1](part(mine)).sin() * part(out)).sum().backward()
            sums = part.sum(norms[1].weight.grad, norms[1].bias.grad, mine.grad)
        found += [a - b for a, b in zip(sums, (norms[0].weight.grad, norms[0].bias.grad, whole.grad))]
        found += [a - b for a, b in zip(norms[1].buffers(), norms[0].buffers())]
        assert norms[1](x).shape == x.shape  # by itself again
    return max(float(one.abs().max()) for one in found)


def too_few(group):
    """What each process says of one value of a channel in all of them together, while it learns and afterwards."""
    norm, x = nn.BatchNorm1d(3), torch.randn(1, 3)
    with together(group), joined(norm) as part:
        try:
            said = f"nothing, {norm(part(x)).isfinite().all()}"
        except Refusal as error:
            said = str(error)
        assert norm.eval()(part(x)).isfinite().all()
    told = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(told, said, group)
    return told
