"""Receptive fields as one tidy grid per learner, signed in two colours that fade into the page at zero."""

import math

import numpy as np

from neuropil.errors import require
from neuropil.report.figures.samples import Sheet, encode, enlarged, grid
from neuropil.report.results import Results, RunRows
from neuropil.runs import UnitsRow

SHOWN = 100
GAP, LINE = 3, (128, 128, 128, 64)  # pixels between units, and the colour of the middle one
PLUS, MINUS = (0xD1, 0x44, 0x0C), (0x1A, 0x6F, 0xBF)


def field_sheets(results: Results) -> list[Sheet]:
    """One sheet for each learner that left its fields, from the first shown run that has them, best learner first."""
    seen, before = {}, results.saved("fields_before.")
    for name, (run, weight) in results.saved("fields.").items():
        wins, first = wins_of(run, name, len(weight)), before.get(name, (run, None))[1]
        seen[name] = field_sheet(name, run.name, weight, wins, first)
    return [seen[name] for name in dict.fromkeys([*results.learners, *seen]) if name in seen]


def wins_of(run: RunRows, name: str, units: int) -> np.ndarray | None:
    """How often each of the units won in this run, if it was logged for as many units."""
    logged = (row.wins for row in run.of(UnitsRow) if row.learner == name)
    return next((np.array(wins) for wins in logged if len(wins) == units), None)


def field_sheet(
    name: str, run: str, weight: np.ndarray, wins: np.ndarray | None, before: np.ndarray | None = None
) -> Sheet:
    """The picture of (units, channels, height, width) weights; vectors (units, features) become strips."""
    weight = weight[:, None, None] if weight.ndim == 2 else weight
    message = f"fields need (units, channels, height, width), got {weight.shape} for {name!r} in run '{run}'."
    require(weight.ndim == 4 and weight.size > 0, message)
    order = chosen_units(len(weight), wins)
    caption = f"{len(order)} of {len(weight)} units{', those that win most first' if wins is not None else ''}."
    caption += note(weight)
    broken = int((~np.isfinite(weight).all((1, 2, 3))).sum())
    if broken:
        caption += f" {broken} units with NaN or infinite weights are left blank."
    pixels = sheet_of(weight[order])
    first = encode(sheet_of(before[order])) if before is not None and before.shape == weight.shape else b""
    kind = "fields colour" if weight.shape[1] == 3 else "fields signed"
    alt = f"Receptive fields of {name}. {caption}"
    return Sheet(name, alt, caption, encode(pixels), encode(on_white(pixels)), kind, first)


def sheet_of(weight: np.ndarray) -> np.ndarray:
    """The units (n, channels, height, width) as one picture; those with NaN or infinite weights are blank."""
    broken = ~np.isfinite(weight).all((1, 2, 3))
    shown = np.where(broken[:, None, None, None], 0, weight)
    tiles = colour_tiles(shown) if weight.shape[1] == 3 else signed_tiles(strongest(shown))
    tiles[broken] = 0
    return mosaic(tiles)


def chosen_units(units: int, wins: np.ndarray | None) -> np.ndarray:
    """At most SHOWN units, evenly chosen from all, those that win most often first."""
    order = np.arange(units) if wins is None else np.argsort(-wins, kind="stable")
    return order[np.unique(np.linspace(0, units - 1, min(SHOWN, units)).round().astype(int))]


def note(weight: np.ndarray) -> str:
    """How to read the colours, where they are not those of one channel."""
    channels = weight.shape[1]
    if channels == 3:
        return " Red, green and blue as in the input; grey is zero."
    return f" Of {channels} channels each unit's strongest." if channels > 1 else ""


def strongest(weight: np.ndarray) -> np.ndarray:
    """(units, height, width): of each unit the channel with most energy."""
    best = np.square(weight).sum((2, 3)).argmax(1)
    return weight[np.arange(len(weight)), best]


def signed_tiles(weight: np.ndarray) -> np.ndarray:
    """(units, height, width) to RGBA: the sign is the hue, the size the opacity, zero is the page itself."""
    scale = np.abs(weight).max((1, 2), keepdims=True)
    relative = np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)
    colour = np.where(relative[..., None] > 0, PLUS, MINUS)
    # sixteen steps of opacity look smooth at this size and halve the file
    alpha = (np.abs(relative) * 16).round() / 16 * 255
    colour = np.where(alpha[..., None] > 0, colour, 0)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.uint8)


def colour_tiles(weight: np.ndarray) -> np.ndarray:
    """(units, 3, height, width) to RGBA: grey at zero, each unit scaled to its largest weight."""
    scale = np.abs(weight).max((1, 2, 3), keepdims=True)
    relative = np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)
    colour = (127.5 + 127.5 * relative.transpose(0, 2, 3, 1)).round()
    return np.concatenate([colour, np.full_like(colour[..., :1], 255)], -1).astype(np.uint8)


def mosaic(tiles: np.ndarray) -> np.ndarray:
    """Tiles in a grid as square as it can be, with faint lines between them; small tiles are enlarged first."""
    tiles = enlarged(tiles)
    units, height, width = len(tiles), tiles.shape[1] + GAP, tiles.shape[2] + GAP
    columns = max(1, min(units, round(math.sqrt(units * height / width))))
    sheet = grid(tiles, columns, GAP, ground=(0, 0, 0, 0))
    sheet[height - 2 :: height] = sheet[:, width - 2 :: width] = LINE
    return sheet


def on_white(sheet: np.ndarray) -> np.ndarray:
    """The sheet on white, enlarged to about 1200 pixels without blurring."""
    alpha = sheet[..., 3:] / 255
    flat = (sheet[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    times = max(1, 1200 // max(flat.shape[:2]))
    return flat.repeat(times, 0).repeat(times, 1)
