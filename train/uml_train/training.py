"""`train`: from settings to a finished run folder; `complete`: more cells for a run that exists."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uml_cache import QUIET, InputError, Output, StoreInfo, find_stores, store_info
from uml_train.data.given_splits import GivenSplits, read_splits, recorded_splits
from uml_train.data.selection import Role, Selection, select_stores, select_unrelated
from uml_train.folder import begin, extend_splits, run_lock
from uml_train.heads.grid import AUTO as GRID_AUTO
from uml_train.heads.grid import FAIR, load_grid
from uml_train.problem import LeftOut, Problem, open_problem, read_class_map
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.auto import choose
from uml_train.runs.cells import draw_rows
from uml_train.runs.combinations import cells_of, named_cells
from uml_train.runs.ranks import Ranks
from uml_train.runs.workers import train_cells
from uml_train.settings import (
    AUTO,
    DEFAULT_SHOTS,
    TRANSFORMER,
    UNRELATED,
    WITH_AUXILIARIES,
    Shots,
    TrainSettings,
)


def train(settings: TrainSettings, *, left_out: list[LeftOut] | None = None, output: Output = QUIET) -> Run:
    """Train every cell of the settings and return the finished run.

    The run's folder is named by data set, target and a hash of the settings and the stores' fingerprints, so
    the same settings over the same stores go on where they stopped.

    Args:
        left_out: takes the rows that are not used.

    Raises:
        InputError: stores that are missing, ambiguous or unsealed; classes that do not meet; draws larger
            than the data.
    """
    if settings.objective != "supervised":
        from uml_train.pretrain.pretraining import train_sequences

        return train_sequences(settings, output, left_out)
    ranks = Ranks.of_environment()
    output = output if ranks.first else QUIET
    selection, unrelated, problem, resolved = prepare_run(settings, output)
    grid = load_grid(resolved.grid, alpha=resolved.alpha, ratio=resolved.ratio)
    ranks.in_turn(lambda: begin(resolved, selection, unrelated, problem, grid))
    run = begin(resolved, selection, unrelated, problem, grid)
    remark_classes(problem, resolved, output)
    if left_out is not None:
        left_out += problem.left_out()
    with run_lock(run.path, output, ranks):
        todo = missing_cells(cells_of(resolved, problem, resolved.shots or ()), run)
        _train(run, problem, todo, output, ranks)
    if not todo:
        output.say(f"{run.path} has every cell; nothing was trained")
    return run


def prepare_run(
    settings: TrainSettings, output: Output
) -> tuple[Selection, list[Role], Problem, TrainSettings]:
    """Stores and settings with every default resolved; nothing is written."""
    tokens = settings.trunk == TRANSFORMER
    selection = select_stores(
        settings.cache, settings.dataset, settings.target, settings.auxiliaries, prefer_tokens=tokens
    )
    if tokens:
        _check_tokens(selection, output)
    unrelated = _unrelated(selection, settings)
    problem = _open(selection, unrelated, settings)
    for remark in problem.remarks:
        output.say(remark)
    resolved = with_search(resolve(settings, selection, problem, output), problem, output)
    return selection, unrelated, problem, resolved


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: the stores are gone or have changed since the run.
    """
    if "finetune" in run.config:
        from uml_train.finetune.finetuning import complete as complete_finetune

        return complete_finetune(run, shots=shots, cache=cache, output=output)
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    if settings.objective != "supervised":
        from uml_train.pretrain.pretraining import complete_sequences

        roles = {label: Role(label, recorded_store(run, label, cache)) for label in run.config["stores"]}
        return complete_sequences(run, shots, roles, settings, output)
    wanted = named_cells(run, settings, shots)
    todo = missing_cells(wanted, run)
    if not todo:
        return []
    problem = open_run_problem(run, cache)
    for cell in todo:
        draw_rows(problem, cell.shots, cell.seed)
    with run_lock(run.path, output):
        todo = missing_cells(wanted, run)
        _train(run, problem, todo, output, Ranks(), cache)
        extend_splits(run, problem, {(cell.shots, cell.seed) for cell in todo})
    return todo


def require_heads(run: Run, *, pooled: bool = False) -> None:
    """Refuse a run whose models are no heads on features, and say what to do instead.

    Args:
        pooled: whether heads that take tokens are refused, too.

    Raises:
        InputError: such a run.
    """
    config = run.config
    if "shift" in config:
        raise InputError(
            f"{run.path} holds scores of heads on other data; take the run {config['shift']['of']} instead"
        )
    if "finetune" in config:
        raise InputError(
            f"{run.path} was trained on samples, not on features; `uml extract --encoder` with a folder of "
            "its backbones makes features"
        )
    if run.settings.objective != "supervised":
        raise InputError(
            f"{run.path} (objective {run.settings.objective}) holds networks on sequences and no heads; `uml "
            f"embed {run.path}` makes features of them, which `uml train` and the probes take"
        )
    if pooled and run.settings.trunk == TRANSFORMER:
        raise InputError(
            f"{run.path} has the transformer trunk, whose heads take tokens; give a run with heads of pooled "
            "features (--trunk linear or mlp)"
        )


def open_run_problem(run: Run, cache: Path | None = None) -> Problem:
    """Open the stores that a run was trained on, whatever else the cache holds by now.

    Args:
        cache: where the stores are now, if they have moved; they are known by their fingerprints.

    Raises:
        InputError: a store is gone or has changed, or the run has no heads.
    """
    require_heads(run)
    roles = {label: Role(label, recorded_store(run, label, cache)) for label in run.config["stores"]}
    target = roles.pop(run.config["target"])
    labels = dict.fromkeys(label for labels in run.config["configurations"] for label in labels)
    auxiliaries = [roles.pop(label) for label in labels]
    class_map = read_class_map(run.settings.class_map) if run.settings.class_map else None
    unrelated = list(roles.values())
    return open_problem(
        run.config["dataset"],
        target,
        auxiliaries,
        class_map,
        unrelated=unrelated,
        splits=splits_of(run),
        ids=run.settings.ids,
    )


def splits_of(run: Run) -> GivenSplits | None:
    """The splits that a run was made with, where they were drawn or came from a file; None: the data's
    own."""
    drawn = run.settings.splits or run.config.get("drawn", True)
    return recorded_splits(run.path) if drawn else None


def recorded_store(run: Run, label: str, cache: Path | None) -> StoreInfo:
    """The store that a run calls `label`, unchanged. Raises `InputError` where it is gone or has changed."""
    recorded = run.config["stores"][label]
    expected = recorded["fingerprint"]
    if cache is not None:
        for store in find_stores(cache):
            if store.fingerprint == expected and store.modality == recorded["modality"]:
                return store
        raise InputError(f"{cache} does not hold the store of {label} that {run.path} was trained on")
    try:
        store = store_info(recorded["path"])
    except InputError:
        raise InputError(
            f"the store of {label} that {run.path} was trained on is not at {recorded['path']} any more; say "
            "where the cache is now with --cache, or train again"
        ) from None
    if store.fingerprint != expected:
        raise InputError(
            f"{store.path} has changed since {run.path} was trained "
            f"(fingerprint {str(store.fingerprint)[:12]}, then {str(expected)[:12]}); train again"
        )
    return store


def _unrelated(selection: Selection, settings: TrainSettings) -> list[Role]:
    names = [c.removeprefix(UNRELATED) for c in settings.controls if c.startswith(UNRELATED)]
    return [role for name in names for role in select_unrelated(settings.cache, name, selection)]


def _open(selection: Selection, unrelated: Sequence[Role], settings: TrainSettings) -> Problem:
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    splits = read_splits(settings.splits) if settings.splits else None
    return open_problem(
        selection.dataset,
        selection.target,
        selection.auxiliaries,
        class_map,
        unrelated,
        splits,
        ids=settings.ids,
    )


def resolve(settings: TrainSettings, selection: Selection, problem: Problem, output: Output) -> TrainSettings:
    """The settings with every default replaced by what it came to."""
    methods, controls = settings.methods, settings.controls
    if not selection.configurations:
        controls = ()
        methods = tuple(m for m in methods if m not in (*WITH_AUXILIARIES, AUTO))
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
    return with_defaults(replace(settings, methods=methods, controls=controls), selection, problem, shots)


def with_search(settings: TrainSettings, problem: Problem, output: Output) -> TrainSettings:
    """The settings with grid and normalisation chosen, where they are left to us.

    Raises:
        InputError: the grid `fair` is asked for where heads cannot be solved, or a refit where they are not.
    """
    reason = _not_solved(settings, problem)
    grid = settings.grid
    if grid == FAIR and reason:
        raise InputError(
            f"--grid fair solves heads on all rows at once, and {reason}; --grid quick trains them"
        )
    if grid == GRID_AUTO:
        grid = "quick" if reason else FAIR
        if reason:
            output.say(f"heads are trained by AdamW (--grid quick), because {reason}")
    if settings.refit and grid != FAIR:
        raise InputError("--refit is for heads that are solved on all rows at once (--grid fair)")
    normalize = settings.normalize
    if normalize == "auto":
        normalize = "shrunk" if grid == FAIR else "none"
    return replace(settings, grid=grid, normalize=normalize)


_SOLVABLE = 30_000_000  # probabilities of one modality, rows × classes, that are held at once


def _not_solved(settings: TrainSettings, problem: Problem) -> str | None:
    """Why heads cannot be solved on all rows at once; None where they can."""
    for option, usual in (("trunk", "linear"), ("sampling", "shuffled"), ("precision", "float32")):
        value = getattr(settings, option)
        if value != usual:
            return f"--{option} {value} needs steps on batches"
    if settings.device == "cuda" or settings.loader == "stream":
        return "they train on the CPU from memory" if settings.device == "cuda" else "rows are streamed"
    classes = len(problem.classes)
    rows = max(len(problem.train) if k == "all" else k * classes for k in settings.shots or ())
    rows = max([rows, *(len(source.rows) for source in problem.auxiliaries.values())])
    return None if rows * classes <= _SOLVABLE else f"{rows:,} rows of {classes:,} classes are too many"


def with_defaults(
    settings: TrainSettings, selection: Selection, problem: Problem, shots: tuple[Shots, ...]
) -> TrainSettings:
    """The settings with the stores' labels, `shots` and absolute paths, once the first draws are possible."""
    for wanted in shots:
        draw_rows(problem, wanted, settings.seeds[0])
    return replace(
        settings,
        dataset=selection.dataset,
        target=selection.target.label,
        auxiliaries=tuple(tuple(role.label for role in roles) for roles in selection.configurations),
        shots=shots,
        cache=Path(os.path.abspath(settings.cache)),
        class_map=settings.class_map and Path(os.path.abspath(settings.class_map)),
        splits=settings.splits and Path(os.path.abspath(settings.splits)),
        out=Path(os.path.abspath(settings.out)),
    )


def _check_tokens(selection: Selection, output: Output) -> None:
    """Raise `InputError` where the target has no tokens; say which auxiliaries have none."""
    for role in (selection.target, *selection.auxiliaries):
        if role.store.token_dim is not None:
            continue
        add = f"`uml extract --encoder {role.store.encoder_name} --tokens`, with the data it was made from,"
        if role is selection.target:
            raise InputError(
                f"--trunk transformer needs tokens, and {role.store.path} has none; {add} adds them"
            )
        output.say(
            f"{role.label} has no tokens and takes part with one vector a sample; {add} would add them"
        )


def _extract_hint(selection: Selection) -> str:
    other = "text" if selection.target.store.modality != "text" else "image"
    encoder = "hashed-ngrams" if other == "text" else "hog-color"
    return f"`uml extract --encoder {encoder} --data YOUR_{other.upper()}S --name {selection.dataset}`"


def remark_classes(problem: Problem, settings: TrainSettings, output: Output) -> None:
    """Say which classes an auxiliary has nothing for, and which of its own are not used."""
    for label, notes in problem.notes.items():
        if lacking := notes["without_auxiliary"]:
            output.say(f"{label} has nothing for {len(lacking)} classes: {', '.join(lacking)}")
        if unused := notes["unused"]:
            output.say(f"{label}: {len(unused)} of its classes are not the target's: {', '.join(unused)}")


def _train(
    run: Run,
    problem: Problem,
    todo: Sequence[Cell],
    output: Output,
    ranks: Ranks,
    cache: Path | None = None,
) -> None:
    """Train this process's part of the cells; then the first process chooses and writes the tables."""
    began = time.perf_counter()
    to_train = [cell for cell in todo if cell.method != AUTO]
    ranks.wait()  # every process has listed what is missing before one of them adds to it
    if part := ranks.part(to_train):
        train_cells(run, problem, part, output, alone=ranks.world == 1, cache=cache)

    def finish() -> None:
        choose(run, [cell for cell in todo if cell.method == AUTO])
        run.write_tables()

    ranks.in_turn(finish)
    seconds = time.perf_counter() - began
    if todo:
        output.say(f"trained {len(to_train)} cell{'s' * (len(to_train) != 1)} in {seconds:.0f} s")
