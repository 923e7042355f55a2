"""Under autocast rules and learners change what they change without it."""

import pytest
import torch
from torch import nn

from neuropil.plasticity import BCM, ExplainAway, Hebb, KrotovHopfield, Sanger, attach


@pytest.mark.parametrize("rule", [Hebb(), BCM(), Sanger(), KrotovHopfield(p=2, k=2)], ids=repr)
@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(7, 5, 1)], ids=repr)
def test_under_autocast_a_rule_changes_what_it_changes_without(layer, rule):
    pre = torch.rand(6, 7, *[1] * (layer.weight.dim() - 2), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        change = rule(layer, pre)
    assert torch.equal(change, rule(layer, pre))


def test_under_autocast_a_learner_learns_what_it_learns_without():
    changes = []
    for on in (False, True):
        learner = attach(
            nn.Sequential(nn.Linear(7, 5)),
            {"0": ExplainAway(k=2)},
            torch.rand(40, 7, generator=torch.Generator().manual_seed(0)),
        )
        learner.model[0].weight.data.copy_(torch.rand(5, 7, generator=torch.Generator().manual_seed(0)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            learner.propose_(torch.rand(9, 7, generator=torch.Generator().manual_seed(0)))
        changes.append(learner.model[0].weight.grad)
    assert torch.equal(*changes)
