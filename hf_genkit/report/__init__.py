"""A report of a run or a comparison: plain facts in, one HTML page or Markdown out."""

from .blocks import Chart, Picture, Pictures, Report, Section, Series, Table, Text
from .charts import draw_chart
from .folders import report_of_folder
from .html import render_html
from .markdown import render_markdown
from .writing import read_report, write_report


__all__ = [
    "Chart",
    "Picture",
    "Pictures",
    "Report",
    "Section",
    "Series",
    "Table",
    "Text",
    "draw_chart",
    "read_report",
    "render_html",
    "render_markdown",
    "report_of_folder",
    "write_report",
]
