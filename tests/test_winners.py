"""The compiled routes of competitive rules on the CPU against sorting and against the plain torch route."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.plasticity import ExplainAway, HardWTA, KrotovHopfield, Plan, attach, first_and_kth, winner
from neuropil.plasticity.kernels.ranking import rankable
from neuropil.plasticity.kernels.rows import add_chosen_

ALL_THREADS = Plan(patches_per_thread=1, drives_per_thread=1, changes_per_thread=1)


@pytest.fixture(params=[1, 3])
def threads(request):
    """With that many threads; nothing is too small to be shared out among them by `ALL_THREADS`."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drives(shape, dtype, tied):
    rng = torch.Generator().manual_seed(0)
    values = torch.randint(-3, 4, shape, generator=rng) if tied else torch.randn(shape, generator=rng)
    return values.to(dtype)


@pytest.fixture(params=[1, 2000], ids=["along", "abreast"])
def plan(request):
    """Every row is ranked on its own, or many abreast, whatever its length."""
    return replace(ALL_THREADS, long_row=request.param)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "shape",
    [
        (9, 5),
        (9, 127),
        (9, 128),
        (9, 1000),
        (6, 300),
        (2, 6, 5),
        (2, 130, 3, 7),
        (2, 40, 2, 3, 4),
        (3, 200, 1),
        (300, 6),
        (2, 5, 131),
    ],
)
def test_the_lower_of_equals_ranks_first(shape, dtype, tied, plan):
    drive = drives(shape, dtype, tied)
    order = drive.sort(dim=1, descending=True, stable=True).indices
    for k in {1, 2, 5, shape[1]}:
        units, finite = first_and_kth(drive, k, plan)
        assert torch.equal(units, order[:, [0, k - 1]])
        assert finite.isfinite().all()
    assert torch.equal(winner(drive, plan)[0], order[:, :1])


@pytest.mark.parametrize("k", [0, -1, 8])
def test_a_rank_that_no_unit_has_is_refused(k, plan):
    with pytest.raises(Refusal, match=f"a rank k from 1 to 7, the number of units, got {k}"):
        first_and_kth(drives((3, 7), torch.float64, tied=False), k, plan)


@pytest.mark.parametrize("shape", [(4, 300), (4, 20, 19)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_drive_that_is_not_finite_shows_in_its_own_sample(bad, shape, plan):
    drive = drives(shape, torch.float32, tied=False)
    drive[2].view(-1)[17] = bad
    units, finite = first_and_kth(drive, 3, plan)
    assert finite.view(4, -1).isfinite().all(1).tolist() == [True, True, False, True]
    assert units.max() < shape[1]


@pytest.mark.parametrize("units", [30, 1500])
def test_what_is_laid_out_for_ranking_is_the_product(units):
    pre, weight = torch.randn(70, 20), torch.randn(units, 20)
    drive = rankable(pre, weight)
    torch.testing.assert_close(drive, pre @ weight.T)
    assert (drive if units > 1000 else drive.T).is_contiguous()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_units_add_up_is_what_chose_them(dtype):
    rng = torch.Generator().manual_seed(2)
    pre, chosen = torch.randn(90, 7, generator=rng, dtype=dtype), torch.randint(11, (180,), generator=rng)
    hebbian, counts = torch.ones(11, 7, dtype=torch.float64), torch.ones(11, dtype=torch.int64)
    add_chosen_(hebbian, counts, pre, chosen, (1.0, -0.4), ALL_THREADS)
    weights = torch.tensor([1.0, -0.4], dtype=dtype).repeat_interleave(90)[:, None]
    chose = nn.functional.one_hot(chosen, 11).to(dtype)
    torch.testing.assert_close(hebbian.to(dtype), 1 + chose.T @ (pre.repeat(2, 1) * weights))
    assert torch.equal(counts, 1 + chosen.bincount(minlength=11))


def test_a_unit_that_wins_everywhere_loses_no_digits():
    layer, pre = nn.Conv2d(1, 2, 2, bias=False), torch.rand(20, 1, 60, 60)
    layer.weight.data[0] += 5
    change = KrotovHopfield(k=2)(layer, pre)
    want = KrotovHopfield(k=2)(layer.double(), pre.double())
    torch.testing.assert_close(change.double(), want, rtol=1e-6, atol=0)


def dense(dtype, units=40):
    rng = torch.Generator().manual_seed(1)
    layer = nn.Linear(30, units, bias=False, dtype=dtype)
    layer.weight.data = torch.randn(units, 30, generator=rng, dtype=torch.float64).to(dtype)
    return layer, torch.randn(17, 30, generator=rng, dtype=torch.float64).to(dtype)


KH = KrotovHopfield(k=3)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("units", [3, 157])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rule",
    [KH, replace(KH, p=2.0), replace(KH, p=4.5), replace(KH, average=True), replace(KH, normalise=True, average=True)],
    ids=lambda rule: f"p={rule.p} average={rule.average} normalise={rule.normalise}",
)
def test_compiled_and_plain_routes_agree(rule, dtype, units, sparse):
    layer, pre = dense(dtype, units)
    rule, before = replace(rule, sparse=sparse), layer.weight.clone()
    change = rule(layer, pre, plan=ALL_THREADS)
    want = rule(layer, pre, plan=Plan(compiled=False))
    assert change.is_sparse == want.is_sparse == sparse
    torch.testing.assert_close(change.to_dense(), want.to_dense())
    assert torch.equal(layer.weight, before)
    still = (change.to_dense() == 0).all(1)
    assert (still[0] and still[-1]) if units == 157 else not still.any()


@pytest.mark.parametrize("rule", [KH, HardWTA()], ids=["KH", "HardWTA"])
def test_the_change_does_not_depend_on_what_the_memory_held(rule):
    layer, pre = dense(torch.float32)
    assert torch.equal(rule(layer.requires_grad_(False), pre), rule(layer, pre.T.contiguous().T))
    apart = nn.Linear(30, 40, bias=False)
    apart.weight.data = layer.weight.data.T.contiguous().T  # rows that are not contiguous
    assert torch.equal(rule(apart, pre), rule(layer, pre))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_no_samples_change_nothing(sparse, normalise):
    layer, pre = dense(torch.float32)
    change = replace(KH, sparse=sparse, normalise=normalise)(layer, pre[:0])
    assert change.shape == layer.weight.shape
    assert not change.to_dense().any()


def test_of_few_units_one_loses():
    """A depthwise convolution has groups of one or two units."""
    drive = torch.tensor([[0.3, 0.7], [0.9, 0.2]])
    assert ExplainAway().post(drive).gain.tolist() == [[0, drive[0, 1]], [drive[1, 0], 0]]
    assert ExplainAway().post(drive[:, :1]).gain.tolist() == drive[:, :1].tolist()
    attach(nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)), {"0": ExplainAway()}, torch.rand(20, 3, 5, 5))


@pytest.mark.parametrize("layer", [nn.Linear(3, 5), nn.Conv2d(3, 5, 1)], ids=["dense", "convolution"])
def test_without_an_anti_hebbian_update_the_rank_of_the_other_is_no_matter(layer):
    layer, rng = layer.double().requires_grad_(False), torch.Generator().manual_seed(5)
    pre = torch.randn(37, 3, generator=rng, dtype=torch.float64)
    weight = layer.weight.flatten(1)
    drive = pre @ (weight.sign() * weight.abs().pow(1.7)).T
    want = torch.zeros_like(weight)
    for unit in range(5):
        won = drive.argmax(1) == unit
        if won.any():
            want[unit] = pre[won].mean(0) - drive[won, unit].mean() * weight[unit]
    for k in (2, 5):
        rule = KrotovHopfield(p=2.7, k=k, delta=0.0, average=True)
        x = pre if isinstance(layer, nn.Linear) else pre[..., None, None]
        torch.testing.assert_close(rule(layer, x).flatten(1), want, rtol=1e-9, atol=1e-9)
