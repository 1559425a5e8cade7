"""Will this unpaired data help? Estimates from the training rows alone, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_evaluate.advice.advisor import Advice, Estimate, advise
    from uml_evaluate.advice.combine import Prediction
    from uml_evaluate.advice.evidence import Evidence
    from uml_evaluate.advice.geometry import Agreement, agreement
    from uml_evaluate.advice.training_rows import Rows
    from uml_evaluate.advice.wording import text

_HOME = {
    "Advice": "advisor",
    "Agreement": "geometry",
    "Estimate": "advisor",
    "Evidence": "evidence",
    "Prediction": "combine",
    "Rows": "training_rows",
    "advise": "advisor",
    "agreement": "geometry",
    "text": "wording",
}

__all__ = [
    "Advice",
    "Agreement",
    "Estimate",
    "Evidence",
    "Prediction",
    "Rows",
    "advise",
    "agreement",
    "text",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
