"""Which head of a run predicts: the one that validated best, among those that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from uml_cache import InputError, unknown
from uml_train import AUTO, KNOWN, require_heads

if TYPE_CHECKING:
    from uml_train import CellResult, Run, Shots


def choose(
    run: Run,
    *,
    method: str | None = None,
    shots: Shots | None = None,
    seed: int | None = None,
    auxiliaries: Sequence[str] | None = None,
) -> CellResult:
    """The cell whose head predicts. Test rows play no part.

    Of (auxiliaries, method, shots) the one with the best validation accuracy on average over the seeds; of
    equals the one with more labelled samples, then the simpler method. Of its seeds the one that validated
    best, then the first.

    Args:
        method, shots, seed, auxiliaries: what is fixed; None leaves it to validation, as `auto` does.

    Raises:
        InputError: the run has no heads, or none of what is asked for; it says what there is.
    """
    require_heads(run)
    found = [r for r in run.cells if r.cell.control is None and r.cell.method in KNOWN]
    if not found:
        raise InputError(
            f"{run.path} has no finished head; run the same `uml train` command again to finish it"
        )
    if method not in (None, AUTO):
        there = {r.cell.method for r in found}
        if method not in there:
            raise unknown("method of this run", str(method), there)
        found = [r for r in found if r.cell.method == method]
    if auxiliaries is not None:
        wanted = tuple(auxiliaries)
        # A method without auxiliaries is in every configuration.
        some = [r for r in found if r.cell.auxiliaries in (wanted, ())]
        if not any(r.cell.auxiliaries == wanted for r in some):
            known = {"+".join(r.cell.auxiliaries) for r in found if r.cell.auxiliaries}
            raise unknown("auxiliaries of this run", "+".join(wanted), known)
        found = some
    for what, value in (("shots", shots), ("seed", seed)):
        if value is not None:
            there = {str(getattr(r.cell, what)) for r in found}
            found = [r for r in found if getattr(r.cell, what) == value]
            if not found:
                raise unknown(f"{what} of this run", str(value), there)
    groups: dict[tuple[tuple[str, ...], str, Shots, int], list[CellResult]] = {}
    for r in found:
        key = (r.cell.auxiliaries, r.cell.method, r.cell.shots, r.cell.shared_width)
        groups.setdefault(key, []).append(r)

    def rank(key: tuple[tuple[str, ...], str, Shots, int]) -> tuple[float, float, int]:
        results = groups[key]
        mean = sum(r.val_acc for r in results) / len(results)
        number = float("inf") if key[2] == "all" else float(key[2])
        return mean, number, -KNOWN.index(key[1])

    best = groups[max(groups, key=rank)]
    return max(best, key=lambda r: (r.val_acc, -r.cell.seed))
