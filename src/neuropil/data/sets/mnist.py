"""MNIST: handwritten digits, ten classes, grey images of 28x28 (LeCun, Cortes & Burges 1998)."""

from pathlib import Path

from neuropil.data.idx import idx_pair, idx_source
from neuropil.data.split import Split

EXAMPLES = (60_000, 10_000)
CHECKSUMS = (
    ("6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
    ("27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
)
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SOURCE = idx_source("mnist", "mnist", CHECKSUMS, MIRRORS, ("MNIST/raw",))


def mnist(root: str | Path | None = None) -> tuple[Split, Split]:
    """(train, test): 60,000 and 10,000 images (n, 1, 28, 28) in uint8, labels 0 to 9."""
    return idx_pair(SOURCE, root, classes=10)
