"""Every learning rule against explicit loops over samples and units, in every geometry and dtype."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import neuropil as npl
import oracles
from neuropil.errors import Diverged, Refusal
from neuropil.plasticity import Plan, SignedWTA
from neuropil.plasticity.geometry import per_sample, rows, unit_axis
from oracles import FEW, GEOMETRIES, Unfolded, make

KH = npl.KrotovHopfield(k=3)
RULES = {
    "Hebb": npl.Hebb(),
    "Oja": npl.Oja(),
    "Sanger": npl.Sanger(),
    "BCM": npl.BCM(),
    "HardWTA": npl.HardWTA(),
    "KH": KH,
    "KH p=2": replace(KH, p=2.0, k=2),
    "KH p=1.5": replace(KH, p=1.5),
    "KH p=4.5": replace(KH, p=4.5, delta=0.0),
    "SoftHebb": npl.SoftHebb(tau=0.5),
    "SoftHebb anti": npl.SoftHebb(tau=0.5, anti=True),
    "ExplainAway": npl.ExplainAway(k=2),
    "SignedWTA": SignedWTA(),
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def law_of(rule, layer, pre):
    """The same rule as a loop over samples."""
    match rule:
        case npl.Hebb():
            return oracles.hebb
        case npl.Oja():
            return oracles.oja
        case npl.Sanger():
            return oracles.sanger(getattr(layer, "groups", 1))
        case npl.BCM():
            return oracles.bcm([sum(v * v for v in u) / len(u) for u in per_sample(layer, layer(pre)).T.tolist()])
        case npl.HardWTA():
            return oracles.instar
        case npl.KrotovHopfield():
            return oracles.krotov(rule.p, rule.k, rule.delta)
        case npl.SoftHebb():
            return oracles.soft(rule.tau, rule.anti)
        case npl.ExplainAway():
            return oracles.explain_away(rule.k)
        case SignedWTA():
            return oracles.signed


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_its_law_summed_or_averaged_over_samples_and_positions(rule, name):
    layer, pre = make(name)
    with torch.no_grad():
        want = Unfolded(layer, pre).change(law_of(rule, layer, pre))
    torch.testing.assert_close(rule(layer, pre, reduction="sum"), want, rtol=1e-9, atol=1e-9)
    mean = want / len(per_sample(layer, layer(pre)))
    torch.testing.assert_close(rule(layer, pre), mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rule(layer, pre, layer(pre)), mean, rtol=1e-9, atol=1e-9)
    assert want.abs().max() > 1e-3


@pytest.mark.parametrize("rule", [KH, npl.Sanger(), npl.SoftHebb(anti=True)], ids=repr)
@pytest.mark.parametrize("plan", [Plan(outputs=1), Plan(compiled=False, patch_entries=20)], ids=["pieces", "patches"])
def test_the_mean_knows_no_pieces(rule, plan):
    layer, pre = make("conv2d")
    torch.testing.assert_close(rule(layer, pre, plan=plan), rule(layer, pre), rtol=1e-10, atol=1e-12)


def test_average_and_normalise_know_no_reduction_and_others_are_refused():
    layer, pre = make("conv2d")
    for rule in replace(KH, average=True), replace(KH, normalise=True):
        assert torch.equal(rule(layer, pre), rule(layer, pre, reduction="sum"))
    with pytest.raises(Refusal, match="reduction='mean' or 'sum', got 'none'"):
        KH(layer, pre, reduction="none")


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_given_output_saves_work_and_changes_nothing(rule, name):
    layer, pre = make(name)
    torch.testing.assert_close(rule(layer, pre, layer(pre)), rule(layer, pre), rtol=1e-12, atol=1e-12)


def test_p_2_takes_the_output_it_is_given():
    layer, pre = make("dense")
    assert not torch.equal(RULES["KH p=2"](layer, pre, -layer(pre)), RULES["KH p=2"](layer, pre))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    "rule", [npl.Hebb(), npl.Oja(), npl.HardWTA(), npl.SoftHebb(tau=0.5, anti=True)], ids=lambda r: repr(r)
)
def test_autograd_of_a_surrogate_gives_the_same_change(rule, name):
    """The gradient of sum g u - sum g h |w|^2 / 2 with g and h held still."""
    layer, pre = make(name)
    layer.bias = None
    u, axis = layer(pre), unit_axis(layer)
    still = u.detach()
    won = torch.zeros_like(still).scatter(axis, still.argmax(axis, keepdim=True), 1)
    y = torch.softmax(still / 0.5, axis)
    g, h = {
        npl.Hebb: (still, 0 * still),
        npl.Oja: (still, still),
        npl.HardWTA: (won, torch.ones_like(still)),
        npl.SoftHebb: (torch.where(won > 0, y, -y), still),
    }[type(rule)]
    energy = (g * u).sum() - (per_sample(layer, g * h).sum(0) * rows(layer, layer.weight).square().sum(1)).sum() / 2
    energy.backward()
    torch.testing.assert_close(rule(layer, pre, reduction="sum"), layer.weight.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", [KH, npl.SoftHebb()], ids=["KH", "SoftHebb"])
def test_normalise_divides_by_the_largest_entry(rule):
    layer, pre = make("conv2d")
    change, scaled = rule(layer, pre), replace(rule, normalise=True)(layer, pre)
    torch.testing.assert_close(scaled, change / change.abs().max())
    assert not replace(rule, normalise=True)(layer, 0 * pre).any()


@pytest.mark.parametrize("name", ["dense", "dense, extra axes", "conv2d", "conv2d, groups", "transposed 1d"])
@pytest.mark.parametrize("rule", [replace(KH, p=2.0), npl.HardWTA(), SignedWTA()])
def test_average_divides_each_row_by_the_samples_that_chose_it(rule, name):
    layer, pre = make(name)
    layer.bias = None
    u = per_sample(layer, layer(pre))
    order = (u.abs() if isinstance(rule, SignedWTA) else u).argsort(1, descending=True)
    ranks = (0, 2) if isinstance(rule, npl.KrotovHopfield) else (0,)
    chosen = [float((order[:, ranks] == unit).sum()) for unit in range(order.shape[1])]
    want = rows(layer, rule(layer, pre, reduction="sum")) / torch.tensor(chosen).clamp(min=1)[:, None]
    torch.testing.assert_close(rows(layer, replace(rule, average=True)(layer, pre)), want)
    assert max(chosen) > 1


def clear_cut(name, dtype, device="cpu"):
    """A layer and an input whose ranks survive bfloat16: units look along different axes, drives are far apart."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8, bias=False) if name == "dense" else nn.Conv2d(8, 8, 1, bias=False)
    pre = torch.stack([torch.randperm(8) for _ in range(12)]).double().div(4).add(0.25)
    pre = pre if name == "dense" else pre.view(3, 2, 2, 8).permute(0, 3, 1, 2)
    layer.weight.data = (torch.eye(8) + 0.01 * torch.randn(8, 8)).bfloat16().view(layer.weight.shape)
    return layer.to(device, dtype), pre.to(device, dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["dense", "conv"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_dtype_on_every_device(rule, name, device):
    want = rule(*clear_cut(name, torch.float64))
    for dtype, share in {
        torch.float64: 1e-12,
        torch.float32: 1e-5,
        torch.bfloat16: 0.03,
    }.items():  # 8 bits: 0.4 % a term
        change = rule(*clear_cut(name, dtype, device))
        assert (change.dtype, change.device.type) == (dtype, device)
        assert (change.cpu().double() - want).norm() <= share * want.norm()


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_a_competition_in_bfloat16_only_ranks(name):
    layer, pre = clear_cut(name, torch.float32)
    pre = pre * 1.0009  # not a bfloat16 number: a change computed in bfloat16 would show
    assert torch.equal(replace(KH, ranking_dtype=torch.bfloat16)(layer, pre), KH(layer, pre))


@pytest.mark.parametrize("name", ["dense", "conv2d", "conv2d, groups", "transposed 1d"])
def test_a_cold_softmax_is_a_hard_competition(name):
    """SoftHebb at tau -> 0 and Krotov-Hopfield at p = 2 without unlearning are one law: the winner learns x - u w."""
    layer, pre = make(name)
    layer.bias = None
    hard = npl.KrotovHopfield(p=2.0, k=2, delta=0.0)(layer, pre)
    torch.testing.assert_close(npl.SoftHebb(tau=1e-4)(layer, pre), hard, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_without_unlearning_the_rank_does_not_matter(k):
    layer, pre = make("dense")
    assert torch.equal(npl.KrotovHopfield(k=k, delta=0.0)(layer, pre), npl.KrotovHopfield(k=4, delta=0.0)(layer, pre))


def test_a_bcm_step_uses_the_old_threshold_and_slides_it():
    layer, pre = make("conv2d")
    rule, old = npl.BCM(momentum=0.75), npl.BCM().init(layer, 2 * pre)
    change, new = rule.step(layer, pre, None, old, reduction="sum")
    want = Unfolded(layer, pre).change(oracles.bcm(old.theta.tolist()))
    torch.testing.assert_close(change, want, rtol=1e-9, atol=1e-9)
    mean, _ = rule.step(layer, pre, None, old)
    torch.testing.assert_close(mean, want / len(per_sample(layer, layer(pre))), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(new.theta, 0.75 * old.theta + 0.25 * rule.init(layer, pre).theta)


@pytest.mark.parametrize("name", ["dense", "conv2d", "transposed 1d"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_nan_and_infinity_are_refused(rule, bad, name):
    layer, pre = make(name)
    pre.view(-1)[3] = bad
    with pytest.raises(Refusal, match="NaN or infinite"):
        rule(layer, pre)


@pytest.mark.parametrize(
    "rule", [RULES["KH p=2"], npl.HardWTA(), npl.SoftHebb()], ids=["KH p=2", "HardWTA", "SoftHebb"]
)
def test_nan_beside_an_output_that_hides_it_is_refused(rule):
    layer, pre = make("dense")
    post = layer(pre).detach()
    pre[2, 1] = float("nan")
    with pytest.raises(Refusal, match="NaN or infinite"):
        rule(layer, pre, post)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_weights_that_ran_away_are_refused(rule):
    layer, pre = make("dense")
    layer.weight.data[1] = float("nan")
    with pytest.raises(Refusal, match="lower the learning rate"):
        rule(layer, pre)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_activity_of_other_layers_is_refused(rule):
    dense, conv = nn.Linear(4, 5, bias=False), nn.Conv2d(2, 5, 3)
    if not isinstance(rule, npl.KrotovHopfield) or rule.p == 2:  # otherwise the drive is its own, not the output
        for post in (torch.zeros(3, 4), torch.zeros(2, 5), torch.zeros(3, 1, 5)):
            with pytest.raises(Refusal, match="layer's own output"):
                rule(dense, torch.zeros(3, 4), post)
    with pytest.raises(Refusal, match=r"Linear needs pre as \(batch"):
        rule(dense, torch.zeros(4))
    with pytest.raises(Refusal, match=r"Conv2d needs pre as \(batch"):
        rule(conv, torch.zeros(2, 6, 6))
    with pytest.raises(Refusal, match="got LSTM"):
        rule(nn.LSTM(4, 5), torch.zeros(3, 4))


@pytest.mark.parametrize("name", ["dense", "conv2d"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_activity_of_another_device_or_type_is_refused(rule, name):
    layer, pre = make(name)
    post = layer(pre).detach()
    for elsewhere in ({"device": "meta"}, {"dtype": torch.float32}):
        for given in ((pre.to(**elsewhere),), (pre.to(**elsewhere), post), (pre, post.to(**elsewhere))):
            with pytest.raises(Refusal, match=r"weight of float64 on cpu was given activity of float\d\d on "):
                rule(layer, *given)


def test_so_is_activity_of_another_layer_by_the_change_rule():
    layer, pre, post = nn.Linear(4, 5), torch.zeros(3, 4), torch.zeros(3, 5)
    for wrong_pre, before, after in ((post, post, post), (pre, post[:1], post), (pre, post, post[:, :1])):
        with pytest.raises(Refusal, match=r"Linear|shaped like the output"):
            npl.DifferentialHebb()(layer, wrong_pre, before, post_after=after)
    with pytest.raises(Refusal, match="float32 on cpu was given activity of float64 on cpu"):
        npl.DifferentialHebb()(layer, pre, post.double(), post_after=post.double())
    with pytest.raises(Refusal, match="float32 on cpu was given activity of float64 on cpu"):
        npl.DifferentialHebb()(layer, pre, post, post_after=post.double())


def test_a_layer_without_weights_yet_is_refused():
    with pytest.raises(Refusal, match="LazyLinear has no weight yet"):
        npl.Hebb()(nn.LazyLinear(5), torch.zeros(3, 4))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(Refusal, match="k <= units, got k=7 and 5 units"):
        npl.KrotovHopfield(k=7)(nn.Linear(4, 5), torch.zeros(3, 4))
    for make_rule in (
        lambda: npl.KrotovHopfield(p=0.5),
        lambda: npl.KrotovHopfield(k=1),
        lambda: npl.KrotovHopfield(delta=-0.1),
        lambda: npl.SoftHebb(tau=0.0),
        lambda: npl.BCM(momentum=1.0),
    ):
        with pytest.raises(Refusal):
            make_rule()


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made, but for views of `beside`."""

    numel = 0

    def __init__(self, beside=None):
        super().__init__()
        self.beside = torch.empty(0) if beside is None else beside

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.data_ptr() != self.beside.data_ptr():
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_tensor_has_batch_times_in_times_out_entries(rule):
    batch, inputs, units = 96, 80, 70
    layer, pre = nn.Linear(inputs, units, bias=False), torch.randn(batch, inputs)
    rule(layer, pre[:1])  # the first use of all sets up the allocator
    with Largest() as seen:
        rule(layer, pre)
    triangle = units * units if isinstance(rule, npl.Sanger) else 0
    assert 0 < seen.numel <= max(batch * units, units * inputs, 2 * batch * inputs, triangle)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_dense_layer_answers_once(rule):
    layer, pre = make("dense with bias")
    passes = []
    layer.register_forward_hook(lambda *_: passes.append(1))
    rule(layer, pre)
    assert len(passes) <= 1


@pytest.mark.parametrize("name", ["dense", "conv2d", "transposed 1d"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("size", [1e15, 1e30, 1e38])
def test_a_change_is_finite_or_refused_whatever_the_size_of_the_input(rule, name, size):
    layer, pre = make(name, torch.float32)
    try:
        change = rule(layer, pre * size)
    except Diverged as refusal:
        assert "NaN or infinite activity, or so large that its change is" in str(refusal)  # noqa: PT017
    else:
        assert change.isfinite().all()


@pytest.mark.parametrize("rate", [1.0, 1e10])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_where_learning_runs_away_the_weights_are_still_finite_at_the_refusal(rule, rate):
    layer, x = nn.Linear(64, 9), torch.rand(50, 64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    for _ in range(200):
        try:
            npl.propose_(layer, rule(layer, x, reduction="sum"))
        except Diverged:
            break
        optimizer.step()
    assert layer.weight.isfinite().all()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_nothing_is_learned_from_no_samples(rule, name):
    layer, pre = make(name)
    for given in None, layer(pre[:0]):
        change = rule(layer, pre[:0], given)
        assert change.shape == layer.weight.shape
        assert not change.any()
        assert change.dtype == torch.float64


@pytest.mark.parametrize("rule", [replace(KH, sparse=True), npl.HardWTA(sparse=True)], ids=["KH", "HardWTA"])
def test_nothing_sparse_is_learned_from_no_samples(rule):
    layer, pre = make("dense")
    change = rule(layer, pre[:0])
    assert change.is_sparse
    assert not change.to_dense().any()
    assert change.values().shape == (0, 4)


@pytest.mark.parametrize("name", ["dense", "conv2d"])
def test_the_threshold_of_bcm_stays_where_it_is_without_samples(name):
    layer, pre = make(name)
    old = npl.BCM().init(layer, pre)
    change, new = npl.BCM(momentum=0.75).step(layer, pre[:0], None, old)
    assert not change.any()
    assert torch.equal(new.theta, old.theta)
    assert not npl.BCM().init(layer, pre[:0]).theta.any()
