"""What a run was: settings, stores, caveats and the command that repeats it, read from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, declared
from uml_evaluate.analyses.finding import findings
from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import shots_order
from uml_evaluate.comparing.verdict import MIN_DRAWS
from uml_train import Asked, asked, store_remarks

if TYPE_CHECKING:
    from uml_cache import StoreInfo
    from uml_train import Run

_FEW_SEEDS = 5
_NAMES_SHOWN = 12
# Choices that are said of every run.
_SAID = ("methods", "controls", "shots", "seeds", "grid", "normalize", "texts", "alpha", "ratio")


@dataclass(frozen=True)
class StoreRecord:
    """A feature store that a run used: `role` is the target's or an auxiliary's label."""

    role: str
    encoder: str
    rows: int
    failed_rows: int
    dim: int
    fingerprint: str
    path: str


@dataclass(frozen=True)
class RunRecord:
    """A run's configuration, as a reader wants it; `remarks` say what has become of it since."""

    path: Path
    dataset: str
    target: str
    created: str
    facts: tuple[tuple[str, str], ...]
    stores: tuple[StoreRecord, ...]
    caveats: tuple[str, ...]
    command: str
    remarks: tuple[str, ...] = ()


def describe(
    run: Run, comparisons: Sequence[Comparison], opened: dict[str, StoreInfo] | None = None
) -> RunRecord:
    """Read a run's configuration; `opened` is as for `store_remarks`.

    Raises:
        InputError: it lacks something that a run has.
    """
    try:
        _, damaged = findings(run.path)
        left_out = [f"an analysis is left out: {error}" for error in damaged]
        return replace(_describe(run, comparisons), remarks=(*store_remarks(run, opened=opened), *left_out))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{run.path / 'config.json'} is damaged ({type(error).__name__}: {error}); train again"
        ) from None


def _describe(run: Run, comparisons: Sequence[Comparison]) -> RunRecord:
    config, settings = run.config, run.config["settings"]
    rows = config["rows"]
    done = asked(config, shots=_shots(comparisons))
    grid = config["grid"]
    candidates = len(grid["candidates"])
    stores = tuple(
        StoreRecord(
            role=role,
            encoder=store["encoder"],
            rows=store["rows"],
            failed_rows=store["failed_rows"],
            dim=store["dim"],
            fingerprint=str(store["fingerprint"]),
            path=store["path"],
        )
        for role, store in config["stores"].items()
    )
    facts = (
        ("data set", f"{config['dataset']}, {len(config['classes'])} classes"),
        (
            "target",
            f"{config['target']}: {rows['train']} train, {rows['val']} validation, {rows['test']} test rows",
        ),
        ("auxiliaries", ", ".join("+".join(labels) for labels in config["configurations"]) or "none"),
        ("methods", ", ".join(settings["methods"])),
        ("controls", ", ".join(settings["controls"]) or "none"),
        ("labelled per class", ", ".join(map(str, _shots(comparisons)))),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("search", f"grid {grid['name']}, {candidates} candidates for every method, chosen on validation"),
        ("normalisation", settings["normalize"]),
        ("auxiliary samples per class", str(settings["texts"])),
        ("weight of an auxiliary's loss", _axis(settings["alpha"])),
        ("auxiliary batches per target batch", _axis(settings["ratio"])),
        *_choices(done),
        ("begun", str(config["created"])),
        ("versions", ", ".join(f"{name} {number}" for name, number in config["versions"].items())),
    )
    return RunRecord(
        path=run.path,
        dataset=config["dataset"],
        target=config["target"],
        created=str(config["created"]),
        facts=facts,
        stores=stores,
        caveats=tuple(_caveats(config, stores, comparisons)),
        command=done.command(),
    )


def mixed_features(records: Sequence[RunRecord]) -> list[str]:
    """Where runs of one data set and target saw different features: their accuracies do not compare."""
    seen: dict[tuple[str, str], dict[str, set[str]]] = {}
    for record in records:
        for store in record.stores:
            modality = store.role.partition(":")[0]
            encoders = seen.setdefault((record.dataset, record.target.partition(":")[0]), {})
            encoders.setdefault(modality, set()).add(f"{store.encoder} ({store.fingerprint[:8]})")
    return [
        f"Runs of {dataset}: {target} saw different features of {modality}: {', '.join(sorted(names))}. "
        "Their numbers compare only where everything else is the same."
        for (dataset, target), encoders in seen.items()
        for modality, names in encoders.items()
        if len(names) > 1
    ]


def _choices(done: Asked) -> Iterator[tuple[str, str]]:
    """Every other choice that is not as usual."""
    for settings in done.settings:
        for name, setting in declared(type(settings)).items():
            value = getattr(settings, name)
            decides = name == "objective" or (setting.role == "choice" and name not in _SAID)
            if decides and value not in (setting.default, None):
                yield name.replace("_", " "), setting.words(value)[-1]


def _shots(comparisons: Sequence[Comparison]) -> list[Any]:
    found = {k for comparison in comparisons for k in comparison.shots}
    return sorted(found, key=shots_order)


def _caveats(
    config: dict[str, Any], stores: Sequence[StoreRecord], comparisons: Sequence[Comparison]
) -> list[str]:
    notes = []
    for label, classes in config["class_notes"].items():
        if lacking := classes.get("without_auxiliary"):
            notes.append(
                f"{label} has no sample of {len(lacking)} classes, which start from random rows under an "
                f"initialisation: {_listed(lacking)}."
            )
        if unused := classes.get("unused"):
            notes.append(
                f"{len(unused)} classes of {label} are not the target's and are not used: {_listed(unused)}."
            )
    notes += [
        f"{store.failed_rows} of {store.rows} samples of {store.role} could not be read and are left out."
        for store in stores
        if store.failed_rows
    ]
    notes += [str(remark) for remark in config.get("remarks", [])]
    fewest = min(row.seeds for comparison in comparisons for row in comparison.rows)
    if fewest < MIN_DRAWS:
        notes.append(
            f"With {fewest} seed{'s' if fewest > 1 else ''} no interval can be given (it takes {MIN_DRAWS})."
        )
    elif fewest < _FEW_SEEDS:
        notes.append(f"With {fewest} seeds intervals tend to be too narrow; use {_FEW_SEEDS} or more.")
    left_out = max((d.left_out for comparison in comparisons for d in comparison.differences), default=0)
    if left_out:
        notes.append(f"Differences leave out up to {left_out} seeds that only one side has.")
    notes.append("All seeds share one test set; the intervals resample its rows and the seeds together.")
    return notes


def _axis(values: Sequence[float] | None) -> str:
    return "the grid's" if values is None else ", ".join(f"{value:g}" for value in values)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
