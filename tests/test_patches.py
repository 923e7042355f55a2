"""The patches that a convolution's units see, against the oracle that nudges one weight at a time."""

import pytest
import torch
from torch import nn

import oracles
from neuropil.checks import Refusal
from neuropil.plasticity import HardWTA, KrotovHopfield, SoftHebb
from neuropil.plasticity import patches as patch_room
from neuropil.plasticity.patches import has_patches, patches
from oracles import GEOMETRIES, make

PLAIN = [name for name in GEOMETRIES if has_patches(make(name)[0])]


def test_plain_convolutions_of_every_dimension_and_padding_have_patches():
    assert len(PLAIN) == 8
    assert not any(word in name for name in PLAIN for word in ("dense", "groups", "transposed"))


@pytest.mark.parametrize("limit", [1, 5, 4096])
@pytest.mark.parametrize("name", PLAIN)
def test_a_patch_holds_what_each_weight_meets_in_order(name, limit):
    layer, pre = make(name)
    with torch.no_grad():
        want = oracles.Unfolded(layer, pre).patch[0]
    got = list(patches(layer, pre, limit=limit))
    torch.testing.assert_close(torch.cat(got), want, rtol=1e-12, atol=1e-12)
    widest = make(name)[0](pre).shape[3:].numel()  # one row of positions
    assert max(map(len, got)) <= max(limit, widest)


def test_patches_make_no_copy_of_the_whole():
    layer, pre = nn.Conv2d(3, 4, 5), torch.randn(2, 3, 40, 40)
    first = next(patches(layer, pre, limit=100))
    assert first.untyped_storage().nbytes() == first.numel() * 4 < pre.numel() * 4


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(Refusal, match=r"kernel that spans \(9, 9\) was given positions \(7, 7\)"):
        list(patches(nn.Conv2d(1, 2, 5, dilation=2, padding=1), torch.zeros(1, 1, 5, 5)))


@pytest.mark.parametrize("rule", [KrotovHopfield(k=2, average=True), SoftHebb(normalise=True), HardWTA()])
def test_any_number_of_patches_at_a_time_gives_the_same_change(rule, monkeypatch):
    layer, pre = make("conv2d, stride and padding")
    want = rule(layer, pre)
    monkeypatch.setattr(patch_room, "LIMIT", 60)
    torch.testing.assert_close(rule(layer, pre), want, rtol=1e-10, atol=1e-12)
