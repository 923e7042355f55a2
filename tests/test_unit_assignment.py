"""Units with labels of their own, against counting by hand."""

import pytest
import torch
from torch import nn

from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.evaluate import assign_units


def test_units_stand_for_the_class_that_drives_them_most_and_vote():
    x = torch.tensor([[1.0, 0, 0, 0], [3, 1, 0, 0], [0, 4, 1, 0], [0, 2, 1, 0], [0, 4, 1, 0], [1, 0, 2, 0]])
    y = torch.tensor([0, 0, 1, 1, 1, 2])
    found = assign_units(nn.Identity(), Split(x, y, 3))
    assert found.classes.tolist() == [0, 1, 2, -1]
    activity = [(2 + 0 + 1) / 3, (0.5 + 10 / 3 + 0) / 3, (0 + 1 + 2) / 3, 0]
    assert found.mean_activity.tolist() == pytest.approx(activity)
    seen = torch.tensor([[2.0, 1, 1, 9], [0.1, 2, 1, 0], [1, 0, 1.5, 0]])
    votes = [[row[k] / activity[k] for k in range(3)] for row in seen.tolist()]
    assert found.predict(seen).tolist() == [row.index(max(row)) for row in votes] == [0, 1, 2]


def test_classes_with_many_units_do_not_win_by_number():
    x = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    found = assign_units(nn.Identity(), Split(x, torch.tensor([0, 1]), 2))
    assert found.predict(torch.tensor([[0.5, 0.1, 0.4], [0.5, 0.4, 0.4]])).tolist() == [1, 0]


def test_a_class_without_examples_and_negative_activity_are_refused():
    x = torch.rand(4, 3)
    with pytest.raises(Refusal, match="every class has an example"):
        assign_units(nn.Identity(), Split(x, torch.zeros(4).long(), 2))
    with pytest.raises(Refusal, match="0 or more"):
        assign_units(nn.Identity(), Split(x - 1, torch.tensor([0, 1, 0, 1]), 2))
