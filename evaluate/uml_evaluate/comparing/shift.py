"""Robustness: the heads of a run on data sets that they were not trained for (ImageNet → V2, Sketch, A, R).

Shapes: N rows of the other data set, D features, C classes of the run, P ≤ C of them that the other has.

Heads are taken as they are. The other data set's classes are found among the run's by name or by a map, and
only their rows of the head compete; the source's test rows of the same classes, with the same rows of the
head competing, are what the drop is measured from. Each shifted data set becomes a folder
`RUN/shifts/NAME-<hash8>` in the format of a run, so that tables, `--compare` and `uml report` read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_cache import (
    QUIET,
    FeatureSet,
    InputError,
    Output,
    StoreInfo,
    Tally,
    Used,
    find_stores,
    make_folder,
    open_features,
    unknown,
    write_changed,
)
from uml_evaluate.comparing.comparison import Comparison, compare, table
from uml_evaluate.comparing.fields import different_fields
from uml_evaluate.comparing.rows import arm_name
from uml_evaluate.comparing.shown.tables import plain_table, shots_name, terminal
from uml_manifests import NO_SPLIT, SPLITS
from uml_train import (
    FORMAT,
    Answers,
    Finished,
    Head,
    Keeper,
    Run,
    Source,
    array_bytes,
    digest_of,
    file_sum,
    load_head,
    match_classes,
    one_state,
    open_run_problem,
    read_class_map,
    record_bytes,
    recorded_store,
    require_heads,
    settings_hash,
    store_remarks,
)

if TYPE_CHECKING:
    from uml_train import CellResult, Shots

_BLOCK = 8_192


@dataclass(frozen=True)
class Shift:
    """One data set: `source` and `shifted` hold a comparison for each configuration of auxiliaries."""

    dataset: str
    run: Run
    classes: int
    rows: int
    used: Used
    source: list[Comparison]
    shifted: list[Comparison]

    def text(self, of: int) -> str:
        """What was lost per method, then the table of the shifted rows."""
        head = f"{self.dataset}: {self.rows} rows of {self.classes} of the run's {of} classes"
        parts = []
        for before, after in zip(self.source, self.shifted, strict=True):
            rows = [
                [arm_name(arm), *(_moved(before, after, arm, k) for k in after.shots)] for arm in after.arms
            ]
            names = [f"{shots_name(k)}: source → shifted" for k in after.shots]
            parts.append(f"{plain_table(['method', *names], rows)}\n\n{terminal(after)}")
        return "\n\n".join([head, *parts])


@dataclass(frozen=True)
class Shifted:
    """The answer of `uml eval --shift`."""

    run: Run
    shifts: list[Shift]

    def to_json(self) -> dict[str, Any]:
        """Rows and differences of the shifted rows and, as `source`, of the source's of the same classes."""
        return {
            "shifts": [
                {
                    "dataset": shift.dataset,
                    "run": str(shift.run.path),
                    "classes": shift.classes,
                    "rows": shift.rows,
                    "table": [row.to_json() for row in table(shift.shifted)],
                    "differences": [d.to_json() for c in shift.shifted for d in c.differences],
                    "source": [row.to_json() for row in table(shift.source)],
                }
                for shift in self.shifts
            ],
            "rows": {shift.dataset: shift.used.to_json() for shift in self.shifts},
        }

    def text(self) -> str:
        """One block for each data set."""
        return "\n\n\n".join(shift.text(len(self.run.config["classes"])) for shift in self.shifts)


def _moved(before: Comparison, after: Comparison, arm: tuple[str, str | None], k: Shots) -> str:
    old, new = before.row(arm, k), after.row(arm, k)
    if old is None or new is None:
        return "–"
    return f"{old.mean:.1f} → {new.mean:.1f} ({new.mean - old.mean:+.1f})".replace("-", "−")


def shifted(
    run: Run,
    names: Sequence[str],
    *,
    shots: Sequence[Shots] | None = None,
    cache: Path | None = None,
    class_map: Path | None = None,
    left_out: list[tuple[str, str, str]] | None = None,
    output: Output = QUIET,
) -> Shifted:
    """Score the run's heads at `shots` (None: all that it has) on other data sets of the same encoder.

    Args:
        names: data sets in the cache; of those with splits the test rows count.
        cache: where the stores are now, if they have moved.
        class_map: CSV with columns auxiliary, target: class of the other data set → class of the run.
        left_out: takes the rows of these data sets that do not count: source, id, reason.

    Raises:
        WorkError: a store is changed meanwhile.
        InputError: no such data set, one from another encoder or transform (the field is named), no class in
            common, or no head at these shots.
    """
    require_heads(run, pooled=True)
    for remark in store_remarks(run, cache):
        output.say(remark)
    results = [
        r
        for r in run.cells
        if r.head_path.is_file() and (shots is None or r.cell.shots in shots)
    ]  # fmt: skip
    if not results:
        at = "" if shots is None else f" at {', '.join(map(str, shots))} shots"
        raise InputError(f"{run.path} has no head{at}; `uml eval --k` without --shift trains what is missing")
    source = open_run_problem(run, cache)
    found = []
    for name in dict.fromkeys(part.strip() for part in names if part.strip()):
        store = _same_encoder(run, cache or run.settings.cache, name)
        with one_state([recorded_store(run, run.config["target"], cache), store]):
            one, lost = _shift(run, results, source.target, source.test, store, class_map, output)
        found.append(one)
        if left_out is not None:
            left_out += lost
    if not found:
        raise InputError("--shift names no data set")
    return Shifted(run, found)


def _same_encoder(run: Run, cache: Path, name: str) -> StoreInfo:
    """The data set's store that was made as the run's target was. Raises `InputError` naming what differs."""
    recorded = run.config["stores"][run.config["target"]]
    stores = [s for s in find_stores(cache) if s.modality == recorded["modality"]]
    ours = recorded_store(run, run.config["target"], cache)
    others = [s for s in stores if s.dataset == name]
    if not others:
        raise unknown(f"data set with {recorded['modality']} features in --shift:", name,
                      {s.dataset for s in stores} - {ours.dataset})  # fmt: skip
    if name == ours.dataset:
        raise InputError(f"--shift {name} is the data set that the run was trained on")
    differing = {s.path: different_fields(_made_by(s), _made_by(ours)) for s in others}
    same = [s for s in others if not differing[s.path]]
    if len(same) > 1:
        raise InputError(f"several stores of {name} fit: {', '.join(str(s.path) for s in same)}")
    if not same:
        nearest = min(others, key=lambda s: len(differing[s.path]))
        field, theirs, wanted = differing[nearest.path][0]
        more = "" if len(differing[nearest.path]) == 1 else f" and {len(differing[nearest.path]) - 1} more"
        raise InputError(
            f"{nearest.path} was made by another encoder or transform: {field} is {theirs!r}, and the run's "
            f"is {wanted!r}{more}; extract {name} as {ours.path} was"
        )
    return same[0]


def _made_by(store: StoreInfo) -> dict[str, Any]:
    return {**store.encoder, "variant": store.variant}


def _shift(
    run: Run,
    results: Sequence[CellResult],
    source: Source,
    test: np.ndarray,
    store: StoreInfo,
    class_map: Path | None,
    output: Output,
) -> tuple[Shift, list[tuple[str, str, str]]]:
    """One data set, and its rows that do not count."""
    features = open_features(store.path)
    pairs = read_class_map(class_map) if class_map else {}
    ours = run.config["classes"]
    to_ours = match_classes(features.classes, ours, pairs)
    competing = np.unique(to_ours[to_ours >= 0])
    if not len(competing):
        raise InputError(
            f"{store.dataset} and {run.config['dataset']} have no class in common; name the pairs with "
            "--class-map FILE.csv (columns auxiliary,target)"
        )
    rows, labels, tally = _rows(features, to_ours)
    used = tally.used
    if unused := int((to_ours < 0).sum()):
        output.say(f"{store.dataset}: {unused} of its {len(to_ours)} classes are not the run's; left out")
    key = settings_hash([store.fingerprint, pairs])
    name = "".join(c if c.isalnum() or c in ".-_" else "_" for c in store.dataset)
    folder = run.path / "shifts" / f"{name}-{key}"
    groups = features.groups
    about = {
        "of": str(run.path),
        "source": False,
        "fingerprint": store.fingerprint,
        "used": used.to_json(),
        "groups": None if groups is None else len(set(np.asarray(groups)[rows].astype(str))),
    }
    moved = _score(run, results, folder, store.dataset, features, rows, labels, competing, about, output)
    kept = test[np.isin(source.labels[test], competing)]
    if len(competing) == len(ours):
        origin = run
    elif not len(kept):
        raise InputError(f"{run.path} has no test row of the classes of {store.dataset}")
    else:
        origin = _score(
            run,
            results,
            folder.with_name(f"{folder.name}-source"),
            f"{run.config['dataset']} (classes of {store.dataset})",
            source.features,
            source.rows[kept],
            source.labels[kept],
            competing,
            {**about, "source": True, "groups": None},
            output,
        )
    shots = {r.cell.shots for r in results}
    lost = [(store.dataset, str(features.id[row]), reason) for row, reason in tally.left_out()]
    source_table, shifted_table = compare(origin, shots), compare(moved, shots)
    return Shift(store.dataset, moved, len(competing), len(rows), used, source_table, shifted_table), lost


def _rows(features: FeatureSet, to_ours: np.ndarray) -> tuple[np.ndarray, np.ndarray, Tally]:
    """Rows (N,) that count, their classes of the run (N,), and what became of the others."""
    labels = np.full(len(features.label), -1, dtype=np.int64)
    labelled = features.label >= 0
    labels[labelled] = to_ours[features.label[labelled]]
    tally = Tally(len(labels))
    tally.leave_out(~features.valid, "unreadable")
    tally.leave_out(~labelled, "no label")
    tally.leave_out(labels < 0, "class that the run does not have")
    if (features.split != NO_SPLIT).any():
        tally.leave_out(features.split == NO_SPLIT, "in no split")
        tally.leave_out(features.split != SPLITS.index("test"), "not in its test part")
    rows = np.flatnonzero(tally.kept)
    if not len(rows):
        raise InputError(f"{features.path} has no readable test row of the run's classes")
    return rows, labels[rows], tally


def _score(
    run: Run,
    results: Sequence[CellResult],
    folder: Path,
    dataset: str,
    features: FeatureSet,
    rows: np.ndarray,
    labels: np.ndarray,
    competing: np.ndarray,
    about: dict[str, Any],
    output: Output,
) -> Run:
    """The folder of the scores of every head on some rows; what it has of the same heads is left."""
    for part in ("cells", "predictions", "scores"):
        make_folder(folder / part)
    truth = array_bytes(labels.astype(np.int32))
    identity = {"of": run.digest or run.path.name, **{k: v for k, v in about.items() if k != "of"}}
    remark = f"Heads of {run.path.name}, scored on {dataset}: {len(competing)} classes compete."
    config = {
        **run.config,
        "format": FORMAT,
        "dataset": dataset,
        "rows": {**run.config["rows"], "test": len(rows)},
        "test_groups": about["groups"],
        "remarks": [*run.config.get("remarks", []), remark],
        "shift": about,
        "identity": identity,
        "digest": digest_of(identity),
        "files": {"test_labels.npy": file_sum(truth)},
    }
    splits = {"test": [str(features.id[row]) for row in rows], "draws": {}}
    # What is there already is left alone, what is damaged or from another run is not.
    write_changed(
        {
            folder / "test_labels.npy": truth,
            folder / "splits.json": record_bytes(splits),
            folder / "config.json": record_bytes(config, indent=1),
        }
    )
    moved = Run(folder)
    looked = moved.inspect(thorough=True)
    for damaged in looked.damaged.values():
        output.say(f"{damaged.path} {damaged.why}; the head is scored again")
    there = {result.cell.key: result for result in looked.whole}
    with Keeper(moved) as keeper:
        for result in results:
            head = {f"../../heads/{result.head_path.name}": file_sum(result.checked(result.head_path))}
            known = there.get(result.cell.key)
            if known is not None and head.items() <= known.files.items():
                continue
            answers = _answers(load_head(result.head_path), features, rows, competing)
            scored = replace(
                result,
                dataset=dataset,
                test_acc=answers.accuracy(labels),
                folder=folder,
                files=head,
                stem=None,
            )
            keeper.keep(Finished(scored, answers, None))
    moved.write_tables()
    return moved


def _answers(head: Head, features: FeatureSet, rows: np.ndarray, competing: np.ndarray) -> Answers:
    """What a head says of some rows (N,), of the classes that compete."""
    answers = Answers(len(rows), len(head.classes))
    absent = np.setdiff1d(np.arange(len(head.classes)), competing)
    for start in range(0, len(rows), _BLOCK):
        index = torch.from_numpy(rows[start : start + _BLOCK])
        logits = head.logits(features.pooled.index_select(0, index).float())
        answers.take(slice(start, start + _BLOCK), logits.index_fill(1, torch.from_numpy(absent), -torch.inf))
    return answers
