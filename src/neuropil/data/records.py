"""The binary records of CIFAR-10 and CIFAR-100: labels, then the red, green and blue planes of an image of 32x32."""

from collections.abc import Sequence

import numpy as np

from neuropil.data.split import Split
from neuropil.errors import require

PLANES = 3 * 32 * 32


def parse_records(raw: bytes, where: str, names: Sequence[str], *, labels: int = 1) -> Split:
    """The records of a binary batch; `where` names the file in a refusal.

    Args:
        raw: the content of the file.
        where: its name.
        names: of the classes, in the order of their labels.
        labels: bytes of labels before each image, of which the last one counts: 2 in CIFAR-100, coarse and fine.

    >>> parse_records(bytes(2 * 3073), "batch.bin", ["cat", "dog"])
    Split(2 examples of (3, 32, 32), 2 classes)
    """
    size = labels + PLANES
    message = f"{where} needs a whole number of records of {size} bytes, got {len(raw)} bytes."
    require(len(raw) > 0 and len(raw) % size == 0, message)
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    return Split.from_numpy(records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1], names=names)
