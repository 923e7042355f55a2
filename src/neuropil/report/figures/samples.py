"""Images that learners generated, as one sheet per learner."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuropil.errors import require
from neuropil.report.figures.receptive_fields import encode
from neuropil.report.results import Results, plain

PREFIX, GAP, GROUND = "samples.", 2, (128, 128, 128, 96)


@dataclass(frozen=True)
class SampleSheet:
    """The samples of one learner, as PNG."""

    learner: str
    caption: str
    image: bytes


def sample_sheets(results: Results) -> list[SampleSheet]:
    """One sheet for each name under which samples were saved, from the first shown run that has them."""
    seen: dict[str, SampleSheet] = {}
    for run in results.shown:
        for key in sorted(run.tensors):
            name = plain(key.removeprefix(PREFIX))
            if key.startswith(PREFIX) and name not in seen:
                images = run.tensors[key].detach().float().cpu().numpy()
                caption = f"{len(images)} samples, class after class. Run {run.name}."
                seen[name] = SampleSheet(name, caption, encode(tiled(images, columns=10)))
    return list(seen.values())


def tiled(images: np.ndarray, *, columns: int) -> np.ndarray:
    """Images (n, channels, height, width) in [0, 1] as RGBA, row by row, with gaps; small ones are enlarged."""
    require(
        images.ndim == 4 and images.shape[1] in (1, 3) and len(images) > 0,
        f"a sheet of images needs (n, 1 or 3 channels, height, width), got {images.shape}.",
    )
    times = max(1, 28 // max(images.shape[2:]))
    tiles = (images.clip(0, 1).transpose(0, 2, 3, 1) * 255).round().astype(np.uint8).repeat(times, 1).repeat(times, 2)
    height, width = tiles.shape[1] + GAP, tiles.shape[2] + GAP
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height - GAP, min(columns, len(tiles)) * width - GAP, 4), GROUND, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = index // columns * height, index % columns * width
        sheet[y : y + height - GAP, x : x + width - GAP, :3] = tile
        sheet[y : y + height - GAP, x : x + width - GAP, 3] = 255
    return sheet


def save_sheet(images: np.ndarray, out: Path, *, columns: int, times: int = 2) -> None:
    """Write `tiled` images to the PNG file `out`, each pixel `times` as large."""
    require(
        out.suffix == ".png", f"images go into a PNG file, got {str(out)!r}; name it {str(out.with_suffix('.png'))!r}."
    )
    out.write_bytes(encode(tiled(images, columns=columns).repeat(times, 0).repeat(times, 1)))
