"""What a run learnt (paper 4.4 and appendix F; sections and numbers are those of arXiv:2510.08492v1).

One analysis per file: pure functions on arrays, a thin layer that reads a run, and a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType

from uml_cache import unknown

ANALYSES = {
    "margin": "margin",
    "silhouette": "clusters",
    "prototypes": "prototypes",
    "boundary": "boundary",
    "alignment": "alignment",
    "exchange": "exchange.rate",
}
"""Names that `uml eval --analysis` takes, and the modules that they live in."""


def module_of(analysis: str) -> ModuleType:
    """The module of an analysis: `analyse`, `figure`, `TITLE`, `PAPER`, `VERSION`."""
    return import_module(f"uml_evaluate.analyses.{ANALYSES[analysis]}")


def named(names: Iterable[str]) -> Sequence[str]:
    """Analyses by name, in their order; `all` is every one. Raises `InputError` for an unknown name."""
    asked = list(names)
    for name in asked:
        if name not in (*ANALYSES, "all"):
            raise unknown("analysis", name, (*ANALYSES, "all"))
    return [name for name in ANALYSES if name in asked or "all" in asked]
