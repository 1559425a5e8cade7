"""What the unpaired data was worth: comparisons, intervals, figures, reports, and the demo.

Names are imported when they are first used, so that `uml --help` does not pay for numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_evaluate.comparison import Comparison, across, compare, table
    from uml_evaluate.demo import Demo, run_demo
    from uml_evaluate.evaluation import Evaluation, evaluate
    from uml_evaluate.figures import accuracy_figure, differences_figure
    from uml_evaluate.report import Report, write_report
    from uml_evaluate.rows import AcrossDataSets, Difference, Row
    from uml_evaluate.sentence import sentence
    from uml_evaluate.statistics import Interval, across_data_sets, mean_std, paired_difference

_HOME = {
    "AcrossDataSets": "rows",
    "Comparison": "comparison",
    "Demo": "demo",
    "Difference": "rows",
    "Evaluation": "evaluation",
    "Interval": "statistics",
    "Report": "report",
    "Row": "rows",
    "accuracy_figure": "figures",
    "across": "comparison",
    "across_data_sets": "statistics",
    "compare": "comparison",
    "differences_figure": "figures",
    "evaluate": "evaluation",
    "mean_std": "statistics",
    "paired_difference": "statistics",
    "run_demo": "demo",
    "sentence": "sentence",
    "table": "comparison",
    "write_report": "report",
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
