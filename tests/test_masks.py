"""Masks of images: what their names say."""

import torch

from common import rng
from neuropil.data.masks import image_mask


def test_a_mask_knows_what_its_name_says_where_an_image_is_not_square_too():
    shape, down, across = (2, 6, 11), torch.arange(6)[:, None], torch.arange(11)[None]
    centre = (down >= 1) & (down < 5) & (across >= 2) & (across < 9)
    want = {"top": down < 3, "bottom": down >= 3, "left": across < 5, "right": across >= 5, "none": down < 0}
    for name, inside in (want | {"centre": centre, "frame": ~centre}).items():
        assert torch.equal(image_mask(name, shape), inside.expand(shape).float()), name
    first, again, other = (image_mask("random", shape, rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first[0], first[1])  # a pixel is known or not
    assert 0.3 < first.mean() < 0.7
