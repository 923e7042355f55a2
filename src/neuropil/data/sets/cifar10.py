"""CIFAR-10: photographs of animals and vehicles, ten classes, colour images of 32x32 (Krizhevsky 2009)."""

from pathlib import Path

import numpy as np
import torch

from neuropil.data.files import File, Source, read
from neuropil.data.split import Split
from neuropil.errors import require

EXAMPLES = (50_000, 10_000)
SOURCE = Source(
    name="cifar10",
    folder="cifar-10-batches-bin",
    files=(
        File("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
        File("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
        File("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
        File("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
        File("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
        File("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    archive=File("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
)
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes


def cifar10(root: str | Path | None = None) -> tuple[Split, Split]:
    """(train, test): 50,000 and 10,000 images (n, 3, 32, 32) in uint8, red, green, blue.

    Labels: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    """
    *batches, test = (file.name for file in SOURCE.files)
    train = b"".join(read(SOURCE, name, root) for name in batches)
    return parse_records(train, "data_batch"), parse_records(read(SOURCE, test, root), test)


def parse_records(raw: bytes, where: str) -> Split:
    """The records of a binary batch; `where` names the file in a refusal."""
    message = f"{where} needs a whole number of records of {RECORD} bytes, got {len(raw)} bytes."
    require(len(raw) > 0 and len(raw) % RECORD == 0, message)
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    images = torch.from_numpy(records[:, 1:].copy()).view(-1, 3, 32, 32)
    return Split(images, torch.from_numpy(records[:, 0].astype(np.int64)), classes=10)
