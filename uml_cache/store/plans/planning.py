"""Planning a feature store: it appears at once and whole, or the one that is there is judged.

Shapes: N samples.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.files.disk import make_folder, scratch_folder, sync_folder, tidy, write_atomic
from uml_cache.remote import as_path, is_remote
from uml_cache.store import journal
from uml_cache.store.checking import checksums, is_sound
from uml_cache.store.feature_store import FeatureStore
from uml_cache.store.locks import rewriting
from uml_cache.store.plans.plan import StorePlan, differences
from uml_cache.store.plans.planned import planned_contents
from uml_cache.store.states import state_of, state_path, states_there


def create_or_resume(path: Path | str, plan: StorePlan) -> FeatureStore:
    """Plan the store at `path`, or go on with the one that is there.

    A new store appears at once and whole, with label, split, id (and group, tokens/start, tokens/length)
    written. Raises `InputError` when there is something else, or a store with another fingerprint; the
    message names the fields that differ.
    """
    path = as_path(path)
    there = recorded_plan(path)
    if not is_remote(path) and path.parent.is_dir():
        tidy(path.parent)
    if there is None:
        _refuse_shadowed(path, plan)
        if is_remote(path):
            from uml_cache.store.remote_store import create_or_resume_remote

            create_or_resume_remote(path, plan)  # type: ignore[arg-type]
        else:
            _create(path, plan)
        there = recorded_plan(path)
        assert there is not None
    if there != plan.fields:
        raise _other_settings(path, there, plan)
    planned = journal.read_record(path / journal.PLAN)["files"]
    if not all(is_sound(path / entry["path"], entry) for entry in planned):
        if is_remote(path):
            from uml_cache.store.remote_store import replace_planned

            replace_planned(path, plan)  # type: ignore[arg-type]
        else:
            with rewriting(path):
                _write_planned(path, plan)
    return planned_store(path, plan)


def _refuse_shadowed(path: Path, plan: StorePlan) -> None:
    """A first state that nobody would read, since the store has later ones, is not made."""
    later = [number for number in states_there(path) if number > 1] if state_of(path) == 1 else []
    if later:
        newest = state_path(path, later[-1])
        raise _other_settings(newest, recorded_plan(newest) or {}, plan)


def _other_settings(path: Path, there: dict[str, Any], plan: StorePlan) -> InputError:
    advice = (
        "repeat the command with the store's settings, give another --out, or remove the store "
        "(`uml cache rm`)"
    )
    if {**there, "manifest_digest": plan.fields["manifest_digest"]} == plan.fields:
        advice = (
            "other data have this name; give these a --name of their own or another --out, or `--overwrite`"
        )
    found = "; ".join(differences(there, plan.fields))
    return InputError(f"{path} was made with other settings ({found}): {advice} to start anew")


def planned_store(path: Path, plan: StorePlan) -> FeatureStore:
    """The store at `path`, planned already with `plan`, for a further worker to fill."""
    if is_remote(path):
        from uml_cache.store.remote_store import RemoteFeatureStore

        return RemoteFeatureStore(path, plan)
    return FeatureStore(path, plan)


def recorded_plan(path: Path | str) -> dict[str, Any] | None:
    """The fingerprint's fields (`batch_size`, `encoder`, …) of the store at `path`; None if there is none.

    Raises:
        InputError: the folder is no store of this project, or its record is damaged.
    """
    path = as_path(path)
    if not path.exists() or (is_remote(path) and not (path / journal.PLAN).exists()):
        return None  # on object storage the plan's record comes last: without it the store is not there yet
    try:
        return journal.read_record(path / journal.PLAN)["fields"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} exists and is no feature store of this project (it has no {journal.PLAN}); give another "
            "--out, or move it away"
        ) from None
    except journal.BrokenRecord:
        raise InputError(f"{path / journal.PLAN} is damaged: extract again with `--overwrite`") from None


def recorded_token_counts(path: Path | str) -> np.ndarray | None:
    """(N,) int32 token counts that the store at `path` was planned with; None if none are there and sound."""
    path = as_path(path)
    record = journal.read_record(path / journal.PLAN)
    chunks = []
    for entry in record["files"]:
        if entry["path"].startswith("tokens/length/c/"):
            data = (path / entry["path"]).read_bytes() if (path / entry["path"]).exists() else b""
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                return None
            chunks.append(np.frombuffer(data, "<i4"))
    return np.concatenate(chunks)[: record["rows"]].astype(np.int32) if chunks else None


def _create(path: Path, plan: StorePlan) -> None:
    with scratch_folder(path.parent) as place:
        draft = place / path.name
        make_folder(draft / journal.JOURNAL)
        _write_planned(draft, plan)
        try:
            os.rename(draft, path)
        except OSError:
            if not path.exists():
                raise
            # Another run was faster; its store is judged by the caller.
    sync_folder(path.parent)


def _write_planned(store: Path, plan: StorePlan) -> None:
    layout = plan.layout
    for array in layout.arrays:
        make_folder(store / array.name / "c")
    contents = planned_contents(plan)
    files = []
    for name, data in contents.items():
        write_atomic(store / name, data)
        files.append({"path": name, **checksums(data), "bytes": len(data)})
    record = {
        "fingerprint": plan.stamp,
        "fields": plan.fields,
        "rows": layout.rows,
        "tasks": layout.tasks,
        "files": files,
    }
    journal.write_record(store, "plan", record)
