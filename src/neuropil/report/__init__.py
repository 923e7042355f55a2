"""Folders of runs become tables with n, mean and interval, figures, and one self-contained HTML page."""

from neuropil.report.drawings import draw_sheet as draw_sheet
from neuropil.report.page import write as write
from neuropil.report.stats import interval as interval
from neuropil.report.stats import paired as paired
from neuropil.report.words import markdown as markdown
from neuropil.report.words import table as table
