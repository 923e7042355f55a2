"""CIFAR-10: photographs of animals and vehicles, ten classes, colour images of 32x32 (Krizhevsky 2009)."""

from pathlib import Path

from neuropil.data.files import File, Source, read_all
from neuropil.data.records import parse_records
from neuropil.data.split import Split

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
    pickled=("cifar-10-python.tar.gz", "cifar-10-batches-py"),
)
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(root: str | Path | None = None) -> tuple[Split, Split]:
    """(train, test): 50,000 and 10,000 images (n, 3, 32, 32) in uint8, red, green, blue."""
    *batches, test = read_all(SOURCE, root)
    return parse_records(b"".join(batches), "data_batch", NAMES), parse_records(test, "test_batch.bin", NAMES)
