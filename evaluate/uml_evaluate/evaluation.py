"""`uml eval`: the table of a run at given shots; cells that the run lacks there are trained first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, InputError, Output
from uml_evaluate.comparing.comparison import Comparison, compare, table
from uml_evaluate.comparing.figures import differences_figure, file_name, save
from uml_evaluate.comparing.rows import ORDER, PROBES
from uml_evaluate.comparing.sentence import sentence
from uml_evaluate.comparing.tables import WIDTH, terminal
from uml_evaluate.probes.cells import complete_probes
from uml_train import complete, require_heads, run_grid, store_remarks

if TYPE_CHECKING:
    from uml_train import Run, Shots


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found. `trained` and `probed` count the cells that the run lacked."""

    run: Run
    comparisons: list[Comparison]
    figures: list[Path]
    trained: int
    probed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --json`."""
        return {
            "table": [row.to_json() for row in table(self.comparisons)],
            "differences": [d.to_json() for c in self.comparisons for d in c.differences],
            "figures": [str(path) for path in self.figures],
            "rows": self.run.config.get("used", {}),
        }

    def text(self) -> str:
        """The tables and a sentence each, for the terminal."""
        search = search_text(self.run, {row.shots for row in table(self.comparisons)})
        parts = [f"{terminal(comparison)}\n\n{sentence(comparison)}" for comparison in self.comparisons]
        return "\n\n\n".join([*parts, search] if search else parts)


def search_text(run: Run, shots: Iterable[Shots]) -> str:
    """How many candidates validation chose from, per method; empty where every method searched the same."""
    wanted = set(shots)
    counts: dict[int, list[str]] = {}
    found = {r.cell.method: r for r in run.cells if r.cell.shots in wanted and r.cell.method in PROBES}
    for name in sorted(found, key=ORDER.index):
        counts.setdefault(len(found[name].candidates), []).append(name)
    if not counts:
        return ""
    parts = [f"{', '.join(names)}: {n}" for n, names in counts.items()]
    if any(r.cell.shots in wanted and r.cell.method not in PROBES for r in run.cells):
        grid = run_grid(run)
        looks = f"each looked at up to {grid.schedule.looks} times while it trains"
        parts.insert(0, f"heads: {grid.size}" if grid.points else f"heads: {grid.size}, {looks}")
    return fill(f"Candidates that validation chose from. {'; '.join(parts)}.", WIDTH)


def evaluate(
    run: Run,
    *,
    shots: Sequence[Shots],
    heads: bool = True,
    probes: Sequence[str] = (),
    cache: Path | None = None,
    output: Output = QUIET,
) -> Evaluation:
    """Compare the methods of a run at `shots`, training with the run's own settings what it lacks there.

    Figures of the differences are written into the run's folder `figures`, as PNG and SVG, where it can be
    written. What the run's stores are by now is said; results that are there are shown all the same.

    Args:
        shots: labelled target samples per class: numbers from 1 on, or "all".
        heads: whether the run's own methods are trained where it lacks them.
        probes: probes and rivals that are fitted to the same draws and added to the run.
        cache: where the run's stores are now, if they have moved; needed only for training.

    Raises:
        InputError: the stores are gone or have changed, a class has fewer samples than asked for, or files of
            the run are damaged.
    """
    if probes:
        require_heads(run)
    for remark in store_remarks(run, cache):
        output.say(remark)
    try:
        trained = complete(run, shots=shots, cache=cache, output=output) if heads else []
        probed = complete_probes(run, probes, shots=shots, cache=cache, output=output) if probes else []
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path / 'config.json'} is damaged ({type(error).__name__}: {error}); train again"
        ) from None
    names = ", ".join(map(str, shots))
    if probed:
        fitted = ", ".join(dict.fromkeys(cell.method for cell in probed))
        output.say(f"{run.path}: {len(probed)} cells of {fitted} were fitted and added to it")
    elif probes:
        output.say(f"{run.path} has every cell of the rivals at {names} shots; none was fitted")
    if trained:
        output.say(
            f"{run.path} lacked {len(trained)} cells at {names} shots; they were trained and added to it"
        )
    elif heads:
        output.say(f"{run.path} has every cell at {names} shots; nothing was trained")
    comparisons = compare(run, shots)
    figures: list[Path] = []
    for comparison in comparisons:
        if comparison.differences:
            name = f"{file_name(comparison)}-k{'-'.join(map(str, shots))}-differences"
            try:
                figures += save(differences_figure(comparison), run.path / "figures", name).files
            except (
                OSError
            ) as error:  # somebody else's run, or a snapshot: its table can be shown all the same
                figures_folder = run.path / "figures"
                output.say(f"{figures_folder} cannot be written ({error.strerror}); no figure was saved")
                break
    counts = {"trained": len(trained), "probed": len(probed)}
    return Evaluation(run=run, comparisons=comparisons, figures=figures, **counts)
