"""Folders of runs become tables with n, mean and interval, figures, and one self-contained HTML page."""

from neuropil.report.export import export, frame
from neuropil.report.figures.activity import plot_isi, plot_psth, plot_raster, plot_voltages, plot_weights
from neuropil.report.figures.samples import save_sheet
from neuropil.report.notebook import gather
from neuropil.report.page import write
from neuropil.report.results import Results
from neuropil.report.stats import interval, paired
from neuropil.report.tables import markdown, table

__all__ = [
    "Results", "export", "frame", "gather", "interval", "markdown", "paired", "plot_isi", "plot_psth", "plot_raster",
    "plot_voltages", "plot_weights", "save_sheet", "table", "write",
]  # fmt: skip
