"""The probes and rivals by name (those of `comparing.rows.PROBES`), and how each of them is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from uml_evaluate.probes import aligned, discriminant, logreg, neighbours, ridge_text, textbook
from uml_evaluate.probes.episode import Candidate, Fit


@dataclass(frozen=True)
class Probe:
    """A classifier that is fitted to features without a network.

    What it is fitted to stands in `uml_evaluate.probes.wanted.NEEDS`. `labels` tells whether it uses labelled
    rows of the target.
    `normalizers` are the mappings of features that it tries beside its other candidates; none: the run's own.
    `ties` decides between candidates that validate alike, by what is least; None: the first.
    """

    fit: Fit
    labels: bool = True
    normalizers: tuple[str, ...] = ()
    ties: Callable[[Candidate, Tensor, Tensor], tuple[float, ...]] | None = None


_KNOWN: dict[str, Probe] = {
    "textbook": Probe(textbook.textbook, normalizers=textbook.NORMALIZERS, ties=textbook.ties),
    "knn": Probe(neighbours.nearest_neighbours),
    "ncm": Probe(neighbours.nearest_class_mean),
    "lda": Probe(discriminant.shrinkage_lda),
    "logreg": Probe(logreg.logistic_regression),
    "logreg-sklearn": Probe(logreg.sklearn_logistic_regression),
    "ridge-text": Probe(ridge_text.ridge_text),
    "zeroshot": Probe(aligned.zero_shot, labels=False),
    "cross-modal": Probe(aligned.cross_modal_probe),
    "tip-adapter": Probe(aligned.tip_adapter),
    "tip-adapter-f": Probe(aligned.tip_adapter_f),
    "lp++": Probe(aligned.lp_plus),
}


def probe_named(name: str) -> Probe:
    """One of `PROBES`."""
    return _KNOWN[name]
