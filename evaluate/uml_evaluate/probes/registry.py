"""The probes and rivals by name (those of `comparing.rows.PROBES`), and what each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from uml_evaluate.probes import aligned, discriminant, logreg, neighbours, ridge_text, textbook
from uml_evaluate.probes.episode import Candidate, Fit


@dataclass(frozen=True)
class Probe:
    """A classifier that is fitted to features without a network.

    `needs` is what it is fitted to: the target's rows alone, an auxiliary's too, or an auxiliary's whose
    encoder shares a space with the target's. `labels` tells whether it uses labelled rows of the target.
    `normalizers` are the mappings of features that it tries beside its other candidates; none: the run's own.
    `ties` decides between candidates that validate alike, by what is least; None: the first.
    """

    fit: Fit
    needs: Literal["target", "auxiliary", "joint"]
    labels: bool = True
    normalizers: tuple[str, ...] = ()
    ties: Callable[[Candidate, Tensor, Tensor], tuple[float, ...]] | None = None


_KNOWN: dict[str, Probe] = {
    "textbook": Probe(textbook.textbook, "target", normalizers=textbook.NORMALIZERS, ties=textbook.ties),
    "knn": Probe(neighbours.nearest_neighbours, "target"),
    "ncm": Probe(neighbours.nearest_class_mean, "target"),
    "lda": Probe(discriminant.shrinkage_lda, "target"),
    "logreg": Probe(logreg.logistic_regression, "target"),
    "logreg-sklearn": Probe(logreg.sklearn_logistic_regression, "target"),
    "ridge-text": Probe(ridge_text.ridge_text, "auxiliary"),
    "zeroshot": Probe(aligned.zero_shot, "joint", labels=False),
    "cross-modal": Probe(aligned.cross_modal_probe, "joint"),
    "tip-adapter": Probe(aligned.tip_adapter, "joint"),
    "tip-adapter-f": Probe(aligned.tip_adapter_f, "joint"),
    "lp++": Probe(aligned.lp_plus, "joint"),
}


def probe_named(name: str) -> Probe:
    """One of `PROBES`."""
    return _KNOWN[name]
