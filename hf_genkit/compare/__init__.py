"""Models side by side: what is trained with one budget, and what is given by name, judged alike and reported."""

from .comparison import compare_pictures
from .publishing import check_report_space, push_report, render_report_card
from .task_comparison import compare_task_models


__all__ = ["check_report_space", "compare_pictures", "compare_task_models", "push_report", "render_report_card"]
