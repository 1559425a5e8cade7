"""Opening again what a run was trained on: its stores by their content, its classes and parts as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uml_cache import InputError
from uml_train.data.given_splits import GivenSplits, recorded_splits
from uml_train.data.selection import Role, Selection
from uml_train.problem import LeftOut, Problem, open_problem, read_class_map
from uml_train.record.identity import recorded_store
from uml_train.run import Run
from uml_train.runs.settled.recorded import require_heads


def recorded_selection(run: Run, cache: Path | None) -> tuple[Selection, list[Role]]:
    """The stores that a run was trained on, whatever else the cache holds by now; and those of its controls.

    Args:
        cache: where the stores are now, if they have moved; they are known by their content.

    Raises:
        InputError: a store is gone or has changed.
    """
    return selection_of(
        run, {label: Role(label, recorded_store(run, label, cache)) for label in _labels(run)}
    )


def selection_of(run: Run, roles: Mapping[str, Role]) -> tuple[Selection, list[Role]]:
    """The run's stores, given by label, as a selection; and those of its controls."""
    target = roles[run.config["target"]]
    configurations = tuple(tuple(roles[label] for label in labels) for labels in run.config["configurations"])
    selection = Selection(run.config["dataset"], target, configurations)
    used = {target.label, *(role.label for role in selection.auxiliaries)}
    return selection, [role for label, role in roles.items() if label not in used]


def open_run_problem(run: Run, cache: Path | None = None) -> Problem:
    """Open the stores that a run with heads was trained on, as `recorded_selection` finds them.

    Raises:
        InputError: a store is gone or has changed, or the run has no heads.
    """
    require_heads(run)
    return open_recorded(run, *recorded_selection(run, cache))


def left_out_of(run: Run, cache: Path | None = None) -> list[LeftOut]:
    """The rows of a run's stores that it does not use, with the reasons.

    Raises:
        InputError: a store is gone or has changed, or the run was not trained on features alone.
    """
    if "finetune" in run.config or run.settings.objective != "supervised":
        raise InputError(
            f"{run.path} holds no heads on features: the command that trained it writes what it leaves out, "
            "with --left-out of its own"
        )
    return list(open_run_problem(run, cache).left_out())


def open_recorded(run: Run, selection: Selection, unrelated: list[Role]) -> Problem:
    """The problem of a run with heads, its classes mapped and its rows split as they were."""
    return open_problem(
        selection.dataset,
        selection.target,
        selection.auxiliaries,
        class_map_of(run),
        unrelated=unrelated,
        splits=splits_of(run),
        ids=run.settings.ids,
        short_classes=run.settings.short_classes,
        unlabelled=run.settings.splits is None,
    )


def splits_of(run: Run) -> GivenSplits | None:
    """The splits that a run was made with, where they were drawn or came from a file; None: the data's
    own."""
    drawn = run.settings.splits or run.config.get("drawn", True)
    return recorded_splits(run.splits) if drawn else None


def class_map_of(run: Run) -> dict[str, str] | None:
    """The class map that a run was made with, whatever its file says now."""
    if run.identity is not None:
        found: dict[str, str] | None = run.identity["class_map"]
        return found
    return read_class_map(run.settings.class_map) if run.settings.class_map else None


def _labels(run: Run) -> list[str]:
    return list(run.config["stores"])
