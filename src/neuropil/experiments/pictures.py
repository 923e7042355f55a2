"""Pictures that a recipe leaves in its run's folder, pictures/NAME.png with NAME.txt; the report shows them."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuropil.runs.files import write_atomically

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
        place, png = folder / "pictures", BytesIO()
        place.mkdir(exist_ok=True)
        figure.savefig(png, format="png", dpi=150)
        write_atomically(place / f"{name}.txt", f"{caption}\n".encode())
        write_atomically(place / f"{name}.png", png.getvalue())
