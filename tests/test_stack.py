"""Bodies in stages: their names, their pieces, where their kernels start, and learning from a share of the patches."""

import math

import pytest
import torch
from torch import nn

from common import first_digits, rng
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models import (
    LocalLearning,
    PatchNormConv2d,
    Triangle,
    gather_statistics_,
    init_kernels_,
    init_patches_,
    stacked,
)
from neuropil.models.nn.convolution import Stack, convolutions
from neuropil.plasticity import HardWTA, KrotovHopfield, SoftHebb
from neuropil.plasticity.patches import in_sample, patches, sample_patches
from neuropil.runs import NullTracker
from oracles import make

train = first_digits(300)


def two():
    """Two stages with statistics."""
    torch.manual_seed(1)
    return stacked(
        {"conv": PatchNormConv2d(1, 12, 3), "act": Triangle(), "pool": nn.MaxPool2d(2)},
        {"norm": nn.BatchNorm2d(12, affine=False), "conv": nn.Conv2d(12, 20, 2, bias=False)},
    )


def test_every_layer_has_the_name_of_its_part_and_the_number_of_its_stage():
    body = two()
    assert [name for name, _ in body.named_children()] == ["conv1", "act1", "pool1", "norm2", "conv2"]
    assert convolutions(body) == ["conv1", "conv2"]


def test_pieces_change_nothing_and_batch_statistics_are_of_the_whole_batch(train, monkeypatch):
    body, x = two().requires_grad_(False), train.pixels()[:50]
    with torch.no_grad():
        body.train()
        whole = body(x)
        mean = body.norm2.running_mean / body.norm2.momentum
        below = nn.Sequential(*list(body.children())[:3])
        torch.testing.assert_close(mean, below(x).mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
        body.eval()
        seen = []
        body.act1.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
        got = body(x)
        assert seen == [16, 16, 16, 2]
        monkeypatch.setattr(Stack, "PIECE", 100)
        torch.testing.assert_close(got, body(x), rtol=1e-5, atol=1e-6)
        assert got.shape == whole.shape
    monkeypatch.setattr(Stack, "PIECE", 16)
    seen.clear()
    body(x)  # with gradients there is one graph, and no piece
    assert seen == [50]


def test_statistics_are_those_of_the_images_and_stay(train):
    body = two()
    gather_statistics_(body, train, batch=100)
    assert not body.training
    rounds = math.ceil(2000 / len(train))  # a small data set goes by until 2000 images have
    assert body.norm2.num_batches_tracked == rounds * math.ceil(len(train) / 100)
    seen = body[: list(dict(body.named_children())).index("norm2")](train.pixels())
    torch.testing.assert_close(body.norm2.running_mean, seen.mean((0, 2, 3)), rtol=0.15, atol=0.01)
    plain = stacked({"conv": PatchNormConv2d(1, 4, 3)})
    gather_statistics_(plain, train)
    assert not plain.training


def test_kernels_are_drawn_with_the_norm_that_was_asked_for():
    body = stacked({"conv": PatchNormConv2d(3, 400, 5)}, {"conv": nn.Conv2d(400, 300, 3, bias=False)})
    init_kernels_(body, rng(), scale=5.0)
    for layer in (body.conv1, body.conv2):
        norms = layer.weight.detach().flatten(1).norm(dim=1)
        assert norms.mean().item() == pytest.approx(5.0, rel=0.03)
    first = body.conv1.weight.detach().clone()
    init_kernels_(body, rng(), scale=5.0)
    assert torch.equal(first, body.conv1.weight)


def test_kernels_start_at_patches_that_their_layer_meets(train):
    body = two()
    init_patches_(body, train, rng())
    body.eval()
    with torch.no_grad():
        below = train.pixels()
        for layer, inputs in ((body.conv1, below), (body.conv2, body[:4](below))):
            kernels = layer.weight.flatten(1)
            torch.testing.assert_close(kernels.norm(dim=1), torch.ones(len(kernels)), rtol=1e-5, atol=1e-6)
            met = torch.cat(list(patches(layer, inputs)))
            met = met / met.norm(dim=1, keepdim=True).clamp_min(1e-12)
            # the statistics of the layers below moved on when those above were drawn
            assert (kernels @ met.T).amax(1).min() > (0.99999 if layer is body.conv1 else 0.98)
            assert len(kernels.unique(dim=0)) > 0.8 * len(kernels)


def test_drawn_patches_are_patches_each_as_likely_as_the_other():
    layer, pre = make("conv2d, stride and padding")
    every = torch.cat(list(patches(layer, pre)))
    drawn = sample_patches(layer, pre, 20_000, rng())
    apart = torch.cdist(drawn, every, compute_mode="donot_use_mm_for_euclid_dist")
    assert apart.amin(1).max() < 1e-12
    counts = apart.argmin(1).bincount(minlength=len(every))
    spread = (counts / counts.sum() * len(every) - 1).abs()
    assert spread.max() < 6 * (len(every) / 20_000) ** 0.5


def test_patches_that_the_layer_leaves_out_are_not_drawn():
    layer, x = PatchNormConv2d(1, 4, 3), torch.zeros(2, 1, 8, 8)
    assert in_sample(HardWTA(), layer, x, 0.5, rng()).count_nonzero() == 0
    x[0, 0, 0, 0] = 1
    drawn = sample_patches(layer, x, 500, rng())
    assert 0 < len(drawn) < 30
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(len(drawn)))


@pytest.mark.parametrize("rule", [KrotovHopfield(p=2, k=2, average=True), SoftHebb(normalise=True)])
def test_the_change_of_many_drawn_patches_is_nearly_that_of_all(rule):
    layer, pre = make("conv2d, stride and padding")
    want = rule(layer, pre)
    got = in_sample(rule, layer, pre, 2000.0, rng())
    assert torch.cosine_similarity(got.flatten(), want.flatten(), dim=0) > 0.99
    few = in_sample(rule, layer, pre, 0.1, rng())
    assert few.shape == want.shape
    assert not torch.allclose(few, want)


def test_learning_from_a_share_meets_that_share(train, monkeypatch):
    met = []
    body = stacked({"conv": nn.Conv2d(1, 12, 3, bias=False)})

    def count(layer, pre, reduction):
        met.append((type(layer), len(pre)))
        return torch.zeros_like(layer.weight)

    LocalLearning({"conv1": count}, epochs=1, batch=100, patch_fraction=0.25).fit_(
        body, train, rng=rng(), tracker=NullTracker()
    )
    assert met == [(nn.Linear, 25 * 36)] * 3


@pytest.mark.parametrize(
    "wrong", [{"patch_fraction": 0.0}, {"patch_fraction": 1.5}, {"patch_fraction": 0.5, "joint": True}]
)
def test_a_share_that_cannot_be_is_refused(wrong):
    with pytest.raises(Refusal, match="0 < patch_fraction <= 1"):
        LocalLearning({}, **wrong)


def test_a_share_of_a_dense_layer_is_all_of_it(train):
    flat = Split(train.pixels().flatten(1), train.y, 10)
    ends = []
    for share in (0.5, 1.0):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(64, 9, bias=False))
        LocalLearning({"0": HardWTA()}, epochs=1, lr=1e-3, patch_fraction=share).fit_(
            body, flat, rng=rng(), tracker=NullTracker()
        )
        ends.append(body[0].weight.detach().clone())
    assert torch.equal(*ends)
