"""The patches that a convolution's units see, against the oracle that nudges one weight at a time."""

import pytest
import torch
from torch import nn

import oracles
from neuropil.errors import Refusal
from neuropil.plasticity import HardWTA, KrotovHopfield, Plan, SoftHebb
from neuropil.plasticity.patches import has_patches, patches
from oracles import GEOMETRIES, make
from test_rules import RULES, Largest

PLAIN = [name for name in GEOMETRIES if has_patches(make(name)[0])]


def test_plain_convolutions_of_every_dimension_and_padding_have_patches():
    assert len(PLAIN) == 8
    assert not any(word in name for name in PLAIN for word in ("dense", "groups", "transposed"))


@pytest.mark.parametrize("limit", [1, 5, 4096])
@pytest.mark.parametrize("name", PLAIN)
def test_a_patch_holds_what_each_weight_meets_in_order(name, limit):
    layer, pre = make(name)
    plan = Plan(patch_entries=limit * max(len(layer.weight), layer.weight[0].numel()))
    with torch.no_grad():
        want = oracles.Unfolded(layer, pre).patch[0]
    got = list(patches(layer, pre, plan=plan))
    torch.testing.assert_close(torch.cat(got), want, rtol=1e-12, atol=1e-12)
    widest = make(name)[0](pre).shape[3:].numel()  # one row of positions
    assert max(map(len, got)) <= max(limit, widest)


@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_patches_are_the_copied_ones(threads, monkeypatch):
    layer, pre = make("conv2d, dilation")
    want = list(patches(layer, pre.bfloat16().float()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    plan = Plan(patches_per_thread=1)
    for dtype in torch.float32, torch.float64, torch.bfloat16:
        got = list(patches(layer, pre.bfloat16().to(dtype), plan=plan))
        assert all(torch.equal(a.float(), b) and a.dtype == dtype for a, b in zip(got, want, strict=True))


def test_patches_make_no_copy_of_the_whole():
    layer, pre = nn.Conv2d(3, 4, 5), torch.randn(2, 3, 40, 40)
    first = next(patches(layer, pre, plan=Plan(patch_entries=100 * 75)))
    assert first.untyped_storage().nbytes() == first.numel() * 4 < pre.numel() * 4


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(Refusal, match=r"kernel that spans \(9, 9\) was given positions \(7, 7\)"):
        list(patches(nn.Conv2d(1, 2, 5, dilation=2, padding=1), torch.zeros(1, 1, 5, 5)))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_so_is_a_kernel_of_no_size():
    with pytest.raises(Refusal, match=r"kernel that spans \(0, 0\)"):
        list(patches(nn.Conv2d(1, 2, 0), torch.zeros(1, 1, 5, 5)))


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d"])
def test_krotov_hopfield_adds_patches_up_alike_without_compiled_code(name):
    layer, pre = make(name)
    rule = KrotovHopfield(k=3, average=True)
    plain = rule(layer, pre, plan=Plan(compiled=False, patch_entries=20))
    torch.testing.assert_close(plain, rule(layer, pre), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", [KrotovHopfield(k=2), SoftHebb(), HardWTA()])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_pixel_is_refused(rule, bad):
    layer, pre = make("conv2d, stride and padding")
    pre[1, 0, 2, 3] = bad
    with pytest.raises(Refusal, match="NaN or infinite"):
        rule(layer, pre)


@pytest.mark.parametrize("plan", [Plan(), Plan(compiled=False, patch_entries=20)], ids=["kernels", "patches"])
def test_drives_that_overflow_rank_nobody_and_are_refused_though_the_change_would_be_finite(plan):
    class Instars(HardWTA):
        def post(self, u):
            return super().post(u)._replace(decay=0.0)

        def competition(self):
            return super().competition()._replace(decay=0.0)

    layer, pre = make("conv2d, stride and padding", torch.float32)
    layer.weight.data *= 3e30
    assert Instars()(layer, pre, plan=plan).any()
    for sizes in ([2e9, 2e9], [2e9, 1.0], [1.0, 2e9]):  # in each of the pieces alone
        with pytest.raises(Refusal, match="NaN or infinite"):
            Instars()(layer, pre * torch.tensor(sizes).view(2, 1, 1, 1), plan=plan)


@pytest.mark.parametrize("rule", [KrotovHopfield(k=2, average=True), SoftHebb(normalise=True), HardWTA()])
def test_any_number_of_patches_at_a_time_gives_the_same_change(rule):
    layer, pre = make("conv2d, stride and padding")
    few = rule(layer, pre, plan=Plan(patch_entries=60))
    torch.testing.assert_close(few, rule(layer, pre), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_tensor_grows_with_the_batch(rule, channels, groups):
    layer, pre = nn.Conv2d(channels, 10, 3, groups=groups, bias=False), torch.randn(200, channels, 12, 12)
    rule(layer, pre[:1])  # the first use of all sets up the allocator
    with Largest(beside=pre) as seen:
        rule(layer, pre, plan=Plan(outputs=4000, patch_entries=4000))
    assert 0 < seen.numel <= 8000 < pre.numel()


@pytest.mark.parametrize(("units", "channels", "convolves"), [(4, 1, True), (5, 1, False), (5, 2, True)])
def test_soft_competition_convolves_where_that_is_faster(units, channels, convolves):
    layer, pre = nn.Conv2d(channels, units, 3).double(), torch.randn(3, channels, 6, 6).double()
    with torch.no_grad():
        want = SoftHebb()(layer, pre, layer(pre))
    passes = []
    layer.register_forward_hook(lambda *_: passes.append(1))
    change = SoftHebb()(layer, pre, plan=Plan(many_units=4))
    torch.testing.assert_close(change, want, rtol=1e-10, atol=1e-12)
    assert bool(passes) == convolves
