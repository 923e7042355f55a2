"""Sheets of images: each in its place, in black and white, as PNG files."""

import numpy as np
import pytest

from neuropil.errors import Refusal
from neuropil.report import save_sheet
from neuropil.report.figures.samples import tiled


def test_a_sheet_shows_each_image_in_its_place():
    images = np.zeros((5, 1, 2, 3), np.float32)
    images[4, 0, 1, 2] = 1
    sheet = tiled(images, columns=3)
    times = 28 // 3
    assert sheet.shape == (2 * (2 * times + 2) - 2, 3 * (3 * times + 2) - 2, 4)
    bright = (sheet[..., :3] == 255).all(-1).nonzero()
    assert (bright[0].min(), bright[1].min()) == (2 * times + 2 + times, 3 * times + 2 + 2 * times)
    with pytest.raises(Refusal, match="1 or 3 channels"):
        tiled(np.zeros((2, 2, 4, 4)), columns=1)


def test_pixels_beyond_black_and_white_are_black_and_white():
    sheet = tiled(np.array([-0.3, 1.4, 0.2]).reshape(3, 1, 1, 1), columns=3)
    assert [int(sheet[5, 30 * k + 5, 0]) for k in range(3)] == [0, 255, 51]


def test_sheets_are_png_files(tmp_path):
    with pytest.raises(Refusal, match="name it"):
        save_sheet(np.zeros((1, 1, 4, 4)), tmp_path / "x.gif", columns=1)
