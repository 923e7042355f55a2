"""Digits: handwritten digits, ten classes, grey images of 8x8, offline (Alpaydin & Kaynak 1998, UCI)."""

import torch

from neuropil.data.split import Split
from neuropil.data.subsets import hold_out

EXAMPLES = (1438, 359)
SOURCE = "it comes with scikit-learn"


def digits(seed: int = 0) -> tuple[Split, Split]:
    """(train, test): images (n, 1, 8, 8) in float32 (the 17 grey levels divided by 16), labels 0 to 9.

    The publisher's test part is all there is in scikit-learn, so a fifth of it is held out here:
    stratified, chosen by `seed`.
    """
    from sklearn.datasets import load_digits  # here: a second of import that only this data set needs

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).div_(16).view(-1, 1, 8, 8)
    return hold_out(Split(x, torch.tensor(labels, dtype=torch.int64), classes=10), 0.2, seed)
