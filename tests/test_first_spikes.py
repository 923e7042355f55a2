"""Neurons that spike once, step by step in loops: contrasts as latencies, first spikes, and who wins."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch

from neuropil.errors import Refusal
from neuropil.models import ContrastLatency, FirstSpikeConv2d
from neuropil.models.nn.first_spikes import winners_of
from neuropil.recipes import stdp_conv

STEPS, PAD = 6, 1


@pytest.fixture(scope="module")
def layer():
    rng = torch.Generator().manual_seed(0)
    layer = FirstSpikeConv2d(2, 4, (2, 3), PAD, threshold=1.37, steps=STEPS).double().requires_grad_(False)
    layer.weight.copy_(torch.rand(layer.weight.shape, generator=rng).double())
    return layer


@pytest.fixture(scope="module")
def ages():
    rng = torch.Generator().manual_seed(1)
    silent = torch.rand(3, 2, 6, 5, generator=rng) < 0.6
    return torch.randint(1, STEPS + 1, (3, 2, 6, 5), generator=rng).masked_fill(silent, 0).double()


def by_loops(layer, ages):
    """(sample, y, x) -> (step, unit, potential): of each step the potential of every neuron, from all inputs so far."""
    weight, found = layer.weight.numpy(), {}
    padded = np.pad(ages.numpy(), ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    _, _, tall, wide = padded.shape
    units, channels, high, broad = weight.shape
    for n, y, x in np.ndindex(len(ages), tall - high + 1, wide - broad + 1):
        for step in range(STEPS):
            v = [0.0] * units
            for unit, c, dy, dx in np.ndindex(units, channels, high, broad):
                age = padded[n, c, y + dy, x + dx]
                v[unit] += weight[unit, c, dy, dx] if age and STEPS - age <= step else 0.0
            if max(v) >= layer.threshold:
                found[n, y, x] = step, int(np.argmax(v)), max(v)
                break
    return found


def test_in_half_precision_it_goes_from_step_to_step(layer, ages):
    half = deepcopy(layer).bfloat16()
    spikes = half.spikes(ages.bfloat16())
    assert spikes.potential.dtype == torch.bfloat16
    assert (spikes.age == layer.spikes(ages).age).double().mean() > 0.9


@pytest.mark.parametrize("way", ["_from_spike_to_spike", "_from_step_to_step"])
def test_the_first_neuron_of_a_position_to_reach_the_threshold_spikes(way, layer, ages):
    spikes, want = getattr(layer, way)(ages), by_loops(layer, ages)
    assert {tuple(index) for index in spikes.age.nonzero().tolist()} == set(want)
    assert 0 < len(want) < spikes.age.numel()
    assert len({step for step, *_ in want.values()}) > 3
    for place, (step, unit, potential) in want.items():
        assert (spikes.age[place], spikes.unit[place]) == (STEPS - step, unit)
        assert spikes.potential[place].item() == pytest.approx(potential, rel=1e-12)
    made = layer(ages)
    assert torch.equal(made.amax(1), spikes.age)
    assert torch.equal(made.argmax(1)[spikes.age > 0], spikes.unit[spikes.age > 0])
    assert torch.equal(torch.cat([layer(one[None]) for one in ages]), made)


def test_potentials_at_the_end_count_every_input_that_spiked(layer, ages):
    last = FirstSpikeConv2d(2, 4, (2, 3), PAD, steps=STEPS, sends="potentials").double()
    last.load_state_dict(layer.state_dict())
    want = torch.zeros_like(last(ages))
    padded = torch.nn.functional.pad(ages, (PAD,) * 4)
    for n, unit, y, x in np.ndindex(*want.shape):
        want[n, unit, y, x] = layer.weight[unit][padded[n, :, y : y + 2, x : x + 3] > 0].sum()
    torch.testing.assert_close(last(ages), want, rtol=1e-12, atol=1e-12)
    x = ages.clone().requires_grad_()
    (grad,) = torch.autograd.grad(last(x).sum() + layer(x).sum(), x)
    assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("radius", [0, 1])
def test_winners_are_the_earliest_and_inhibit_their_unit_and_their_neighbours(radius, layer, ages):
    spikes, want, places = layer.spikes(ages), [], list(zip(*winners_of(layer.spikes(ages), 3, radius)))
    for n in range(len(ages)):
        left = {place[1:]: spike for place, spike in by_loops(layer, ages).items() if place[0] == n}
        for _ in range(3):
            if left:
                y, x = min(left, key=lambda place: (left[place][0], -left[place][2]))
                want.append((n, y, x))
                unit = left[y, x][1]
                far = lambda place, y=y, x=x: max(abs(place[0] - y), abs(place[1] - x)) > radius
                left = {place: spike for place, spike in left.items() if spike[1] != unit and far(place)}
    assert sorted(tuple(map(int, place)) for place in places) == sorted(want)
    pre, post = layer.compete(ages, 3, radius)
    padded = torch.nn.functional.pad(ages, (PAD,) * 4)
    for (n, y, x), seen, who in zip(places, pre, post):
        patch = padded[n, :, y : y + 2, x : x + 3].flatten()
        assert torch.equal(seen.bool(), patch >= spikes.age[n, y, x])
        assert who.nonzero().item() == spikes.unit[n, y, x]


@pytest.mark.parametrize("depth", [0, 1])
def test_the_loop_of_the_recipe_lets_winners_learn_by_the_published_rule(depth, layer, ages):
    config = stdp_conv.Config(winners=(3, 2), radius=(0, 1), a_plus=0.013, a_minus=0.0071)
    conv = deepcopy(layer)
    optimizer = torch.optim.SGD(conv.parameters(), lr=config.a_plus + config.a_minus)
    wins = stdp_conv.Competition(config).step_(conv, depth, ages, optimizer)
    before, want = layer.weight.flatten(1), layer.weight.flatten(1).clone()
    pre, post = layer.compete(ages, config.winners[depth], config.radius[depth])
    for seen, who in zip(pre, post.argmax(1)):
        for k, w in enumerate(before[who]):
            want[who, k] += (config.a_plus if seen[k] else -config.a_minus) * w * (1 - w)
    assert wins == len(pre) > 4
    torch.testing.assert_close(conv.weight.flatten(1), want, rtol=1e-12, atol=1e-12)
    config = stdp_conv.Config(winners=(3, 2), radius=(0, 1), a_plus=20.0, a_minus=30.0)  # beyond both bounds
    optimizer = torch.optim.SGD(conv.parameters(), lr=50.0)
    stdp_conv.Competition(config).step_(conv, depth, ages, optimizer)
    assert (conv.weight.min().item(), conv.weight.max().item()) == (0, 1)


def test_a_contrast_is_a_difference_of_gaussians_and_the_larger_it_is_the_earlier_its_spike():
    encode = ContrastLatency(low=0.031, high=0.77, steps=11, sigma=(0.9, 1.7), size=5).double()
    x = torch.rand(1, 1, 7, 6, generator=torch.Generator().manual_seed(0)).double().mul_(2).clamp_max_(1)
    offsets = range(-2, 3)
    bump = lambda sigma: {(i, j): math.exp(-(i * i + j * j) / (2 * sigma**2)) for i in offsets for j in offsets}
    inner, outer = bump(0.9), bump(1.7)
    on = {at: inner[at] / sum(inner.values()) - outer[at] / sum(outer.values()) for at in inner}
    most, ages = sum(value for value in on.values() if value > 0), encode(x)
    for y, z in np.ndindex(7, 6):
        seen = [(at, y + at[0], z + at[1]) for at in on]
        total = sum(on[at] * x[0, 0, i, j].item() for at, i, j in seen if 0 <= i < 7 and 0 <= j < 6) / most
        for cell, contrast in enumerate((total, -total)):
            late = max(0.0, math.floor(11 * (0.77 - contrast) / (0.77 - 0.031)))
            assert ages[0, cell, y, z].item() == (11 - late if contrast > 0.031 else 0)
    assert len(ages.unique()) > 6
    assert torch.equal(encode(torch.cat([x, 1 - x], 1))[:, :2], ages)


def test_what_cannot_be_is_refused():
    with pytest.raises(Refusal, match="FirstSpikeConv2d needs threshold > 0"):
        FirstSpikeConv2d(1, 1, 3, threshold=0.0)
    with pytest.raises(Refusal, match="sends='ages'"):
        FirstSpikeConv2d(1, 1, 3, sends="ages")
    with pytest.raises(Refusal, match="ContrastLatency needs an odd size"):
        ContrastLatency(size=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sends", ["spikes", "potentials"])
@pytest.mark.parametrize(
    ("age", "got"),
    [(5.0, "0 to 5"), (15.0, "0 to 15"), (-1.0, "-1 to 4"), (0.5, "fractions"), (math.nan, "nan"), (math.inf, "inf")],
)
def test_ages_are_places_in_a_list_so_others_are_refused(age, got, sends, dtype):
    conv = FirstSpikeConv2d(1, 1, 1, threshold=1.0, steps=4, sends=sends).to(dtype).requires_grad_(False)
    conv.weight.fill_(1)
    ages = torch.tensor([4.0, 1.0, 0.0], dtype=dtype)[None, None, None]
    assert conv(ages).flatten().tolist() == ([4, 1, 0] if sends == "spikes" else [1, 1, 0])
    with pytest.raises(Refusal, match=f"needs ages .* 0 to 4, got .*{got}"):
        conv(torch.where(ages == 1, age, ages))


def test_channels_that_have_no_weight_are_refused(layer, ages):
    for wrong in (ages[:, :1], ages.repeat(1, 3, 1, 1), ages[0]):
        for call in (layer, layer.spikes, lambda x: layer.compete(x, 1, 0)):
            with pytest.raises(Refusal, match=r"needs ages \(batch, 2, height, width\), got"):
                call(wrong)


def test_patches_that_no_weights_of_norm_one_would_answer_are_left_out(layer):
    """The best weights are the patch itself over its norm; weights of a patch below norm 1 need not be that long."""
    patch = torch.randint(0, STEPS + 1, (200, 12), generator=torch.Generator().manual_seed(2)).double()
    patch[:100] *= torch.rand(100, 12, generator=torch.Generator().manual_seed(3)) < 0.2
    patch[-1] = 0
    kept = [row for row in patch.tolist() if sum(row) >= 1.37 * max(1.0, math.hypot(*row))]
    got = layer.preprocess_patches(patch)
    torch.testing.assert_close(got, torch.tensor(kept, dtype=torch.float64) / STEPS)
    assert 0 < len(got) < len(patch)
