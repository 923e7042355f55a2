"""Iris: three species of flower by four lengths, offline (Fisher 1936)."""

from dataclasses import replace

import torch

from neuropil.data.columns import Columns
from neuropil.data.split import Split
from neuropil.data.subsets import hold_out

EXAMPLES = (120, 30)
SOURCE = "it comes with scikit-learn"


def iris(seed: int = 0) -> tuple[Split, Split]:
    """(train, test): vectors (n, 4) in float32, labels setosa, versicolor, virginica.

    A fifth is held out for the test, stratified, chosen by `seed`. Training and test vectors are shifted and
    scaled by the mean and the standard deviation of the training vectors: without unit, about -2 to 3.
    """
    from sklearn.datasets import load_iris  # here: a second of import that only this data set needs

    lengths, labels = load_iris(return_X_y=True)
    flowers = Split(torch.tensor(lengths, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64), classes=3)
    train, test = hold_out(flowers, 0.2, seed)
    columns = Columns.of(train.x)
    first, second = (replace(part, x=columns.scaled(part.x), columns=columns) for part in (train, test))
    return first, second
