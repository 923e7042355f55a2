"""Folders of runs become tables with n, mean and interval, figures, and one self-contained HTML page."""

from neuropil.report.figures.samples import save_sheet as save_sheet
from neuropil.report.page import write as write
from neuropil.report.stats import interval as interval
from neuropil.report.stats import paired as paired
from neuropil.report.tables import markdown as markdown
from neuropil.report.tables import table as table
