"""Probes as cells of a run: fitted on the draws of its trained methods, chosen and kept as these are.

Rows, draws, normalisation and texts come from `uml_train.runs.cells.prepare`, so that a probe sees what
`unimodal` (or, with an auxiliary, `uml-init`) is trained on. Validation chooses among a probe's candidates;
the test rows are shown to the chosen one. Beside heads that AdamW trained, a probe has at most as many
candidates as validation had looks at heads (candidates of the run's grid × evaluations while one trains):
more are thinned out evenly. Beside heads that are solved it has all of its own.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml_cache import QUIET, Output, Progress
from uml_evaluate.comparing.shown.tables import shots_name
from uml_evaluate.probes.episode import Candidate, Episode, Linear
from uml_evaluate.probes.registry import Probe, probe_named
from uml_evaluate.probes.wanted import NEEDS, Wanted
from uml_train import (
    Answers,
    Cell,
    Finished,
    Prepared,
    Problem,
    Run,
    Session,
    TrainSettings,
    best_validated,
    cell_result,
    grow,
    linear_head_file,
    one_thread,
    prepare,
    reopen_heads,
    run_grid,
    vectors,
)

_TEST_BLOCK = 8_192


@dataclass(frozen=True, eq=False)
class _Tried:
    """A candidate with the rows that it was fitted to; `index` is its place in what the probe gave."""

    settings: TrainSettings
    prepared: Prepared
    episode: Episode
    candidate: Candidate
    index: int


def fit_probes(
    run: Run, wanted: Sequence[Wanted], *, cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Fit those of the wanted cells that a run lacks, and add them to it; returns those that came out.

    Raises:
        InputError: its stores are gone or have changed; a class has fewer samples than asked for.
    """
    opened = vars(reopen_heads(run, cache, output))
    session = ProbeSession(**opened, rows_of={w.cell: w.rows_of for w in wanted}, fitted=[])
    grow(session, run, [w.cell for w in wanted])
    return session.fitted


@dataclass(eq=False, kw_only=True)
class ProbeSession(Session):
    """Probes on the rows of a run's cells: `rows_of` says of which; `fitted` are those that came out."""

    rows_of: dict[Cell, Cell]
    fitted: list[Cell]

    doing = "probes"
    done = "fitted"

    def cells(self) -> list[Cell]:
        """The cells of the probes, in the order in which they were asked for."""
        return list(self.rows_of)

    def results(self, run: Run, cells: Sequence[Cell], bar: Progress) -> Generator[Finished, None, None]:
        """Fit each cell that is missing on its own draw, and give it as it is done."""
        left_out: set[tuple[str, Any]] = set()
        for cell in cells:
            # Alone and on one thread: what a probe says of a draw depends on nothing beside it. All labels
            # are one draw, which is alone anyway, and large.
            with nullcontext() if cell.shots == "all" else one_thread():
                finished = _fitted(run, self.problem, Wanted(cell, self.rows_of[cell]))
            if finished is not None:
                yield finished
                self.fitted.append(cell)
            elif (cell.method, cell.shots) not in left_out:
                left_out.add((cell.method, cell.shots))
                self.output.say(
                    f"{cell.method} is left out at {shots_name(cell.shots)}: one row per class has no scatter"
                )
            bar.update(1)


def _fitted(run: Run, problem: Problem, wanted: Wanted) -> Finished | None:
    """Fit a probe to one draw; None where it cannot be fitted."""
    # Probes see one vector per sample, whatever the run's heads see.
    settings, grid = replace(run.settings, trunk="linear", loader="device"), run_grid(run)
    name = wanted.cell.method
    probe = probe_named(name)
    if NEEDS[name] == "joint":
        settings = replace(settings, aligned="normalized")
    began = time.perf_counter()
    tried: list[_Tried] = []
    for kind in probe.normalizers or (settings.normalize,):
        own = replace(settings, normalize=kind, normalize_on="draw") if probe.normalizers else settings
        prepared = prepare(problem, wanted.rows_of, own, grid)
        episode = _episode(problem, prepared, wanted.cell.seed)
        found = probe.fit([episode])[0]
        if not found:
            return None
        if not grid.points and not probe.normalizers:
            found = _thinned(found, len(grid.candidates) * grid.schedule.looks)
        tried += [_Tried(own, prepared, episode, c, at) for at, c in enumerate(found)]
    return _scored(run, problem, wanted, probe, tried, time.perf_counter() - began)


def _thinned(candidates: list[Candidate], budget: int) -> list[Candidate]:
    """At most `budget` of the candidates, evenly from the first to the last; one alone is the middle."""
    if len(candidates) <= budget:
        return candidates
    if budget == 1:
        return [candidates[len(candidates) // 2]]
    return [candidates[round(i * (len(candidates) - 1) / (budget - 1))] for i in range(budget)]


def _episode(problem: Problem, prepared: Prepared, seed: int) -> Episode:
    model = prepared.models[0]
    text = model.auxiliaries[0] if model.auxiliaries else None
    return Episode(
        features=vectors(model.target.features),
        labels=model.target.labels,
        validation=(vectors(model.validation[0]), model.validation[1]),
        classes=len(problem.classes),
        seed=seed,
        text=None if text is None else (vectors(text.features), text.labels),
        class_means=model.head,
        scale=model.target.logit_scale,
    )


def _refitted(run: Run, problem: Problem, wanted: Wanted, probe: Probe, best: _Tried) -> _Tried:
    """The chosen candidate fitted once more, on training and validation rows together."""
    prepared = prepare(problem, wanted.rows_of, best.settings, run_grid(run), refit=True)
    episode = _episode(problem, prepared, wanted.cell.seed)
    return replace(best, prepared=prepared, episode=episode, candidate=probe.fit([episode])[0][best.index])


def _scored(
    run: Run, problem: Problem, wanted: Wanted, probe: Probe, tried: list[_Tried], seconds: float
) -> Finished:
    """Choose on validation, and show the test rows to the chosen one."""
    cell, accuracies, ties = wanted.cell, [], []
    for one in tried:
        features, labels = one.episode.validation
        logits = one.candidate.logits(features)
        accuracies.append(100.0 * float((logits.argmax(1) == labels).float().mean()))
        ties.append(() if probe.ties is None else probe.ties(one.candidate, logits, labels))
    selected = best_validated(accuracies, *zip(*ties, strict=True))
    best = tried[selected]
    if probe.normalizers and best.settings.refit:
        best = _refitted(run, problem, wanted, probe, best)
    chosen, prepared = best.candidate, best.prepared
    aligned = wanted.rows_of.aligned and best.settings.aligned == "normalized"
    target = problem.target
    normalizer = prepared.mapping[0][target.label]
    answers = Answers(len(problem.test), len(problem.classes))
    for start in range(0, len(problem.test), _TEST_BLOCK):
        rows = problem.test[start : start + _TEST_BLOCK]
        answers.take(slice(start, start + len(rows)), chosen.logits(normalizer(target.values(rows))))
    result = cell_result(
        run,
        problem,
        cell,
        answers,
        candidates=[
            {
                "hyperparameters": one.candidate.hyperparameters,
                **({"normalize": one.settings.normalize} if probe.normalizers else {}),
                "val_acc": accuracy,
                "best_step": one.candidate.steps,
                "steps": one.candidate.steps,
                "seconds": round(seconds / len(tried), 4),
            }
            for one, accuracy in zip(tried, accuracies, strict=True)
        ],
        selected=selected,
        seconds=seconds,
        label_budget=prepared.label_budget if probe.labels else 0,
        objective="supervised" if probe.labels else "zero-shot",
        trunk="linear" if isinstance(chosen.logits, Linear) else "none",
        normalize="l2" if aligned else best.settings.normalization,
        texts=run.settings.texts,
        grid=f"own, {len(tried)} candidate{'s' * (len(tried) != 1)}",
    )
    head = None
    if isinstance(chosen.logits, Linear):
        about = result.about(run.config["classes"])
        head = linear_head_file(*chosen.logits.plain(), normalizer, about)
    return Finished(result, answers, head)
