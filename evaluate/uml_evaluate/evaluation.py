"""`uml eval`: the table of a run at given shots; cells that the run lacks there are trained first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache.command import QUIET, Output
from uml_cache.errors import InputError
from uml_evaluate.comparison import Comparison, compare, table
from uml_evaluate.figures import differences_figure, file_name, save
from uml_evaluate.sentence import sentence
from uml_evaluate.tables import terminal
from uml_train import complete

if TYPE_CHECKING:
    from uml_train import Run
    from uml_train.settings import Shots


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found. `trained` counts the cells that the run lacked."""

    run: Run
    comparisons: list[Comparison]
    figures: list[Path]
    trained: int

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --json`."""
        return {
            "table": [row.to_json() for row in table(self.comparisons)],
            "differences": [d.to_json() for c in self.comparisons for d in c.differences],
            "figures": [str(path) for path in self.figures],
        }

    def text(self) -> str:
        """The tables and a sentence each, for the terminal."""
        parts = [f"{terminal(comparison)}\n\n{sentence(comparison)}" for comparison in self.comparisons]
        return "\n\n\n".join(parts)


def evaluate(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> Evaluation:
    """Compare the methods of a run at `shots`, training with the run's own settings what it lacks there.

    Figures of the differences are written into the run's folder `figures`, as PNG and SVG.

    Args:
        shots: labelled target samples per class: numbers from 1 on, or "all".
        cache: where the run's stores are now, if they have moved; needed only for training.

    Raises:
        InputError: the stores are gone or have changed, a class has fewer samples than asked for, or files of
            the run are damaged.
    """
    try:
        trained = complete(run, shots=shots, cache=cache, output=output)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path / 'config.json'} is damaged ({type(error).__name__}: {error}); train again"
        ) from None
    names = ", ".join(map(str, shots))
    if trained:
        output.say(
            f"{run.path} lacked {len(trained)} cells at {names} shots; they were trained and added to it"
        )
    else:
        output.say(f"{run.path} has every cell at {names} shots; nothing was trained")
    comparisons = compare(run, shots)
    figures: list[Path] = []
    for comparison in comparisons:
        if comparison.differences:
            name = f"{file_name(comparison)}-k{'-'.join(map(str, shots))}-differences"
            figures += save(differences_figure(comparison), run.path / "figures", name).files
    return Evaluation(run=run, comparisons=comparisons, figures=figures, trained=len(trained))
