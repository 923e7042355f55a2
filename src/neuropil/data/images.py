"""Image files, PNG and JPEG, as one array; all of one size, all grey or all in colour."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuropil.errors import Refusal, require

SUFFIXES = (".png", ".jpg", ".jpeg")
OTHERS = (".bmp", ".gif", ".heic", ".jp2", ".tif", ".tiff", ".webp")  # pictures that are not read


def class_folders(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> dict[str, list[Path]]:
    """The image files in each folder of `folder`, by its name, sorted; hidden ones are left out."""
    require(folder.is_dir(), f"there is no folder {folder}.")
    folders = [one for one in sorted(folder.iterdir()) if one.is_dir() and one.name[0] != "."]
    inside = {one.name: _files(one, suffixes) for one in folders}
    if suffixes == SUFFIXES and (left := [path for one in folders for path in _files(one, OTHERS)]):
        kinds = ", ".join(sorted({path.suffix.lower() for path in left}))
        warnings.warn(f"{len(left)} pictures in {folder} are left out, {kinds}: PNG and JPEG are read.", stacklevel=3)
    return {name: files for name, files in inside.items() if files}


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != ".")


def read_images(paths: Sequence[Path], size: tuple[int, int] | None = None) -> Any:
    """(n, channels, height, width) uint8; one channel if all are grey, else red, green and blue.

    Args:
        paths: of the images.
        size: (height, width) to which each is resized; None if all have one size.
    """
    images = [_read(path, size) for path in paths]
    for path, image in zip(paths, images):
        (height, width), (first_height, first_width) = image.shape[1:], images[0].shape[1:]
        sizes = f"{height}x{width} in {path} and {first_height}x{first_width} in {paths[0]}"
        one = (height, width) == (first_height, first_width)
        require(one, f"images need one size, got {sizes}; resize them, or use Split.from_folder(..., size=(28, 28)).")
    channels = max(len(image) for image in images)
    return np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])


def _read(path: Path, size: tuple[int, int] | None) -> Any:
    from PIL import Image, ImageOps  # here: only who reads images waits for it

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as opened:
            image = ImageOps.exif_transpose(opened)
            require(image.mode[0] not in "IF", f"{path} has more than 8 bits a pixel; save it with 8.")
            image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
            image = image.resize(size[::-1], Image.Resampling.BILINEAR) if size else image
    except (OSError, SyntaxError, Image.DecompressionBombError) as fault:  # pillow calls a broken PNG a SyntaxError
        raise Refusal(f"{path} is no PNG or JPEG image that can be read: {fault}.") from fault
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
