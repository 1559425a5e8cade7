"""Heads that share weights between modalities, trained on cached features with no pairs.

Names are imported when they are first used, so that `uml --help` does not pay for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_train.classifier import UMLClassifier
    from uml_train.heads.bank import Fitted, HeadBank, HeadModel, Samples
    from uml_train.heads.export import Head, load_head
    from uml_train.heads.grid import Candidate, Grid, Schedule, load_grid
    from uml_train.heads.weights import HeadWeights
    from uml_train.run import Cell, CellResult, Run, find_runs, load_run, newest_run
    from uml_train.settings import CONTROLS, METHODS, TrainSettings
    from uml_train.training import complete, train

_HOME = {
    "CONTROLS": "settings",
    "Candidate": "heads.grid",
    "Cell": "run",
    "CellResult": "run",
    "Fitted": "heads.bank",
    "Grid": "heads.grid",
    "Head": "heads.export",
    "HeadBank": "heads.bank",
    "HeadModel": "heads.bank",
    "HeadWeights": "heads.weights",
    "METHODS": "settings",
    "Run": "run",
    "Samples": "heads.bank",
    "Schedule": "heads.grid",
    "TrainSettings": "settings",
    "UMLClassifier": "classifier",
    "complete": "training",
    "find_runs": "run",
    "load_grid": "heads.grid",
    "load_head": "heads.export",
    "load_run": "run",
    "newest_run": "run",
    "train": "training",
}

__all__ = [
    "CONTROLS",
    "METHODS",
    "Candidate",
    "Cell",
    "CellResult",
    "Fitted",
    "Grid",
    "Head",
    "HeadBank",
    "HeadModel",
    "HeadWeights",
    "Run",
    "Samples",
    "Schedule",
    "TrainSettings",
    "UMLClassifier",
    "complete",
    "find_runs",
    "load_grid",
    "load_head",
    "load_run",
    "newest_run",
    "train",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
