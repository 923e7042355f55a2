"""Convolutions on normalised patches, and the activations between them."""

import pytest
import torch
from torch import nn

from neuropil.data import Split
from neuropil.errors import Diverged, Refusal
from neuropil.models.nn.convolution import PatchNormConv2d, Triangle, init_patches_
from neuropil.plasticity import HardWTA, KrotovHopfield, correlate
from neuropil.plasticity.patches import patches
from oracles import correlate_by_hand

LAYOUTS = torch.contiguous_format, torch.channels_last
SHAPES = {
    "plain": {},
    "padded": {"padding": 2},
    "strided, reflect": {"stride": 2, "padding": 1, "padding_mode": "reflect"},
    "dilated": {"dilation": 2},
}


def layer_and_images(name):
    torch.manual_seed(0)
    layer = PatchNormConv2d(2, 5, 3, **SHAPES[name]).double()
    return layer, torch.rand(2, 2, 6, 7, dtype=torch.float64)


def by_loops(layer, x):
    """Every patch cut out, centred and normalised by hand."""
    pad, mode = layer.padding[0], layer.padding_mode
    if pad:
        x = nn.functional.pad(x, [pad] * 4, mode="constant" if mode == "zeros" else mode)
    reach, step = layer.dilation[0] * 2 + 1, layer.stride[0]
    rows = []
    for image in x:
        for top in range(0, image.shape[1] - reach + 1, step):
            for left in range(0, image.shape[2] - reach + 1, step):
                patch = image[:, top : top + reach, left : left + reach][:, :: layer.dilation[0], :: layer.dilation[0]]
                patch = (patch - patch.mean()).flatten()
                rows.append(layer.weight.flatten(1) @ (patch / patch.norm()))
    return torch.stack(rows)


@pytest.mark.parametrize("name", SHAPES)
def test_every_unit_answers_to_the_direction_of_the_centred_patch(name):
    layer, x = layer_and_images(name)
    out = layer(x)
    torch.testing.assert_close(out.movedim(1, -1).flatten(0, -2), by_loops(layer, x), rtol=1e-9, atol=1e-9)
    seen = torch.cat(list(patches(layer, x)))
    torch.testing.assert_close(seen @ layer.weight.flatten(1).T, by_loops(layer, x), rtol=1e-9, atol=1e-9)


def whitened(shape):
    layer, x = layer_and_images(shape)
    images = Split(torch.rand(300, 2, 6, 7), torch.zeros(300, dtype=torch.int64), 2)
    images.x[:, 1] = 0.7 * images.x[:, 0] + 0.3 * images.x[:, 1]  # the channels are alike
    return layer, x, images


@pytest.mark.parametrize("name", SHAPES)
def test_every_unit_answers_to_the_whitened_patch_and_learns_from_it(name):
    layer, x, images = whitened(name)
    layer.whiten_(images, torch.Generator().manual_seed(0))
    direct = replace_weight(layer, layer.weight.flatten(1) @ layer.whitening)
    out = layer(x)
    torch.testing.assert_close(out.movedim(1, -1).flatten(0, -2), by_loops(direct, x), rtol=1e-9, atol=1e-9)
    seen = torch.cat(list(patches(layer, x)))
    torch.testing.assert_close(seen @ layer.weight.flatten(1).T, by_loops(direct, x), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        post = torch.randn_like(out)
        want = correlate_by_hand(layer, x, post)
    torch.testing.assert_close(correlate(layer, x, post), want, rtol=1e-9, atol=1e-9)


def replace_weight(layer, weight):
    other = PatchNormConv2d(
        2, 5, 3, **{key: getattr(layer, key) for key in ("stride", "padding", "dilation", "padding_mode")}
    )
    other.weight = nn.Parameter(weight.view_as(layer.weight))
    return other


def test_whitened_patches_vary_alike_in_every_direction():
    layer, _, images = whitened("plain")
    spread = lambda patch: torch.linalg.eigvalsh(patch.T @ patch / len(patch))[1:]  # without that of the mean
    look = lambda: torch.cat(list(patches(layer, images.pixels().double())))
    before = spread(look())
    assert before[-1] > 5 * before[0]
    layer.whiten_(images, torch.Generator().manual_seed(0), floor=1e-6, count=20_000)
    after = spread(look())
    assert after[-1] < 1.5 * after[0]  # 20,000 random patches stand for 6,000
    assert look().norm(dim=1).mean() == pytest.approx(1, rel=0.02)
    with pytest.raises(Refusal, match="floor > 0"):
        layer.whiten_(images, torch.Generator(), floor=0.0)
    flat = Split(torch.full((2, 2, 6, 7), 0.5), torch.tensor([0, 1]), 2)
    with pytest.raises(Refusal, match="not flat"):
        layer.whiten_(flat, torch.Generator())


def test_light_and_contrast_change_nothing():
    layer, x = layer_and_images("plain")
    torch.testing.assert_close(layer(0.3 * x + 0.2), layer(x), rtol=1e-9, atol=1e-9)


def test_a_flat_patch_is_zero_and_nobody_wins_it():
    layer = PatchNormConv2d(1, 4, 3)
    x = torch.full((1, 1, 5, 5), 0.7)
    assert layer(x).count_nonzero() == 0
    assert list(patches(layer, x)) == []
    assert HardWTA()(layer, x).count_nonzero() == 0
    assert KrotovHopfield(k=2, average=True)(layer, x).count_nonzero() == 0
    x[0, 0, 0, 0] = 0.1
    assert torch.cat(list(patches(layer, x))).shape == (1, 9)


@pytest.mark.parametrize("rule", [HardWTA(average=True), HardWTA(), KrotovHopfield(p=2, k=2, average=True)], ids=str)
def test_nobody_wins_a_flat_patch_either_where_the_output_is_given(rule):
    layer, x = layer_and_images("padded")
    x[0, :, :, 2:] = 0.37
    gain = {0: 1.0} if isinstance(rule, HardWTA) else {0: 1.0, 1: -rule.delta}
    weight, want, chosen = layer.weight.flatten(1), torch.zeros(5, 18, dtype=torch.float64), torch.zeros(5)
    places, flat = nn.functional.unfold(x, 3, padding=2).movedim(1, 2).flatten(0, 1), 0
    for patch in places:
        centred = patch - patch.mean()
        if centred.norm() < 1e-12:
            flat += 1
            continue
        pre = centred / centred.norm()
        drive = weight @ pre
        for rank, unit in enumerate(drive.argsort(descending=True)[: len(gain)].tolist()):
            left = 1.0 if isinstance(rule, HardWTA) else drive[unit]
            want[unit] += gain[rank] * (pre - left * weight[unit])
            chosen[unit] += 1
    want = want / (chosen.clamp_min(1)[:, None] if rule.average else len(places))
    assert flat > 10
    for post in (None, layer(x).detach()):
        torch.testing.assert_close(rule(layer, x, post).flatten(1), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [HardWTA(), KrotovHopfield(k=2)])
def test_a_patch_with_nan_is_not_flat_but_refused(rule):
    layer, x = layer_and_images("plain")
    x[0, 0, 1, 1] = float("nan")
    with pytest.raises(Diverged, match="NaN or infinite"):
        rule(layer, x)


def test_correlation_is_of_normalised_patches():
    layer, x = layer_and_images("strided, reflect")
    with torch.no_grad():
        post = torch.randn_like(layer(x))
        want = correlate_by_hand(layer, x, post)
    torch.testing.assert_close(correlate(layer, x, post), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("wrong", "says"), [({"groups": 2}, "groups=1"), ({"bias": True}, "bias=False")])
def test_what_a_patch_norm_cannot_have(wrong, says):
    with pytest.raises(Refusal, match=says):
        PatchNormConv2d(2, 4, 3, **wrong)


def test_the_triangle_keeps_what_is_above_the_mean_of_the_channels():
    x = torch.tensor([[1.0, 2.0, 6.0]])[..., None]
    assert Triangle()(x).flatten().tolist() == [0, 0, 3]
    assert Triangle(2.0)(x).flatten().tolist() == [0, 0, 9]
    with pytest.raises(Refusal, match="n > 0"):
        Triangle(0.0)


def test_kernels_find_no_start_in_images_that_are_flat():
    body = nn.Sequential(PatchNormConv2d(1, 3, 2))
    black = Split(torch.zeros(5, 1, 4, 4), torch.zeros(5).long(), 2)
    with pytest.raises(Refusal, match="patches that are not flat"):
        init_patches_(body, black, torch.Generator().manual_seed(0))


def test_kernels_start_at_the_same_patches_where_channels_lie_last_in_memory():
    images = Split(torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(9).long(), 2)
    bodies = [nn.Sequential(nn.Conv2d(3, 5, 2)).to(memory_format=form) for form in LAYOUTS]
    for body in bodies:
        init_patches_(body, images, torch.Generator().manual_seed(0))
    assert torch.equal(bodies[0][0].weight, bodies[1][0].weight)
    torch.testing.assert_close(bodies[1][0].weight.flatten(1).norm(dim=1), torch.ones(5))
