"""Work in uneven pieces is work on the whole; every example meets its own third factor; no piece hides NaN."""

import pytest
import torch
from torch import nn

import neuropil as npl
from neuropil.errors import Diverged
from neuropil.plasticity import Dense, Plan, Rule, gains
from neuropil.plasticity.geometry import check_finite
from neuropil.plasticity.law import along_units
from neuropil.plasticity.seen import LayerState, observe
from oracles import GEOMETRIES, make
from test_rules import RULES

NAN = float("nan")


class Rewarded(Rule):
    """Hebb's rule times a reward."""

    def post(self, u, *, reward):
        return Dense(u * (reward if reward.dim() == u.dim() else along_units(reward, u)))


def cases(layer, pre):
    """Rules with third factors by name: of each example, of each unit of each example, of each unit."""
    out, label = layer(pre).detach(), torch.tensor([0, 1, 1, 0, 1])
    units = out.shape[-1 if isinstance(layer, nn.Linear) else 1]
    return {
        "label": (npl.Association(2, slope=1.5), {"label": label}),
        "label, k": (npl.Association(2, slope=1.5, k=1), {"label": label}),
        "reward": (Rewarded(), {"reward": torch.tensor([0.5, -2.0, 1.0, 3.0, -0.7]).double()}),
        "reward of each unit": (Rewarded(), {"reward": torch.randn_like(out)}),
        "post_after": (npl.DifferentialHebb(0.7), {"post_after": torch.randn_like(out)}),
        "theta": (npl.BCM(), {"theta": torch.rand(1, units).double()}),
    }


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_example_meets_its_own_third_factor(name):
    layer, pre = make(name)
    pre = torch.randn(5, *pre.shape[1:]).double()
    two_at_a_time = Plan(outputs=2 * layer(pre[:1]).numel())
    for case, (rule, third) in cases(layer, pre).items():
        own = lambda b, third=third: {key: x if len(x) == 1 else x[b : b + 1] for key, x in third.items()}
        want = sum(rule(layer, pre[b : b + 1], reduction="sum", **own(b)) for b in range(5))
        for plan in Plan(), two_at_a_time:
            got = rule(layer, pre, reduction="sum", plan=plan, **third)
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=lambda text, case=case: f"{case}: {text}")
        factor = torch.cat([gains(rule, layer, pre[b : b + 1], **own(b)) for b in range(5)])
        torch.testing.assert_close(gains(rule, layer, pre, **third), factor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in GEOMETRIES if name.startswith("conv")])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_pieces_of_any_size_the_last_of_them_smaller_give_the_same_change(rule, name):
    layer, pre = make(name)
    pre = torch.randn(5, *pre.shape[1:]).double()
    entries, whole = max(len(layer.weight), layer.weight[0].numel()), rule(layer, pre)
    two_at_a_time = Plan(outputs=2 * layer(pre[:1]).numel())
    for plan in Plan(outputs=1), two_at_a_time, Plan(compiled=False, patch_entries=5 * entries):
        torch.testing.assert_close(rule(layer, pre, plan=plan), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["conv2d", "conv2d, groups"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_nan_in_any_piece_is_refused(rule, name):
    layer, pre = make(name)
    for example in range(3):
        bad = torch.randn(3, *pre.shape[1:]).double()
        bad[example, 0, 0, 0] = NAN
        for plan in Plan(outputs=1), Plan(patch_entries=20), Plan(compiled=False, patch_entries=20):
            with pytest.raises(Diverged, match="NaN or infinite"):
                rule(layer, bad, plan=plan)


def test_all_that_is_checked_is_finite_and_not_only_the_first():
    layer = nn.Linear(2, 3)
    fine = torch.ones(2, 3), torch.zeros(4), torch.full((1,), -2.0)
    check_finite(layer, *fine)
    for place in range(3):
        with pytest.raises(Diverged, match="a rule on Linear was given NaN or infinite"):
            check_finite(layer, *(one / 0 if k == place else one for k, one in enumerate(fine)))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_gains_of_weights_that_ran_away_are_refused(rule):
    layer, pre = make("dense")
    layer.weight.data[1] = NAN
    with pytest.raises(Diverged, match="NaN or infinite"):
        gains(rule, layer, pre, **({"theta": torch.ones(1, 5).double()} if isinstance(rule, npl.BCM) else {}))


def test_a_row_of_zeros_has_no_direction_and_is_refused():
    layer = nn.Linear(3, 2)
    layer.weight.data[1] = 0
    state = LayerState(torch.ones(2), torch.zeros(2), torch.zeros(1, 3), *map(torch.tensor, (1.0,)), *torch.zeros(3, 2))
    with pytest.raises(Diverged, match="NaN or infinite"):
        observe(layer, torch.rand(4, 1, 3), state._replace(steps=torch.tensor(3)))
