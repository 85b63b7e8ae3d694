"""Models side by side: what is trained with one budget, and what is given by name, judged alike and reported."""

from .comparison import compare_pictures
from .task_models import compare_task_models


__all__ = ["compare_pictures", "compare_task_models"]
