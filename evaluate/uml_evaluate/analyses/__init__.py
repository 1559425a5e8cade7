"""What a run learnt (paper 4.4 and appendix F; sections and numbers are those of arXiv:2510.08492v1).

One analysis per file or folder: pure functions on arrays, a thin layer that reads a run, and a figure.
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
    "boundary": "boundary.drawing",
    "alignment": "alignment.likeness",
    "exchange": "exchange.rate",
    "fisher": "information.fisher",
    "theory": "information.linear_theory",
    "neurons": "neurons.firing",
}
"""Names that `uml eval --analysis` takes, and the modules that they live in."""
ON_NETWORKS = ("neurons",)
"""Those that look at runs without labels (`uml pretrain`); the others look at heads."""


def module_of(analysis: str) -> ModuleType:
    """The module of an analysis: `analyse`, `figure`, `TITLE`, `PAPER`, `VERSION`."""
    return import_module(f"uml_evaluate.analyses.{ANALYSES[analysis]}")


def named(names: Iterable[str], *, networks: bool = False) -> Sequence[str]:
    """Analyses by name, in their order; `all` is every one of heads, or of networks.

    Raises:
        InputError: an unknown name.
    """
    asked = list(names)
    for name in asked:
        if name not in (*ANALYSES, "all"):
            raise unknown("analysis", name, (*ANALYSES, "all"))
    return [
        name for name in ANALYSES if name in asked or ("all" in asked and (name in ON_NETWORKS) == networks)
    ]
