"""Receptive fields of a report: symmetric, chosen by wins, blank where units diverged."""

import io
import math

import pytest
import torch
from PIL import Image

from neuropil.errors import Refusal
from neuropil.report.figures.receptive_fields import field_sheet


def test_signed_fields_are_symmetric_around_zero():
    """Equal sizes of either sign have equal opacity, zero has none, and the hue tells the sign."""
    weight = torch.tensor([[[[2.0, -2.0], [0.0, 1.0]]]]).numpy()
    with Image.open(io.BytesIO(field_sheet("a", "run", weight, None).image)) as image:
        size = image.width // 2
        plus, minus, none, weak = (image.getpixel((size * x + 1, size * y + 1)) for y in (0, 1) for x in (0, 1))
    assert plus[3] == minus[3] == 255
    assert none[3] == 0
    assert weak == (*plus[:3], 127)
    assert plus[0] > plus[2]
    assert minus[2] > minus[0]


def test_fields_are_chosen_evenly_by_wins():
    """250 units of one pixel, whose sign says whether they are among the 125 that win most."""
    wins = torch.arange(250).numpy()
    weight = torch.where(torch.arange(250) >= 125, 1.0, -1.0)[:, None, None, None].numpy()
    with Image.open(io.BytesIO(field_sheet("a", "run", weight, wins).image)) as image:
        step = (image.width + 3) // 10
        tiles = [image.getpixel((x * step + 1, y * step + 1)) for y in range(10) for x in range(10)]
    assert [tile[0] > tile[2] for tile in tiles] == [True] * 50 + [False] * 50


@pytest.mark.parametrize("count", [7, 250])
def test_fields_before_and_after_are_of_the_same_units(count):
    rng = torch.Generator().manual_seed(0)
    after, before = (torch.randn(count, 1, 3, 3, generator=rng).numpy() for _ in range(2))
    wins = torch.randperm(count, generator=rng).numpy()
    both = field_sheet("a", "run", after, wins, before)
    assert both.image == field_sheet("a", "run", after, wins).image
    assert both.before == field_sheet("a", "run", before, wins).image
    assert both.before != field_sheet("a", "run", before, None).image


def test_fields_of_a_wrong_shape_are_refused():
    with pytest.raises(Refusal, match=r"need \(units, channels, height, width\), got \(2, 2, 2\) for 'a' in run 'run'"):
        field_sheet("a", "run", torch.zeros(2, 2, 2).numpy(), None)


@pytest.mark.parametrize("channels", [1, 3])
def test_units_that_diverged_are_blank_and_counted(channels):
    weight = torch.ones(2, channels, 3, 3)
    weight[0, 0, 1, 1] = math.nan
    found = field_sheet("a", "run", weight.numpy(), None)
    assert found.caption.endswith("1 units with NaN or infinite weights are left blank.")
    with Image.open(io.BytesIO(found.image)) as image:
        assert (image.getpixel((1, 1))[3], image.getpixel((1, image.height - 2))[3]) == (0, 255)
