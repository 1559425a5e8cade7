"""Beginning a run's folder: its configuration, the test labels and the ids of every draw."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import (
    QUIET,
    InputError,
    LockFile,
    NoLocks,
    Output,
    make_folder,
    remove_leftovers,
    write_changed,
    write_together,
)
from uml_train.data.given_splits import read_splits
from uml_train.data.selection import Role, Selection
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.problem import Problem, read_class_map
from uml_train.protocols.grid import Grid
from uml_train.protocols.protocols import deviations, scope_of
from uml_train.record.checksums import DamagedFile, difference, file_sum, record_bytes
from uml_train.record.identity import content_of, digest_of, first_difference, identity_of, remark_siblings
from uml_train.record.keeping import array_bytes
from uml_train.run import FORMAT, Run
from uml_train.runs.drawn import draw_rows
from uml_train.runs.ranks import Ranks
from uml_train.runs.settled.asked import asked
from uml_train.runs.settled.searching import joint
from uml_train.settings import Shots, TrainSettings, settings_hash

if TYPE_CHECKING:
    from uml_train.pretrain.searches import Pretraining

_ALONE = Ranks()


def begin(
    settings: TrainSettings,
    selection: Selection,
    unrelated: list[Role],
    problem: Problem,
    grid: Grid | Pretraining,
    finetune: dict[str, Any] | None = None,
    output: Output = QUIET,
) -> Run:
    """The run's folder with its configuration: made, or found as it was left.

    Damaged files are written again. A run of the same settings over other content is another run, whose
    folder stays as it is; that is said.

    Args:
        finetune: what decides a fine-tuning beside the settings, as JSON values; `local` in it does not.

    Raises:
        InputError: the folder holds another run.
    """
    class_map = read_class_map(settings.class_map) if settings.class_map else None
    splits = read_splits(settings.splits) if settings.splits else None
    roles = [selection.target, *selection.auxiliaries, *unrelated]
    # Of what was opened: a store may have been written anew since it was found.
    fingerprints = {source.label: content_of(source.features.info) for source in problem.sources}
    identity = identity_of(
        settings,
        fingerprints,
        grid,
        class_map=class_map,
        splits=splits,
        drawn=_parts(problem) if problem.drawn else None,
        finetune=finetune,
    )
    parts = (_plain(selection.dataset), _plain(selection.target.label), settings_hash(identity))
    path = settings.out / "-".join(parts)
    run = _found(path, identity, output)
    labels = array_bytes(problem.target.labels[problem.test].astype(np.int32))
    for folder in ("cells", "heads", "predictions", "scores"):
        make_folder(path / folder)
    if run is None:
        remark_siblings(path, identity, output.say)
        config = {
            **_described(settings, selection, problem, grid, finetune),
            "stores": _stores(roles, problem),
            "files": {"test_labels.npy": file_sum(labels)},
            "identity": identity,
            "digest": digest_of(identity),
        }
        write_together({path / "test_labels.npy": labels})
        _write_config(path, config)
        run = Run(path)
    elif not _is_whole(path / "test_labels.npy", run):
        output.say(f"{path / 'test_labels.npy'} was damaged or missing; it is written again")
        write_together({path / "test_labels.npy": labels})
    extend_splits(run, problem, {(k, s) for k in settings.shots or () for s in settings.seeds}, output)
    # What the run was asked to do, as the file that `--config` takes.
    write_changed({path / "settings.toml": asked(run.config).to_toml().encode()})
    where = {key: settings.to_json()[key] for key in ("device", "loader")}
    if any(run.config["settings"].get(key) != value for key, value in where.items()):
        _write_config(path, {**run.config, "settings": {**run.config["settings"], **where}})
        run = Run(path)
    return run


def _described(
    settings: TrainSettings,
    selection: Selection,
    problem: Problem,
    grid: Grid | Pretraining,
    finetune: dict[str, Any] | None,
) -> dict[str, Any]:
    """What a run's configuration says of its settings and of its problem, as JSON values."""
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(),
        "settings": settings.to_json(),
        "dataset": selection.dataset,
        "target": selection.target.label,
        "configurations": [[role.label for role in roles] for roles in selection.configurations],
        "protocol": _protocol(settings, problem, finetune),
        "objective": "finetune" if finetune else settings.objective,
        **({"finetune": finetune} if finetune else {}),
        "trunk": settings.trunk,
        "classes": list(problem.classes),
        "grid": asdict(grid),
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


def _protocol(settings: TrainSettings, problem: Problem, finetune: dict[str, Any] | None) -> dict[str, Any]:
    """The run's protocol, the scope of its rows, and every setting that is not as it has them."""
    scope = scope_of(settings, joint=joint(settings, problem), finetune=finetune is not None)
    given: list[TrainSettings | FinetuneSettings] = [settings]
    if finetune is not None:
        given.append(FinetuneSettings.from_json(finetune))
    return {
        "name": settings.protocol,
        "scope": scope,
        "deviations": deviations(scope, *given, protocol=settings.protocol),
    }


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in text)


def _found(path: Path, identity: dict[str, Any], output: Output) -> Run | None:
    """The run in a folder, which must be the one that is asked for; None where there is none."""
    try:
        run = Run(path)
    except DamagedFile as damaged:
        # The folder's name is the identity's, and every cell carries the identity: nothing else gets in.
        output.say(f"{damaged.path} {damaged.why}; it is written again")
        return None
    except InputError:
        if (path / "config.json").exists():
            raise
        return None
    if run.identity != identity:
        at = first_difference(run.identity, identity)
        raise InputError(f"{path} holds another run ({at}); move it away, or choose another --out")
    return run


def _is_whole(path: Path, run: Run) -> bool:
    try:
        return not difference(path.read_bytes(), run.config["files"][path.name])
    except OSError:
        return False


def _stores(roles: Iterable[Role], problem: Problem) -> dict[str, Any]:
    """What a run's configuration says of its stores, by label."""
    return {
        role.label: {
            "path": str(Path(os.path.abspath(role.store.path))),
            "dataset": role.store.dataset,
            "modality": role.store.modality,
            "set": role.store.set,
            "encoder": source.encoder,
            "joint_space": source.joint_space,
            "fingerprint": content_of(source.features.info),
            "rows": len(source.features.label),
            "usable_rows": len(source.rows),
            "failed_rows": int((~source.features.valid).sum()),
            "dim": source.dim,
            "token_dim": source.token_dim,
        }
        for role, source in zip(roles, problem.sources, strict=True)
    }


def _write_config(path: Path, config: dict[str, Any]) -> None:
    write_together({path / "config.json": record_bytes(config, indent=1)})


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
            output.say(f"{path} cannot be locked: do not train it from another process at the same time")
        ranks.wait()
        yield
    finally:
        lock.close()


def _parts(problem: Problem) -> dict[str, list[str]]:
    """The sample ids of every part."""
    return {name: problem.ids(getattr(problem, name)) for name in ("train", "val", "test")}


def extend_splits(run: Run, problem: Problem, draws: set[tuple[Shots, int]], output: Output = QUIET) -> None:
    """Write the ids of every part and every draw, those that the file has already and `draws`.

    So a run can be repeated on other software. A file that says all this is left alone.
    """
    path = run.path / "splits.json"
    try:
        known = run.splits
    except DamagedFile as damaged:
        known = None
        cells = run.inspect(thorough=False).whole
        draws = draws | {(result.cell.shots, result.cell.seed) for result in cells}
        if path.exists():
            output.say(f"{damaged.path} {damaged.why}; it is written again")
    names = {f"k{shots}-s{seed}": (shots, seed) for shots, seed in draws if shots != "all"}
    drawn = set() if known is None else set(known["draws"])
    if known is not None and set(names) <= drawn:
        return
    for name in drawn:
        shots, _, seed = name.removeprefix("k").partition("-s")
        names[name] = (int(shots), int(seed))
    splits: dict[str, Any] = {**_parts(problem), "draws": {}}
    for name, (shots, seed) in sorted(names.items(), key=lambda item: str(item[1])):
        draw = draw_rows(problem, shots, seed)
        splits["draws"][name] = {"train": problem.ids(draw.train), "val": problem.ids(draw.val)}
    write_together({path: record_bytes(splits)})
