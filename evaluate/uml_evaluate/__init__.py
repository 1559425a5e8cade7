"""What the unpaired data was worth: comparisons, intervals, figures, reports, and the demo.

Names are imported when they are first used, so that `uml --help` does not pay for numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison, across, compare, table
    from uml_evaluate.comparing.figures import accuracy_figure, differences_figure
    from uml_evaluate.comparing.rows import AcrossDataSets, Difference, Row
    from uml_evaluate.comparing.sentence import sentence
    from uml_evaluate.comparing.statistics import Interval, across_data_sets, mean_std, paired_difference
    from uml_evaluate.demo import Demo, run_demo
    from uml_evaluate.evaluation import Evaluation, evaluate
    from uml_evaluate.report.html import Report, write_report

_HOME = {
    "AcrossDataSets": "comparing.rows",
    "Comparison": "comparing.comparison",
    "Demo": "demo",
    "Difference": "comparing.rows",
    "Evaluation": "evaluation",
    "Interval": "comparing.statistics",
    "Report": "report.html",
    "Row": "comparing.rows",
    "accuracy_figure": "comparing.figures",
    "across": "comparing.comparison",
    "across_data_sets": "comparing.statistics",
    "compare": "comparing.comparison",
    "differences_figure": "comparing.figures",
    "evaluate": "evaluation",
    "mean_std": "comparing.statistics",
    "paired_difference": "comparing.statistics",
    "run_demo": "demo",
    "sentence": "comparing.sentence",
    "table": "comparing.comparison",
    "write_report": "report.html",
}

__all__ = [
    "AcrossDataSets",
    "Comparison",
    "Demo",
    "Difference",
    "Evaluation",
    "Interval",
    "Report",
    "Row",
    "accuracy_figure",
    "across",
    "across_data_sets",
    "compare",
    "differences_figure",
    "evaluate",
    "mean_std",
    "paired_difference",
    "run_demo",
    "sentence",
    "table",
    "write_report",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
