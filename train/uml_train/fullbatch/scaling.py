"""Which normalisation a draw's features get where validation may choose (`--normalize validated`).

Shapes: n training rows, m validation rows, D features, C classes.

`shrunk` brings features to like deviations, which is right where a feature's scale means nothing, and costs
where it does (the bands of a spectrogram). `center-l2` leaves the scales as they are. Both are tried by
the linear layer alone, each at the point where the validation rows are likeliest, and `center-l2` is taken
where it is better by more than one standard error of the paired difference: with a handful of validation
rows the usual one stays, because their accidents would choose. Likelihood is compared, not accuracy, which a
few rows tell apart too rarely. Every method of a draw has the same normalisation, so that differences between
methods are not differences of scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from uml_train.data.normalize import Normalizer
from uml_train.fullbatch.axes import remembered
from uml_train.fullbatch.search import cross_entropies, held_out_logits, temperatures
from uml_train.heads.models import HeadModel, Samples
from uml_train.protocols.grid import SOLVED_CANDIDATE, Point

USUAL, OTHER = "shrunk", "center-l2"


@dataclass(frozen=True, eq=False)
class LabelledParts:
    """The rows that a draw trains on, x (n, D) and y (n,), and those that select, (m, D) and (m,)."""

    x: Tensor
    y: Tensor
    held: Tensor
    answers: Tensor
    classes: int


def validated_normalization(
    parts: LabelledParts, points: Sequence[Point], fit: Callable[[str], Normalizer] | None = None
) -> str:
    """`shrunk` or `center-l2`, whichever the validation rows speak for.

    Args:
        parts: the draw, not normalised.
        points: what the linear layer searches.
        fit: makes the normaliser of a kind; None fits it on the rows that are trained on.
    """
    fit = fit or (lambda kind: Normalizer.fit(kind, parts.x))
    if len(parts.answers) < 2:
        return USUAL

    def choose() -> tuple[str]:
        usual, other = (_losses(parts, fit(kind), points) for kind in (USUAL, OTHER))
        gain = usual - other
        error = gain.std() / len(gain) ** 0.5
        return (OTHER if bool(gain.mean() > error) else USUAL,)

    normalizer = fit(OTHER)
    assert normalizer.mean is not None
    key = parts.x, parts.y, parts.held, parts.answers, parts.classes, normalizer.mean, tuple(points)
    return remembered(choose, "normalization", *key)[0]


def _losses(parts: LabelledParts, normalizer: Normalizer, points: Sequence[Point]) -> Tensor:
    """Cross-entropies (m,) float64 of the validation rows, at the point where their mean is least."""
    held = normalizer(parts.held)
    model = HeadModel(
        target=Samples(name="target", features=normalizer(parts.x), labels=parts.y, projected=False),
        validation=(held, parts.answers),
        classes=parts.classes,
        width=parts.x.shape[1],
        seed=0,
        candidate=SOLVED_CANDIDATE,
    )
    logits = held_out_logits(model, points)
    # A weak penalty makes heads too sure of themselves, which says nothing against a normalisation.
    factors = temperatures(logits, parts.answers)
    losses = cross_entropies(factors[:, None, None] * logits, parts.answers)
    return losses[int(losses.mean(1).argmin())]
