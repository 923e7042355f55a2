"""One learning rate, that of the page on rules, for every batch size, number of positions, resolution and scale."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuropil as npl
from neuropil.data import digits
from neuropil.errors import Diverged
from neuropil.plasticity import SignedWTA
from test_docs import ROOT

RULES = {
    type(rule).__name__: rule
    for rule in (
        npl.Hebb(),
        npl.Oja(),
        npl.Sanger(),
        npl.BCM(),
        npl.HardWTA(),
        SignedWTA(average=True),
        npl.SoftHebb(tau=0.05),
        npl.KrotovHopfield(p=2, k=7, average=True),
        npl.ExplainAway(),
        npl.Association(10, slope=32, k=1),
    )
}
IMAGES, LABELS = (lambda train: (train.pixels(), train.y))(digits(seed=0)[0])
CENTRED = F.normalize((IMAGES - IMAGES.mean(0)).flatten(1)).view(IMAGES.shape)


def documented():
    """The rate of every rule for plain SGD, from the table of the page on rules."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", (ROOT / "docs/rules.md").read_text("utf-8"), re.MULTILINE)
    return {name: float(rate) for name, rate in rows}


def test_every_rule_has_a_documented_rate():
    assert set(documented()) == {*RULES, npl.DifferentialHebb.__name__}


def layer_for(kind):
    torch.manual_seed(0)
    return nn.Linear(64, 40) if kind == "dense" else nn.Conv2d(1, 20, 5, bias=False)


def change_of(rule, layer, images, labels, **options):
    x = images.flatten(1) if isinstance(layer, nn.Linear) else images
    return rule(layer, x, **({"label": labels} if isinstance(rule, npl.Association) else {}), **options)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_twice_the_batch_gives_the_same_change(name, kind):
    rule, layer = RULES[name], layer_for(kind)
    once = change_of(rule, layer, CENTRED[:100], LABELS[:100])
    twice = change_of(rule, layer, CENTRED[:100].repeat(2, 1, 1, 1), LABELS[:100].repeat(2))
    torch.testing.assert_close(twice, once, rtol=1e-3, atol=1e-6)


def upsampled(images):
    return F.interpolate(images, scale_factor=2, mode="bilinear")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("more", [lambda images: images.repeat(1, 1, 3, 3), upsampled], ids=["positions", "resolution"])
def test_more_positions_or_twice_the_resolution_give_a_change_of_the_same_scale(name, more):
    """8 x 8 pixels have 16 positions, 16 x 16 have 144: the ratio of sums would be near 9."""
    rule, layer = RULES[name], layer_for("conv")
    few = change_of(rule, layer, CENTRED[:100], LABELS[:100]).norm()
    many = change_of(rule, layer, more(CENTRED[:100]), LABELS[:100]).norm()
    assert 1 / 3 < many / few < 3


def learned(name, make, batch, images, *, kind="dense", steps=30, rate=None):
    """The weight before and after that many steps on batches of random images."""
    layer, rng = layer_for(kind), torch.Generator().manual_seed(1)
    before, optimizer = layer.weight.detach().clone(), make(layer.parameters(), lr=rate or documented()[name])
    for _ in range(steps):
        chosen = torch.randint(len(images), (batch,), generator=rng)
        npl.propose_(layer, change_of(RULES[name], layer, images[chosen], LABELS[chosen]))
        optimizer.step()
    return before, layer.weight.detach()


@pytest.mark.parametrize("name", RULES)
def test_at_the_documented_rate_twice_the_batch_learns_as_far(name):
    ends = [learned(name, torch.optim.SGD, batch, CENTRED) for batch in (100, 200)]
    far, farther = ((after - before).norm() for before, after in ends)
    assert far > 1e-3
    assert 0.8 < farther / far < 1.25


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    "images",
    [IMAGES, 10 * IMAGES, IMAGES + 3, (IMAGES - IMAGES.mean()) / IMAGES.std()],
    ids=["plain", "times 10", "plus 3", "standardised"],
)
def test_inputs_of_any_scale_are_learned_or_refused_and_no_weight_is_ever_nan(name, kind, make, images):
    rate = 1e-3 if make is torch.optim.Adam else None
    layer = None
    try:
        _, layer = learned(name, make, 50, images, kind=kind, steps=60, rate=rate)
    except Diverged as refusal:
        assert "lower the learning rate" in str(refusal)  # noqa: PT017
    assert layer is None or layer.isfinite().all()


def test_so_does_a_nudge_towards_targets_at_its_documented_rate():
    layer, x = layer_for("dense"), CENTRED.flatten(1)
    target = x @ torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(layer.parameters(), lr=documented()["DifferentialHebb"])
    errors = []
    for _ in range(300):
        before = layer(x).detach()
        errors.append((target - before).square().mean().item())
        npl.propose_(layer, npl.DifferentialHebb()(layer, x, before, post_after=before + 0.5 * (target - before)))
        optimizer.step()
    assert errors[-1] < errors[0] / 2
    assert errors == sorted(errors, reverse=True)
