"""`advise`: what unpaired samples would add, before anything is trained."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from uml.embedding import Embedded
from uml.shown import shown
from uml.stores import as_embedded, write_stores
from uml_cache import InputError
from uml_evaluate import Advice, advice_text
from uml_evaluate import advise as advise_stores

if TYPE_CHECKING:
    import pandas


class Advised:
    """Estimates per unpaired data and shots: `table()`, or as words."""

    def __init__(self, advice: Advice) -> None:
        self.advice = advice

    def table(self) -> pandas.DataFrame:
        """A row per unpaired data and number of shots: estimate in points, its interval, and a verdict."""
        import pandas

        return pandas.DataFrame([estimate.to_json() for estimate in self.advice.estimates])

    def __str__(self) -> str:
        return advice_text(self.advice)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(advice_text(self.advice))}</pre>"


def advise(
    target: Embedded | tuple[Any, Any],
    *aux: Embedded | tuple[Any, Any],
    shots: Sequence[int] | None = None,
    progress: bool = True,
    **named: Embedded | tuple[Any, Any],
) -> Advised:
    """Estimate what each unpaired data would add to the target, from its training rows alone.

    Args:
        target: what is classified, with labels.
        aux, named: unpaired samples with labels; those without a name are called by their modality.
        shots: labelled samples per class; default: those of 1, 2, 4, 8 that the training rows can give.

    Raises:
        InputError: no unpaired data, no labels, no class in common.
    """
    own = as_embedded(target, "the target")
    others: dict[str, Embedded] = {}
    for number, one in enumerate(aux, 1):
        found = as_embedded(one, f"unpaired data {number}")
        others[_free(found.modality, others)] = found
    others |= {name: as_embedded(one, name) for name, one in named.items()}
    if not others:
        raise InputError("advice is about unpaired data: give some behind the target")
    if any(one.modality == own.modality for one in others.values()):
        raise InputError(f"advice is about another modality than the target's, which is {own.modality}, too")
    with TemporaryDirectory() as folder:
        cache, label, _ = write_stores(Path(folder), "data", own, others)
        return Advised(advise_stores(cache, target=label, dataset="data", k=shots, output=shown(progress)))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = 1
    while (found := name if number == 1 else f"{name}{number}") in taken:
        number += 1
    return found
