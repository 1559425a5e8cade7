"""Beginning a run's folder: its configuration, the test labels and the ids of every draw."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import LockFile, NoLocks, Output, declared, make_folder, remove_leftovers
from uml_train.data.given_splits import read_splits
from uml_train.data.selection import Role, Selection
from uml_train.heads.grid import Grid
from uml_train.problem import Problem, read_class_map
from uml_train.run import Run, write_atomic
from uml_train.runs.asked import asked
from uml_train.runs.cells import draw_rows
from uml_train.runs.ranks import Ranks
from uml_train.settings import Shots, TrainSettings, settings_hash

if TYPE_CHECKING:
    from uml_train.pretrain.searches import Pretraining

# Where and how, not what; of files the content decides, not the path.
_NOT_DECISIVE = [s.name for s in declared(TrainSettings).values() if s.role in ("local", "file")]

_ALONE = Ranks()


def begin(
    settings: TrainSettings,
    selection: Selection,
    unrelated: list[Role],
    problem: Problem,
    grid: Grid | Pretraining,
    finetune: dict[str, Any] | None = None,
) -> Run:
    """The run's folder with its configuration: made, or found as it was left.

    Args:
        finetune: what decides a fine-tuning beside the settings, as JSON values; `local` in it does not.
    """
    roles = [selection.target, *selection.auxiliaries, *unrelated]
    sources = [problem.target, *problem.auxiliaries.values(), *problem.unrelated.values()]
    stores = {
        role.label: {
            "path": str(Path(os.path.abspath(role.store.path))),
            "dataset": role.store.dataset,
            "modality": role.store.modality,
            "set": role.store.set,
            "encoder": source.encoder,
            "joint_space": source.joint_space,
            "fingerprint": role.store.fingerprint,
            "rows": len(source.features.label),
            "usable_rows": len(source.rows),
            "failed_rows": int((~source.features.valid).sum()),
            "dim": source.dim,
            "token_dim": source.token_dim,
        }
        for role, source in zip(roles, sources, strict=True)
    }
    values = settings.to_json()
    decisive = {k: v for k, v in values.items() if k not in _NOT_DECISIVE}
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    fingerprints = {label: store["fingerprint"] for label, store in stores.items()}
    more: list[Any] = [{k: v for k, v in finetune.items() if k != "local"}] if finetune else []
    if settings.splits:
        more.append(asdict(read_splits(settings.splits)))
    if problem.drawn:  # parts that were drawn otherwise are another run
        parts = [problem.ids(rows) for rows in (problem.train, problem.val, problem.test)]
        more.append(sha256(json.dumps(parts).encode()).hexdigest())
    key = settings_hash([decisive, fingerprints, class_map, asdict(grid), *more])
    target = "".join(c if c.isalnum() or c in ".-_" else "_" for c in selection.target.label)
    name = "".join(c if c.isalnum() or c in ".-_" else "_" for c in selection.dataset)
    path = settings.out / f"{name}-{target}-{key}"
    for folder in ("cells", "heads", "predictions"):
        make_folder(path / folder)
    if not (path / "config.json").exists():
        config = {
            "format": 1,
            "created": datetime.now(UTC).isoformat(),
            "settings": values,
            "dataset": selection.dataset,
            "target": selection.target.label,
            "configurations": [[role.label for role in roles] for roles in selection.configurations],
            "objective": "finetune" if finetune else settings.objective,
            **({"finetune": finetune} if finetune else {}),
            "trunk": settings.trunk,
            "classes": list(problem.classes),
            "grid": asdict(grid),
            "stores": stores,
            "rows": {"train": len(problem.train), "val": len(problem.val), "test": len(problem.test)},
            "test_groups": problem.test_groups,
            "drawn": problem.drawn,
            "used": {label: used.to_json() for label, used in problem.used.items()},
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
        save_array(path / "test_labels.npy", labels)
        _write_splits(path, problem, {(k, s) for k in settings.shots or () for s in settings.seeds})
        _write_config(path, config)
        return Run(path)
    run = Run(path)
    where = {key: values[key] for key in ("device", "loader")}
    if any(run.config["settings"].get(key) != value for key, value in where.items()):
        _write_config(path, {**run.config, "settings": {**run.config["settings"], **where}})
        run = Run(path)
    return run


def _write_config(path: Path, config: dict[str, Any]) -> None:
    """Write what the run was asked to do: the record, and the file that `--config` takes."""
    write_atomic(path / "settings.toml", asked(config).to_toml().encode())
    write_atomic(path / "config.json", json.dumps(config, indent=1, ensure_ascii=False).encode())


@contextlib.contextmanager
def run_lock(path: Path, output: Output, ranks: Ranks = _ALONE) -> Iterator[None]:
    """Be the only one that trains a run; a second one waits for the first to end. Dies with its process.

    Of several processes that train together the first holds the lock, and all enter once it does. Without
    `flock` (not on every file system) nothing is locked: both do the same work and write the same.
    """
    if not ranks.first:
        ranks.wait()
        yield
        return
    lock = LockFile(path / ".lock")
    try:
        try:
            if not lock.take(shared=False):
                output.say(f"{path} is being trained by another process: waiting for it to end")
                lock.take(shared=False, wait=True)
            remove_leftovers(path, below=True)
        except NoLocks:
            output.say(f"{path} cannot be locked: nothing else should train it at the same time")
        ranks.wait()
        yield
    finally:
        lock.close()


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


def extend_splits(run: Run, problem: Problem, draws: set[tuple[Shots, int]]) -> None:
    known = json.loads((run.path / "splits.json").read_text(encoding="utf-8"))["draws"]
    for name in known:
        shots, _, seed = name.removeprefix("k").partition("-s")
        draws.add((int(shots), int(seed)))
    _write_splits(run.path, problem, draws)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array so that its file is either whole or as it was."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
