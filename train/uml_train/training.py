"""`train`: from settings to a finished run folder; `complete`: more cells for a run that exists."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.command import QUIET, Output
from uml_cache.errors import InputError
from uml_train.cells import draw_rows
from uml_train.grid import Grid, load_grid
from uml_train.problem import Problem, open_problem, read_class_map
from uml_train.run import Cell, Run, missing_cells, write_atomic
from uml_train.selection import Selection, select_stores
from uml_train.settings import (
    DEFAULT_SHOTS,
    WITH_AUXILIARIES,
    Shots,
    TrainSettings,
    settings_hash,
)
from uml_train.workers import train_cells


def train(settings: TrainSettings, *, output: Output = QUIET) -> Run:
    """Train every cell of the settings and return the finished run.

    The run's folder is named by data set, target and a hash of the settings and the stores' fingerprints, so
    the same settings over the same stores go on where they stopped.

    Raises:
        InputError: stores that are missing, ambiguous or unsealed; classes that do not meet; draws larger
            than the data.
    """
    selection = select_stores(settings.cache, settings.dataset, settings.target, settings.auxiliaries)
    problem = _open(selection, settings)
    for remark in problem.remarks:
        output.say(remark)
    resolved = _resolve(settings, selection, problem, output)
    grid = load_grid(resolved.grid)
    run = _begin(resolved, selection, problem, grid)
    _remark_classes(problem, resolved, output)
    todo = missing_cells(_cells(resolved, problem, resolved.shots or ()), run)
    _train(run, problem, todo, output)
    return run


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: the stores are gone or have changed since the run.
    """
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    wanted = _named_cells(run, settings, shots)
    todo = missing_cells(wanted, run)
    if not todo:
        return []
    problem = open_run_problem(run, cache)
    for cell in todo:
        draw_rows(problem, cell.shots, cell.seed)
    _train(run, problem, todo, output)
    _extend_splits(run, problem, {(cell.shots, cell.seed) for cell in todo})
    return todo


def open_run_problem(run: Run, cache: Path | None = None) -> Problem:
    """Open the stores that a run was trained on. Raises `InputError` if they are gone or have changed."""
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    selection = select_stores(settings.cache, settings.dataset, settings.target, settings.auxiliaries)
    for role in (selection.target, *selection.auxiliaries):
        expected = run.config["stores"][role.label]["fingerprint"]
        if role.store.fingerprint != expected:
            raise InputError(
                f"{role.store.path} has changed since {run.path} was trained "
                f"(fingerprint {str(role.store.fingerprint)[:12]}, then {str(expected)[:12]}); train again"
            )
    return _open(selection, settings)


def _open(selection: Selection, settings: TrainSettings) -> Problem:
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    return open_problem(selection.dataset, selection.target, selection.auxiliaries, class_map)


def _resolve(
    settings: TrainSettings, selection: Selection, problem: Problem, output: Output
) -> TrainSettings:
    """The settings with every default replaced by what it came to."""
    methods, controls = settings.methods, settings.controls
    if not selection.configurations:
        controls = ()
        methods = tuple(m for m in methods if m not in WITH_AUXILIARIES)
        if not methods:
            raise InputError(
                f"{', '.join(settings.methods)} need another modality, and the cache holds only "
                f"{selection.target.label} of {selection.dataset}; add one with {_extract_hint(selection)}"
            )
        output.say(
            f"{settings.cache} holds only {selection.target.label} of {selection.dataset}: training the "
            f"unimodal methods; {_extract_hint(selection)} would add another modality"
        )
    if settings.shots is None:
        possible: list[Shots] = []
        for k in DEFAULT_SHOTS:
            try:
                draw_rows(problem, k, settings.seeds[0])
            except InputError as error:
                output.say(f"shots {k} and more are left out: {error}")
                break
            possible.append(k)
        shots: tuple[Shots, ...] = tuple(possible) or ("all",)
    else:
        shots = settings.shots
        for wanted in shots:
            draw_rows(problem, wanted, settings.seeds[0])
    return replace(
        settings,
        dataset=selection.dataset,
        target=selection.target.label,
        auxiliaries=tuple(tuple(role.label for role in roles) for roles in selection.configurations),
        methods=methods,
        controls=controls,
        shots=shots,
        cache=Path(os.path.abspath(settings.cache)),
        class_map=settings.class_map and Path(os.path.abspath(settings.class_map)),
        out=Path(os.path.abspath(settings.out)),
    )


def _extract_hint(selection: Selection) -> str:
    other = "text" if selection.target.store.modality != "text" else "image"
    encoder = "hashed-ngrams" if other == "text" else "hog-color"
    return f"`uml extract --encoder {encoder} --data YOUR_{other.upper()}S --name {selection.dataset}`"


def _begin(settings: TrainSettings, selection: Selection, problem: Problem, grid: Grid) -> Run:
    """The run's folder with its configuration: made, or found as it was left."""
    roles = [selection.target, *selection.auxiliaries]
    stores = {
        role.label: {
            "path": str(Path(os.path.abspath(role.store.path))),
            "dataset": role.store.dataset,
            "modality": role.store.modality,
            "set": role.store.set,
            "encoder": source.encoder,
            "fingerprint": role.store.fingerprint,
            "rows": len(source.features.label),
            "usable_rows": len(source.rows),
            "failed_rows": int((~source.features.valid).sum()),
            "dim": source.dim,
        }
        for role, source in zip(roles, [problem.target, *problem.auxiliaries.values()], strict=True)
    }
    values = settings.to_json()
    decisive = {k: v for k, v in values.items() if k not in ("cache", "out", "class_map")}
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    fingerprints = {label: store["fingerprint"] for label, store in stores.items()}
    key = settings_hash([decisive, fingerprints, class_map, asdict(grid)])
    target = "".join(c if c.isalnum() or c in ".-_" else "_" for c in selection.target.label)
    name = "".join(c if c.isalnum() or c in ".-_" else "_" for c in selection.dataset)
    path = settings.out / f"{name}-{target}-{key}"
    for folder in ("cells", "heads", "predictions"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    if not (path / "config.json").exists():
        config = {
            "format": 1,
            "created": datetime.now(UTC).isoformat(),
            "settings": values,
            "dataset": selection.dataset,
            "target": selection.target.label,
            "configurations": [[role.label for role in roles] for roles in selection.configurations],
            "objective": "supervised",
            "trunk": "linear",
            "classes": list(problem.classes),
            "grid": asdict(grid),
            "stores": stores,
            "rows": {"train": len(problem.train), "val": len(problem.val), "test": len(problem.test)},
            "class_notes": problem.notes,
            "remarks": problem.remarks,
            "versions": {
                "uml-cache": version("uml-cache"),
                "torch": version("torch"),
                "numpy": version("numpy"),
                "python": platform.python_version(),
            },
        }
        labels = problem.target.labels[problem.test].astype(np.int32)
        _save_array(path / "test_labels.npy", labels)
        _write_splits(path, problem, {(k, s) for k in settings.shots or () for s in settings.seeds})
        write_atomic(path / "config.json", json.dumps(config, indent=1, ensure_ascii=False).encode())
    return Run(path)


def _write_splits(path: Path, problem: Problem, draws: Iterable[tuple[Shots, int]]) -> None:
    """The ids of every part and every draw, so that a run can be repeated on other software."""
    splits: dict[str, Any] = {
        "train": problem.ids(problem.train),
        "val": problem.ids(problem.val),
        "test": problem.ids(problem.test),
        "draws": {},
    }
    for shots, seed in sorted(draws, key=str):
        if shots == "all":
            continue
        draw = draw_rows(problem, shots, seed)
        splits["draws"][f"k{shots}-s{seed}"] = {
            "train": problem.ids(draw.train),
            "val": problem.ids(draw.val),
        }
    write_atomic(path / "splits.json", json.dumps(splits, ensure_ascii=False).encode())


def _extend_splits(run: Run, problem: Problem, draws: set[tuple[Shots, int]]) -> None:
    known = json.loads((run.path / "splits.json").read_text(encoding="utf-8"))["draws"]
    for name in known:
        shots, _, seed = name.removeprefix("k").partition("-s")
        draws.add((int(shots), int(seed)))
    _write_splits(run.path, problem, draws)


def _save_array(path: Path, values: np.ndarray) -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def _remark_classes(problem: Problem, settings: TrainSettings, output: Output) -> None:
    for label, notes in problem.notes.items():
        if lacking := notes["without_auxiliary"]:
            output.say(f"{label} has nothing for {len(lacking)} classes: {', '.join(lacking)}")
        if unused := notes["unused"]:
            output.say(f"{label}: {len(unused)} of its classes are not the target's: {', '.join(unused)}")


@dataclass(frozen=True)
class _Configuration:
    labels: tuple[str, ...]
    width: int


def _cells(settings: TrainSettings, problem: Problem, shots: Sequence[Shots]) -> list[Cell]:
    configurations = [
        _Configuration(labels, problem.auxiliaries[labels[0]].dim) for labels in settings.auxiliaries or ()
    ]
    return _table(settings, configurations, problem.target.dim, shots)


def _named_cells(run: Run, settings: TrainSettings, shots: Sequence[Shots]) -> list[Cell]:
    dims = {label: store["dim"] for label, store in run.config["stores"].items()}
    configurations = [_Configuration(labels, dims[labels[0]]) for labels in settings.auxiliaries or ()]
    return _table(settings, configurations, dims[run.config["target"]], shots)


def _table(
    settings: TrainSettings, configurations: Sequence[_Configuration], target_dim: int, shots: Sequence[Shots]
) -> list[Cell]:
    """Every cell once. The unimodal methods do not depend on the auxiliaries, but for the shared width."""
    widths = list(dict.fromkeys(c.width for c in configurations)) or [target_dim]
    cells: list[Cell] = []
    for k in shots:
        for seed in settings.seeds:

            def cell(
                labels: tuple[str, ...],
                method: str,
                control: str | None,
                width: int,
                k: Shots = k,
                seed: int = seed,
            ) -> Cell:
                return Cell(
                    auxiliaries=labels, method=method, control=control, shots=k, seed=seed, shared_width=width
                )

            for method in settings.methods:
                if method == "unimodal":
                    cells.append(cell((), method, None, target_dim))
                elif method not in WITH_AUXILIARIES:
                    cells += [cell((), method, None, width) for width in widths]
                else:
                    controls = (None, *settings.controls) if method == settings.controlled else (None,)
                    cells += [cell(c.labels, method, x, c.width) for c in configurations for x in controls]
    return cells


def _train(run: Run, problem: Problem, todo: Sequence[Cell], output: Output) -> None:
    began = time.perf_counter()
    if todo:
        train_cells(run, problem, todo, output)
    run.write_tables()
    seconds = time.perf_counter() - began
    if todo:
        output.say(f"trained {len(todo)} cells in {seconds:.0f} s")
