"""Which normalisation a draw's features get where validation may choose (`--normalize validated`).

Shapes: n training rows, m validation rows, D features, C classes. Features are float32, labels int64.

`shrunk` brings features to like deviations, which is right where a feature's scale means nothing, and costs
where it does (the bands of a spectrogram). `center-l2` leaves the scales as they are. Both are tried by
the linear layer alone, each at the point where the validation rows are likeliest, and `center-l2` is taken
where it is better by more than one standard error of the paired difference: with a handful of validation
rows the usual one stays, because their accidents would choose. Likelihood is compared, not accuracy, which a
few rows tell apart too rarely. Every method of a draw has the same normalisation, so that differences between
methods are not differences of scale.

Unit length suits networks, whose directions carry meaning. The length of a row of `log-mel` is its loudness,
and unit length throws it away. `validated-lengths` chooses among `scaled` (the usual one), `center` and
`standard`, which keep lengths. There the training rows are scored, too, by heads of the validation rows: no
label more is used, and twice as many rows speak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.data.normalize import VALIDATED, VALIDATED_LENGTHS, Normalizer
from uml_train.fullbatch.axes import remembered
from uml_train.fullbatch.search import cross_entropies, held_out_logits, temperatures
from uml_train.heads.models import HeadModel, Samples
from uml_train.protocols.grid import SOLVED_CANDIDATE, Point

_LENGTHS_MATTER = ("log-mel",)  # encoders whose vectors' lengths carry meaning


@dataclass(frozen=True)
class _Choice:
    """The usual normalisation, the others, and whether training rows are scored as well."""

    usual: str
    others: tuple[str, ...]
    both: bool = False


_CHOICES = {
    VALIDATED: _Choice("shrunk", ("center-l2",)),
    VALIDATED_LENGTHS: _Choice("scaled", ("center", "standard"), both=True),
}


def validation_of(encoder: str) -> str:
    """The choice that is made for features of an encoder: `validated`, or `validated-lengths`."""
    return VALIDATED_LENGTHS if encoder in _LENGTHS_MATTER else VALIDATED


@dataclass(frozen=True, eq=False)
class LabelledParts:
    """The rows that a draw trains on, x (n, D) and y (n,), and those that select, (m, D) and (m,)."""

    x: Tensor
    y: Tensor
    held: Tensor
    answers: Tensor
    classes: int


def validated_normalization(
    parts: LabelledParts,
    points: Sequence[Point],
    fit: Callable[[str, Tensor], Normalizer] = Normalizer.fit,
    choice: str = VALIDATED,
) -> str:
    """The normalisation that the labelled rows of a draw speak for, such as `shrunk`.

    Args:
        parts: the draw, not normalised.
        points: what the linear layer searches.
        fit: makes the normaliser of a kind for the rows (n, D) that are trained on.
        choice: `validated` or `validated-lengths`.
    """
    known = _CHOICES[choice]
    if len(parts.answers) < 2:
        return known.usual
    ways = [parts, LabelledParts(parts.held, parts.answers, parts.x, parts.y, parts.classes)]
    ways = ways if known.both else ways[:1]

    def losses(kind: str) -> Tensor:
        return torch.cat([_losses(way, fit(kind, way.x), points) for way in ways])

    def choose() -> tuple[str]:
        usual = losses(known.usual)
        best, most = known.usual, 0.0
        for kind in known.others:
            gain = usual - losses(kind)
            mean, error = float(gain.mean()), float(gain.std() / len(gain) ** 0.5)
            if mean > max(error, most):
                best, most = kind, mean
        return (best,)

    normalizer = fit(known.others[0], parts.x)
    assert normalizer.mean is not None
    key = parts.x, parts.y, parts.held, parts.answers, parts.classes, normalizer.mean, tuple(points)
    return remembered(choose, "normalization", choice, *key)[0]


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
