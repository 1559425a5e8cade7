"""The journal: which files of a store exist, with their checksums.

Every file is written as `files.disk` writes them; the record that lists it comes last. What no record
lists does not exist. `journal/plan.json` lists what planning wrote, `journal/<task>.json` what each task
wrote. A record carries the sha256 of its own content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uml_cache.files.disk import sync_folder, write_atomic
from uml_cache.files.documents import parse_json
from uml_cache.remote import is_remote, remote_names

JOURNAL = "journal"
PLAN = f"{JOURNAL}/plan.json"
_RECORD = re.compile(r"^(0|[1-9][0-9]*)\.json$")


class BrokenRecord(ValueError):
    """A journal record that cannot be read, or whose content does not match its own checksum."""


@dataclass(frozen=True)
class FailedRow:
    """A sample that could not be read: its row in the store, its id, why, and the task that holds it."""

    row: int
    id: str
    reason: str
    task: int


def canonical(value: Any) -> bytes:
    """One spelling of a JSON value, for checksums and comparison."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """sha256 of a JSON value's canonical spelling."""
    return hashlib.sha256(canonical(value)).hexdigest()


def write_record(store: Path, name: str, content: dict[str, Any]) -> None:
    """Write `journal/<name>.json`; from then on what it lists exists."""
    write_atomic(store / JOURNAL / f"{name}.json", record_bytes(content))


def record_bytes(content: dict[str, Any]) -> bytes:
    """A record with the sha256 of its own content."""
    record = {**content, "sha256": digest(content)}
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False).encode()


def read_record(path: Path) -> dict[str, Any]:
    """A record's content; `BrokenRecord` if it is damaged, FileNotFoundError if there is none."""
    data = path.read_bytes()
    try:
        record = parse_json(data)
        written = record.pop("sha256")
        if written == digest(record):
            return record
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    raise BrokenRecord(f"{path} does not match its own checksum")


def record_names(store: Path) -> list[int]:
    """Tasks that have a record, in order. Nothing is read."""
    with contextlib.suppress(FileNotFoundError):
        names = remote_names(store / JOURNAL) if is_remote(store) else os.listdir(store / JOURNAL)
        return sorted(int(name[:-5]) for name in names if _RECORD.match(name))
    return []


def failed_rows(store: Path, tasks: Iterable[int]) -> list[FailedRow]:
    """The rows that failed in `tasks`, in order. A task without a sound record has none."""
    found = []
    for task in sorted(tasks):
        with contextlib.suppress(BrokenRecord, FileNotFoundError):
            record = read_record(store / JOURNAL / f"{task}.json")
            found += [
                FailedRow(sample["row"], sample["id"], sample["reason"], task) for sample in record["failed"]
            ]
    return found


def remove_record(store: Path, task: int) -> None:
    """Take a task's record away, before its files are written anew."""
    path = store / JOURNAL / f"{task}.json"
    if path.exists():
        path.unlink()
        if not is_remote(path):
            sync_folder(path.parent)
