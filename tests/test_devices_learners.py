"""All that learns, predicts, encodes, augments, measures, attacks and damages does it where its data lie."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import neuropil as npl
from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Sampling
from neuropil.data import Split, digits
from neuropil.data.masks import image_mask
from neuropil.data.subsets import hold_out, relabel, subset
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy, linear_probe
from neuropil.evaluate.metrics.assignment import assign_units
from neuropil.evaluate.metrics.generation import ReferenceClassifier, evaluate_samples
from neuropil.evaluate.metrics.units import count_wins, unit_statistics
from neuropil.evaluate.robustness.attacks.gradient import PGD
from neuropil.evaluate.robustness.corruptions import CORRUPTIONS, corrupted
from neuropil.evaluate.robustness.damage import DAMAGES, damaged
from neuropil.evaluate.robustness.norms import Linf
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    Distort,
    FeatureClassifier,
    LocalLearning,
    Mirror,
    PatchNormConv2d,
    SpikeTimeTraining,
    SpikingClassifier,
    Standardise,
    SupervisedTraining,
    Triangle,
    UnitNorm,
    dense_body,
    init_examples_,
    init_patches_,
)
from neuropil.plasticity import HardWTA, KrotovHopfield, SoftHebb
from neuropil.runs import NullTracker
from neuropil.spiking import QIF, QIFNetwork, ThetaNetwork
from neuropil.spiking.encoding import LatencyEncoding, LinearTimeEncoding, ThresholdEncoding
from neuropil.spiking.losses import first_spike_loss, first_to_fire, peak_potential, spike_time_loss
from other_device import other_device, same

SHORT = SupervisedTraining(epochs=1, batch=30, min_steps=2)
SPIKES = SpikeTimeTraining(epochs=1, batch=30, min_steps=2, augment=Mirror())


@cache
def whole(part=0):
    split = digits(seed=0)[part]
    return Split(split.x[:60], torch.arange(60) % 10, 10)  # every class has examples


def seed(number=0):
    return torch.Generator().manual_seed(number)


def conv_body():
    torch.manual_seed(0)
    return nn.Sequential(PatchNormConv2d(1, 6, 3), Triangle(), nn.Conv2d(6, 4, 3, bias=False), nn.MaxPool2d(2))


def drawn_body(train):
    torch.manual_seed(0)
    return dense_body(train, 12, n=2.0)


def associative(**more):
    tasks = (CLASSIFY, GENERATE)
    return AssociativeNetwork((8,), 6, 5, training=AssociativeTraining(tasks, epochs=1, batch=30), **more)


LEARNERS = {
    "dense": lambda train: FeatureClassifier(
        drawn_body(train), readout=SHORT,
        learning=LocalLearning({"hidden": KrotovHopfield(k=3)}, epochs=1, batch=30, lr=0.02),
    ),
    "convolutions": lambda train: FeatureClassifier(
        conv_body(), readout=SHORT, n_augmented=1, augment=Mirror(),
        learning=LocalLearning({"0": SoftHebb(), "2": HardWTA()}, epochs=1, batch=30, norm_rate=0.5),
    ),
    "patches": lambda train: FeatureClassifier(
        conv_body(), readout=SHORT,
        learning=LocalLearning({"0": KrotovHopfield(k=2)}, epochs=1, batch=30, patch_fraction=0.3),
    ),
    "backprop": lambda train: BackpropClassifier(conv_body(), training=replace(SHORT, augment=Distort(bend=1.0))),
    "association": lambda train: AssociationClassifier(
        (40, 20), columns=(4, 1), receptive_field=5, k=1, n_send=2, training=AssociationTraining(1, 30)
    ),
    "plain association": lambda train: AssociationClassifier(
        (20,), k=None, training=AssociationTraining(1, 30, adaptive=False)
    ),
    "theta": lambda train: SpikingClassifier((6,), training=SPIKES),
    "qif": lambda train: SpikingClassifier((6,), neuron=QIF(), encode=LatencyEncoding(levels=4), training=SPIKES),
    "associative": lambda train: associative(),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_where_its_examples_are(name, tmp_path):
    def fitted(device):
        train, test = whole().to(device), whole(1).to(device)
        learner = LEARNERS[name](train).fit(train, rng=seed())
        yield [layer.weight for layer in learner.feature_layers()]
        yield [layer.module(test.pixels()[:5]) for layer in learner.feature_layers()]
        yield learner.decision_function(test.x), learner.predict(test.x)
        assert accuracy(learner, test) == (learner.predict(test.x) == test.y).double().mean().item()
        if name in ("theta", "qif"):
            yield learner.predict_from_spikes(test.pixels()), learner.activity(test.pixels())
        yield learner.refit_readout(train[:20], rng=seed(1)).predict(test.x)
        learner.save(tmp_path / f"{device}.safetensors")
        yield npl.load(tmp_path / f"{device}.safetensors", device=device).predict(test.x)

    same(fitted, rtol=1e-3, atol=1e-4)
    with other_device():
        for path, device in (("cpu", "cuda"), ("cuda", "cpu")):  # a file may be opened anywhere
            moved = npl.load(tmp_path / f"{path}.safetensors", device=device)
            assert moved.predict(whole(1).x.to(device)).device.type == device


def test_examples_elsewhere_are_refused_with_the_cure():
    learner = LEARNERS["dense"](whole()).fit(whole(), rng=seed())
    with other_device(), pytest.raises(Refusal, match=r"is on cpu, got examples on cuda:0; move them with x\.to"):
        learner.predict(whole().to("cuda").x)


def test_an_associative_network_generates_completes_and_settles_where_it_is():
    def asked(device):
        train = whole().to(device)
        learner = associative(sampling=Sampling(n_rounds=2, accept_margin=0.0)).fit(train, rng=seed())
        made = learner.generate(torch.arange(3), 2, seed())
        mask = image_mask("top", (1, 8, 8))
        yield made.images, learner.complete(train.pixels()[:4], mask, labels=train.y[:4], rng=seed())
        yield learner.complete(train.pixels()[:4], mask), learner.decision_function(train.pixels()[:4], mask)
        yield PGD(learner.forward, Linf(), seed(), 2, 1)(next(train[:4].batches(4)), 0.1)

    same(asked, rtol=1e-3, atol=1e-4)


def spiking_net(kind, device):
    net = kind((3, 4, 2), t_end=2.0)
    net.init_(seed())
    for layer in net.stack():
        layer.weight.data.mul_(4)
    return net.double().to(device)


@pytest.mark.parametrize("kind", [ThetaNetwork, QIFNetwork])
def test_spiking_networks_and_their_losses_have_gradients_there(kind):
    def gradients(device):
        net, times = spiking_net(kind, device), torch.rand(5, 3, generator=seed(), dtype=torch.float64).to(device)
        times.requires_grad_()
        output = net(times, 2)
        labels, targets = torch.tensor([0, 1, 0, 1, 1]).to(device), torch.tensor([[0.5, 1.0]]).double().to(device)
        loss = first_spike_loss(output.times[..., 0], labels, 2.0) + spike_time_loss(output.times, targets)
        loss = loss + peak_potential(times, net.stack()[0].weight, 2.0).sum()
        yield loss, torch.autograd.grad(loss, [times, *net.parameters()])
        yield first_to_fire(output.spikes[-1])

    same(gradients)


@pytest.mark.parametrize("kind", [ThetaNetwork, QIFNetwork])
def test_spike_times_and_weights_that_are_not_sound_are_refused_there(kind):
    with other_device():
        for bad, said in (float("nan"), "got NaN"), (-0.1, "got a negative time"), (2.1, "got a time after the end"):
            times = torch.tensor([[0.1, 0.2, bad]], dtype=torch.float64).to("cuda")
            with pytest.raises(Refusal, match=f"spike times need .*{said}"):
                spiking_net(kind, "cuda")(times)
        net = spiking_net(kind, "cuda")
        net.stack()[1].weight.data[0, 0] = float("nan")
        with pytest.raises(Refusal, match="weight has NaN"):
            net(torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64).to("cuda"))


ENCODINGS = ThresholdEncoding(), LatencyEncoding(), LatencyEncoding(levels=3), LinearTimeEncoding()


@pytest.mark.parametrize("encode", ENCODINGS, ids=repr)
def test_an_encoding_leaves_spikes_where_the_values_are(encode):
    same(lambda device: encode(whole().pixels()[:3].to(device)))


@pytest.mark.parametrize("augment", [Mirror(), Distort(), Distort(bend=0.5)], ids=repr)
def test_images_are_augmented_where_they_are(augment):
    same(lambda device: augment(whole().pixels().to(device), seed()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_images_are_corrupted_where_they_are(kind):
    same(lambda device: corrupted(whole().to(device), kind, 3, seed()).x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", DAMAGES)
def test_networks_are_damaged_where_they_are(kind):
    def harmed(device):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).to(device).eval()
        return list(damaged(net, kind, 3, seed()).parameters()), list(net.parameters())

    same(harmed)


def test_starts_and_layers_and_parts_of_data_are_there():
    def made(device):
        train, images = whole().to(device), whole().pixels().to(device)
        for start in (init_examples_, init_patches_):
            body = dense_body(train, 7, n=1.0) if start is init_examples_ else conv_body().to(device)
            start(body, train, seed())
            yield list(body.parameters())
        table = Split(images.flatten(1), train.y, 10)
        yield dense_body(table, 7, n=1.0).direction(table.x)
        yield UnitNorm()(images), Standardise(64).fit_(images.flatten(1)).to(device)(images.flatten(1))
        for part in (*hold_out(train, 0.3, 0), subset(train, 20, 0), relabel(train, [0, 1] * 5), train.labelled()):
            yield part.x, part.y
        yield [batch.x for batch in train.batches(25, shuffle=seed())]
        assert train.checksum() == whole().checksum()

    same(made)


def test_metrics_measure_there():
    def measured(device):
        train, test = whole().to(device), whole(1).to(device)
        body = drawn_body(train).eval()
        wins = count_wins(body, train)
        yield list(unit_statistics(body.hidden.weight, wins)[2:]), wins.tolist()
        every = Split(train.x[:20], torch.arange(20, device=device) % 10, 10)
        yield assign_units(body, every).predict(test.pixels()).cpu().tolist()
        flat = Split(train.pixels().flatten(1), train.y % 2, 2)
        yield linear_probe(flat[:30], flat[30:], weight_decay=0.1)
        judge = ReferenceClassifier(8, epochs=1, min_steps=2).fit(train, rng=seed(), tracker=NullTracker())
        yield list(evaluate_samples(judge, whole(1).pixels()[:20], whole(1).y[:20], test, train))  # made on the CPU

    same(measured)


def test_every_attack_corruption_and_damage_of_the_suite_runs_there():
    rows = {}
    fitted = {"linear": LogisticRegression().fit(whole().pixels().flatten(1).numpy(), whole().y.numpy())}

    class Kept(NullTracker):
        def log(self, row):
            rows.setdefault(self.device, []).append(vars(row) if hasattr(row, "__dict__") else row._asdict())

    def attacked(device):
        train, test = whole().to(device), whole(1)[:6].to(device)
        learners = {"dense": LEARNERS["dense"](train).fit(train, rng=seed())} | fitted
        trackers = {name: Kept() for name in learners}
        for tracker in trackers.values():
            tracker.device = device
        suite = Suite((0.1,), (1.0,), attack_steps=2, attack_restarts=1, attack_queries=11)
        robustness(learners, test, trackers=trackers, baselines=["dense"], suite=suite, seed=0)
        yield len(rows[device])

    same(attacked)
    for mine, theirs in zip(rows["cpu"], rows["cuda"]):
        numbers = {key: value for key, value in mine.items() if isinstance(value, float)}
        assert {key: theirs[key] for key in numbers} == pytest.approx(numbers, abs=1e-3, nan_ok=True), mine
