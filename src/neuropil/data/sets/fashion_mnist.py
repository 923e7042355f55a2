"""Fashion-MNIST: articles of clothing, ten classes, grey images of 28x28 (Xiao, Rasul & Vollgraf 2017)."""

from pathlib import Path

from neuropil.data.idx import idx_pair, idx_source
from neuropil.data.split import Split

EXAMPLES = (60_000, 10_000)
CHECKSUMS = (
    ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ("9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe"),
    ("8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79"),
    ("15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310"),
)
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SOURCE = idx_source("fashion_mnist", "fashion-mnist", CHECKSUMS, MIRRORS, ("FashionMNIST/raw",))


def fashion_mnist(root: str | Path | None = None) -> tuple[Split, Split]:
    """(train, test): 60,000 and 10,000 images (n, 1, 28, 28) in uint8; arXiv 1708.07747."""
    return idx_pair(SOURCE, root, 10, NAMES)
