"""Receptive fields as one tidy grid per learner, signed in two colours that fade into the page at zero."""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from neuropil.errors import require
from neuropil.report.results import Study, name_of, plain

PREFIX = "fields."
SHOWN = 100
GAP, LINE = 3, (128, 128, 128, 64)  # pixels between units, and the colour of the middle one
PLUS, MINUS = (0xD1, 0x44, 0x0C), (0x1A, 0x6F, 0xBF)


@dataclass(frozen=True)
class Grid:
    """The fields of one learner.

    Attributes:
        image: PNG on a transparent ground, one pixel per weight.
        paper: the same on white and enlarged, for papers.
        kind: "fields signed" or "fields colour".
    """

    learner: str
    run: str
    caption: str
    image: bytes
    paper: bytes
    kind: str


def grids(study: Study) -> list[Grid]:
    """One grid for each learner that left its fields, from the first settled run that has them."""
    seen: dict[str, Grid] = {}
    for record in study.settled:
        tensors = record.tensors() if (record.folder / "weights.safetensors").exists() else {}
        for key in sorted(tensors):
            name = plain(key.removeprefix(PREFIX))
            if key.startswith(PREFIX) and name not in seen:
                weight = tensors[key].detach().float().cpu().numpy()
                seen[name] = grid(name, name_of(record), weight, wins_of(study, name, record.rows, len(weight)))
    order = [*study.learners, *seen]
    return sorted(seen.values(), key=lambda grid: order.index(grid.learner))


def wins_of(study: Study, name: str, rows: list[dict[str, Any]], units: int) -> np.ndarray | None:
    """How often each of the units won in this run, if it was logged for as many units."""
    for row in rows:
        same = row.get("kind") == "units" and plain(row.get("learner", "")) == name
        if same and len(row.get("wins") or []) == units:
            return np.array(row["wins"])
    return None


def grid(name: str, run: str, weight: np.ndarray, wins: np.ndarray | None) -> Grid:
    """The picture of (units, channels, height, width) weights; vectors (units, features) become strips."""
    weight = weight[:, None, None] if weight.ndim == 2 else weight
    require(
        weight.ndim == 4 and weight.size > 0,
        f"fields need (units, channels, height, width), got {weight.shape} for {name!r} in run '{run}'.",
    )
    order = np.arange(len(weight)) if wins is None else np.argsort(-wins, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    broken = ~np.isfinite(weight).all((1, 2, 3))
    shown = np.where(broken[order, None, None, None], 0, weight[order])
    tiles = colour_tiles(shown) if weight.shape[1] == 3 else signed_tiles(strongest(shown))
    tiles[broken[order]] = 0
    how = "by how often they win, most often first" if wins is not None else "in the order of their index"
    some = f"All {len(weight)}" if len(order) == len(weight) else f"{len(order)} of {len(weight)}, evenly chosen"
    caption = f"{some} units, {how}. {note(weight)}"
    if broken.any():
        caption += f" {broken.sum()} units with NaN or infinite weights are left blank."
    sheet = mosaic(tiles)
    kind = "fields colour" if weight.shape[1] == 3 else "fields signed"
    return Grid(name, run, caption, encode(sheet), encode(on_white(sheet)), kind)


def note(weight: np.ndarray) -> str:
    """How to read the colours."""
    channels = weight.shape[1]
    if channels == 3:
        return "Red, green and blue as in the input; grey is zero."
    strong = f"; of {channels} channels each unit's strongest" if channels > 1 else ""
    return f"Orange is positive, blue negative, each unit scaled to its largest weight{strong}."


def strongest(weight: np.ndarray) -> np.ndarray:
    """(units, height, width): of each unit the channel with most energy."""
    best = np.square(weight).sum((2, 3)).argmax(1)
    return weight[np.arange(len(weight)), best]


def signed_tiles(weight: np.ndarray) -> np.ndarray:
    """(units, height, width) to RGBA: the sign is the hue, the size the opacity, zero is the page itself."""
    scale = np.abs(weight).max((1, 2), keepdims=True)
    share = np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)
    colour = np.where(share[..., None] > 0, PLUS, MINUS)
    # sixteen steps of opacity look smooth at this size and halve the file
    alpha = (np.abs(share) * 16).round() / 16 * 255
    colour = np.where(alpha[..., None] > 0, colour, 0)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.uint8)


def colour_tiles(weight: np.ndarray) -> np.ndarray:
    """(units, 3, height, width) to RGBA: grey at zero, each unit scaled to its largest weight."""
    scale = np.abs(weight).max((1, 2, 3), keepdims=True)
    share = np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)
    colour = (127.5 + 127.5 * share.transpose(0, 2, 3, 1)).round()
    return np.concatenate([colour, np.full_like(colour[..., :1], 255)], -1).astype(np.uint8)


def mosaic(tiles: np.ndarray) -> np.ndarray:
    """Tiles in a grid as square as it can be, with faint lines between them; small tiles are enlarged first."""
    times = max(1, 28 // max(tiles.shape[1:3]))
    tiles = tiles.repeat(times, 1).repeat(times, 2)
    units, height, width = len(tiles), tiles.shape[1] + GAP, tiles.shape[2] + GAP
    columns = max(1, min(units, round(math.sqrt(units * height / width))))
    rows = math.ceil(units / columns)
    sheet = np.zeros((rows * height - GAP, columns * width - GAP, 4), np.uint8)
    sheet[height - 2 :: height] = sheet[:, width - 2 :: width] = LINE
    for index, tile in enumerate(tiles):
        y, x = index // columns * height, index % columns * width
        sheet[y : y + height - GAP, x : x + width - GAP] = tile
    return sheet


def on_white(sheet: np.ndarray) -> np.ndarray:
    """The sheet on white, enlarged to about 1200 pixels without blurring."""
    alpha = sheet[..., 3:] / 255
    flat = (sheet[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    times = max(1, 1200 // max(flat.shape[:2]))
    return flat.repeat(times, 0).repeat(times, 1)


def encode(pixels: np.ndarray) -> bytes:
    """PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
