"""The competitive rule of the rules page, as it stands there: every geometry, dtype and fast path against loops."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.plasticity import BCM, Chosen, Dense, HardWTA, Hebb, KrotovHopfield, Oja, Plan, Rule, SoftHebb, gains
from neuropil.plasticity.plan import IN_USE, PLAN
from oracles import GEOMETRIES, Unfolded, make
from test_docs import blocks
from test_rules import clear_cut


@pytest.fixture(scope="module")
def rule():
    (code,) = [block for block in blocks("docs/rules.md") if "(Rule)" in block]
    here = {"__name__": "block"}
    exec(code, here)
    assert here["change"].shape == here["layer"].weight.shape
    return here["Rivals"]()


def by_loops(layer, pre):
    """Ranks by sorting cosines of one sample after the other; bias and all."""
    bias = [0.0] * 99 if layer.bias is None else layer.bias.tolist()

    def law(j, w, x, u):
        drive = [float(row @ value / row.norm()) + b for row, value, b in zip(w, x, bias)]
        order = sorted(range(len(drive)), key=lambda unit: -drive[unit])
        return {order[0]: 1.0, order[1]: -0.3}.get(j, 0.0) * (x[j] - drive[j] * w[j])

    with torch.no_grad():
        return Unfolded(layer, pre).change(law)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_it_works_on_every_geometry_in_every_dtype(rule, name):
    layer, pre = make(name, torch.bfloat16)
    want = by_loops(layer.double(), pre.double())
    for dtype, error in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        change = rule(layer.to(dtype), pre.to(dtype), reduction="sum")
        assert change.dtype == dtype
        assert (change.double() - want).norm() <= error * want.norm()


@pytest.mark.parametrize("plan", [Plan(patch_entries=20), Plan(outputs=1), Plan(compiled=False, patch_entries=20)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_chunks_and_compiled_code_make_no_difference(rule, name, plan):
    layer, pre = make(name)
    torch.testing.assert_close(rule(layer, pre, plan=plan, reduction="sum"), by_loops(layer, pre), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["dense", "dense with bias", "dense, extra axes", "dense, many samples"])
def test_rows_may_be_sparse(rule, name):
    layer, pre = make(name)
    change = replace(rule, sparse=True)(layer, pre, reduction="sum")
    assert change.is_sparse
    torch.testing.assert_close(change.to_dense(), by_loops(layer, pre), rtol=1e-9, atol=1e-9)
    with pytest.raises(Refusal, match="needs a Linear layer"):
        replace(rule, sparse=True)(*make("conv2d"))


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_ranks_may_come_from_a_lower_precision(rule, name):
    layer, pre = clear_cut(name, torch.float32)
    low = replace(rule, ranking_dtype=torch.bfloat16)
    assert torch.equal(low(layer, pre * 1.0009), rule(layer, pre * 1.0009))


def test_bad_activity_is_refused(rule):
    for name in "dense", "conv2d", "transposed 1d":
        layer, pre = make(name)
        pre.view(-1)[2] = torch.nan
        with pytest.raises(Refusal, match="NaN or infinite"):
            rule(layer, pre)


class Says(Rule):
    """Says what it is told to."""

    def __init__(self, answer, **options):
        self.answer = answer
        for name, value in options.items():
            setattr(self, name, value)

    def post(self, u):
        return self.answer(u)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Says(lambda u: u), r"Says returned Tensor from post\(\); return Dense"),
        (Says(lambda u: Dense(u[:, :2])), r"gains of shape \(6, 2\) in .* for drives of shape \(6, 5\)"),
        (Says(lambda u: Dense(1.0)), "gains of shape float for"),
        (Says(lambda u: Dense(u, u[:2])), r"a decay of shape \(2, 5\) in .* for drives of shape \(6, 5\)"),
        (Says(lambda u: Dense(u, None)), "a decay by a NoneType"),
        (Says(lambda u: Dense(u, mixing=torch.eye(2))), r"a mixing of shape \(2, 2\) in .* for 5 units"),
        (Says(lambda u: Chosen(u.topk(1, 1).values, (1.0,))), "units in torch.float64; their indices need torch.int64"),
        (Says(lambda u: Chosen(u.topk(1, 1).indices, 1.0)), "gains by a float; give a number for each rank"),
        (Says(lambda u: Chosen(u.topk(1, 1).indices + 5, (1.0,), u)), "choose units from 0 to 4, got [56] to"),
        (Says(lambda u: Chosen(u.topk(1, 1).indices - 5, (1.0,))), "choose units from 0 to 4, got -"),
        (
            Says(Dense, weights=lambda w: None),
            r"weights\(\) needs .* here \(5, 4\) in torch.float64, got NoneType",
        ),
        (Says(Dense, weights=lambda w: w.float()), r"in torch.float64, got .* in torch.float32"),
        (Says(Dense, weights=lambda w: w.mul_(2)), "changed the weight of the layer in place"),
        (Says(lambda u: Chosen(u.argmax(1), (1.0,))), r"units of shape \(6,\); 1 gains .* need \(6, 1\)"),
        (Says(lambda u: Chosen(u.topk(2, 1).indices, (1.0,))), r"units of shape \(6, 2\)"),
        (Says(lambda u: Chosen(u.topk(1, 1).indices, (1.0,), decay=2 * u)), "neither the drive nor a number"),
        (Says(lambda u: Dense(u), sparse=True), "chooses no units"),
    ],
)
def test_a_rule_that_says_what_fits_nothing_is_refused(rule, words):
    with pytest.raises(Refusal, match=words):
        rule(*make("dense"))


def test_units_that_are_not_there_are_refused_on_every_layer():
    for name in ("dense", "dense with bias", "conv2d", "transposed 1d"):
        layer, pre = make(name)
        with pytest.raises(Refusal, match="needs to choose units from 0 to"):
            Says(lambda u: Chosen(torch.full_like(u.topk(1, 1).indices, 99), (1.0,)))(layer, pre)


@pytest.mark.parametrize("name", ["dense with bias", "conv2d", "conv2d, groups", "transposed 1d"])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_several_ranks_with_a_constant_decay(name, decay):
    """A choice is a dense factor that is mostly 0: the two ways to say it agree."""
    gains = (1.0, -0.5, 0.25)

    def spread(u):
        factor = torch.tensor(gains, dtype=u.dtype).view(3, *[1] * (u.dim() - 2)).expand(len(u), 3, *u.shape[2:])
        return Dense(torch.zeros_like(u).scatter(1, u.topk(3, 1).indices, factor), decay)

    layer, pre = make(name)
    chosen = Says(lambda u: Chosen(u.topk(3, 1).indices, gains, decay))(layer, pre)
    torch.testing.assert_close(chosen, Says(spread)(layer, pre), rtol=1e-10, atol=1e-10)


def test_a_layer_of_ones_own_shows_why_a_decay_by_the_drive_counts_the_bias():
    layer, pre = nn.Linear(3, 4).double(), torch.randn(7, 3).double()
    by_drive = Says(lambda u: Chosen(u.topk(2, 1).indices, (1.0, 0.5), decay=u))(layer, pre)

    def spread(u):
        gain = torch.zeros_like(u).scatter(1, u.topk(2, 1).indices, torch.tensor([[1.0, 0.5]]).double().expand(7, 2))
        return Dense(gain, u.clone())

    torch.testing.assert_close(by_drive, Says(spread)(layer, pre), rtol=1e-10, atol=1e-10)


def test_a_decay_by_a_number_or_by_a_drive_that_was_given_is_that_of_the_law():
    torch.manual_seed(4)
    layer, pre = nn.Linear(3, 2, bias=False).double(), torch.randn(11, 3).double()
    given, weight = torch.randn(11, 2).double(), layer.weight.detach()  # more samples than the layer has inputs
    by_number = Says(lambda u: Dense(u.square(), 0.5))(layer, pre, given, reduction="sum")
    gain = given.square()
    torch.testing.assert_close(by_number, gain.T @ pre - 0.5 * gain.sum(0)[:, None] * weight, rtol=1e-12, atol=1e-12)
    by_given = Oja()(layer, pre, given, reduction="sum")
    torch.testing.assert_close(by_given, given.T @ pre - gain.sum(0)[:, None] * weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(3, 2), (4, 2, 3)), (nn.Conv1d(3, 2, 2), (4, 3, 5)), (nn.ConvTranspose1d(3, 2, 2), (4, 3, 5))],
    ids=["dense", "convolution", "transposed"],
)
def test_a_law_meets_the_drives_of_its_own_weights_with_the_bias_in_the_dtype_of_the_ranking(layer, shape, dtype):
    seen, layer, pre = [], layer.double(), torch.randn(shape).double()
    rule = Says(lambda u: seen.append((u, IN_USE.get())) or Dense(u), weights=lambda w: 2 * w, ranking_dtype=dtype)
    plan = Plan(compiled=False, patch_entries=20)
    gains(rule, layer, pre)
    rule(layer, pre, plan=plan)
    with torch.no_grad():
        bias = layer.bias if type(layer) is nn.Linear else layer.bias[:, None]
        want = 2 * layer(pre) - bias
    want = want.flatten(0, -2) if type(layer) is nn.Linear else want
    (first, default), *others = seen
    assert first.dtype == (dtype or torch.float64)
    torch.testing.assert_close(first.double(), want, rtol=1e-5, atol=1e-5)
    assert default == PLAN
    assert others[-1][1] == plan
    assert IN_USE.get() == PLAN  # as it was


@pytest.mark.parametrize("name", ["dense, extra axes", "conv2d", "conv2d, groups", "transposed 1d"])
def test_a_mean_is_the_sum_over_all_samples_of_which_each_position_is_one(name):
    layer, pre = make(name)
    out = layer(pre)
    samples = out.numel() // (out.shape[-1] if type(layer) is nn.Linear else out.shape[1])
    for rule in (Hebb(), Says(lambda u: Chosen(u.topk(2, 1).indices, (1.0, -0.3), u))):
        torch.testing.assert_close(rule(layer, pre) * samples, rule(layer, pre, reduction="sum"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cls", [Hebb, Oja, HardWTA, SoftHebb, KrotovHopfield])
def test_a_layer_among_the_settings_of_a_rule_is_refused_with_the_cure(cls):
    with pytest.raises(Refusal, match=rf"{cls.__name__}\(layer, ...\) makes no change; make the rule first"):
        cls(nn.Linear(2, 2))


@pytest.mark.parametrize("layer", [nn.Linear(3, 5), nn.Conv2d(3, 5, 1)], ids=["dense", "convolution"])
def test_gains_of_bcm_have_the_threshold_of_the_batch(layer):
    layer, rng = layer.double().requires_grad_(False), torch.Generator().manual_seed(6)
    pre = torch.randn(23, 3, generator=rng, dtype=torch.float64)
    u = pre @ layer.weight.flatten(1).T + layer.bias
    x = pre if isinstance(layer, nn.Linear) else pre[..., None, None]
    for post in (None, layer(x)):
        got = gains(BCM(), layer, x, post).flatten(1)
        torch.testing.assert_close(got, u * (u - u.square().mean(0)), rtol=1e-9, atol=1e-9)
