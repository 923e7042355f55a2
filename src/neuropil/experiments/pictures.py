"""Pictures that a recipe leaves in its run's folder, pictures/NAME.png with NAME.txt; the report shows them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}
ORANGE, BLUE, GREY = "#d1440c", "#1061ad", "#727e8a"


@contextmanager
def picture(
    folder: Path, name: str, caption: str, *, rows: int = 1, columns: int = 1, width: float, height: float
) -> Iterator[Any]:
    """The axes of a figure (inches), an array of rows * columns; it is written with its caption when the block ends.

    A picture is there as a whole or not at all.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
        place = folder / "pictures"
        place.mkdir(exist_ok=True)
        (place / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
        part = place / f".{name}.part.png"
        figure.savefig(part, dpi=150)
        os.replace(part, place / f"{name}.png")
