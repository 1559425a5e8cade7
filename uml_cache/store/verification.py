"""Checking a store against its journal: every checksum, every size, every count.

Reads each byte once. Only sealed stores can be whole; an unsealed one is reported as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from uml_cache.errors import InputError
from uml_cache.files.documents import parse_json
from uml_cache.machine import available_cores
from uml_cache.remote import as_path, is_remote
from uml_cache.store import journal
from uml_cache.store.checking import Memory

_PIECE = 1 << 18


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `bad` has one entry {"array", "shard", "reason"} for every file that is not sound.

    `array` is the array's name (`pooled`, `tokens/values`, `label`, …; `journal`; empty for the root group)
    and `shard` the file's path inside it, such as `c/3/0`. `checked` counts files.
    """

    ok: bool
    sealed: bool
    checked: int
    bad: list[dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """The answer of `uml cache verify --json`."""
        return {"ok": self.ok, "sealed": self.sealed, "checked": self.checked, "bad": self.bad}


def is_journalled(path: Path) -> bool:
    """Whether a folder is a store of this project, with checksums to compare its files with."""
    return (path / journal.JOURNAL).is_dir()


def verify(
    path: Path | str, *, quick: bool = False, progress: Callable[[int], Any] | None = None
) -> VerifyReport:
    """Recompute every checksum and count of the store at `path`, on all cores.

    Args:
        quick: compare CRC-32C, as readers do, where a file's record has it: several times as fast, and as
            sure to find damage, but no proof against forgery, as sha256 is.
        progress: called with the number of files done since the last call.

    Raises:
        InputError: no store of this project (a foreign Zarr group has no checksums to compare with).
    """
    path = as_path(path)
    if not is_journalled(path):
        what = "has no journal, so there are no checksums to verify" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; `uml cache ls` lists the stores of a cache folder")
    bad: list[dict[str, str]] = []
    plan = _record(path, "plan", bad)
    if plan is None:
        return VerifyReport(False, False, 1, bad)
    names = journal.record_names(path)
    records = [(name, _record(path, str(name), bad)) for name in names]
    sealed = names == list(range(plan["tasks"]))
    entries = [*plan["files"], *(entry for _, record in records if record for entry in record["files"])]
    checks = _checks(path, entries, quick=quick)

    def check(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            if wrong := next(checks):
                _report(bad, entry["path"], wrong)
            if progress:
                progress(1)

    check(plan["files"])
    _check_metadata(path, plan, bad)
    rows = 0
    for task, record in records:
        if record is None:
            continue
        wrong = _misplaced(task, record, plan, rows)
        rows = record["first_row"] + record["rows"]
        if wrong:
            _report(bad, f"{journal.JOURNAL}/{task}.json", wrong)
        check(record["files"])
    checked = 1 + len(names) + len(entries)
    if sealed and all(record for _, record in records) and rows != plan["rows"]:
        _report(bad, journal.PLAN, f"the plan has {plan['rows']} rows, the journal {rows}")
    if is_remote(path):
        _note(path, [entry for _, record in records if record for entry in record["files"]], bad)
    return VerifyReport(sealed and not bad, sealed, checked, bad)


def _note(path: Path, entries: list[dict[str, Any]], bad: list[dict[str, str]]) -> None:
    """Keep damaged objects in mind, so that the command that made the store makes them anew."""
    names = {f"{entry['array']}/{entry['shard']}" for entry in bad}
    if damaged := [entry for entry in entries if entry["path"] in names]:
        Memory(path).note_damage(damaged)


def _record(path: Path, name: str, bad: list[dict[str, str]]) -> dict[str, Any] | None:
    file = f"{journal.JOURNAL}/{name}.json"
    try:
        return journal.read_record(path / file)
    except FileNotFoundError:
        _report(bad, file, "missing")
    except journal.BrokenRecord:
        _report(bad, file, "the record does not match its own checksum")
    return None


def _checks(store: Path, entries: Iterable[Mapping[str, Any]], *, quick: bool) -> Iterator[str | None]:
    """What is wrong with each file, None of a sound one, in the order given; hashing leaves Python's lock."""
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="verify")
    try:
        yield from pool.map(partial(_wrong, store, quick=quick), entries)
    finally:
        pool.shutdown(cancel_futures=True)


def _wrong(store: Path, entry: Mapping[str, Any], *, quick: bool) -> str | None:
    quick = quick and "crc32c" in entry  # stores of version 0.1 have sha256 alone
    hasher, crc, size = hashlib.sha256(), 0, 0
    buffer = np.empty(_PIECE, np.uint8)  # small enough to stay in the processor's cache
    try:
        with (store / entry["path"]).open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                size += count
                if quick:
                    crc = google_crc32c.extend(crc, buffer[:count])
                else:
                    hasher.update(buffer[:count].data)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if size != entry["bytes"]:
        return f"has {size} bytes where the journal lists {entry['bytes']}"
    same = f"{crc:08x}" == entry["crc32c"] if quick else hasher.hexdigest() == entry["sha256"]
    return None if same else "the content differs from the journal's checksum"


def _check_metadata(store: Path, plan: dict[str, Any], bad: list[dict[str, str]]) -> None:
    """The root's attributes must speak of the store that the journal is about."""
    try:
        attributes = parse_json((store / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError):
        return  # reported already, by its checksum
    if attributes.get("fingerprint") != plan["fingerprint"]:
        _report(bad, journal.PLAN, "the journal belongs to another store (its fingerprint differs)")


def _misplaced(task: int, record: dict[str, Any], plan: dict[str, Any], rows: int) -> str | None:
    if record["fingerprint"] != plan["fingerprint"]:
        return "the record belongs to another store (its fingerprint differs)"
    if record["task"] != task or task >= plan["tasks"]:
        return f"the record is about task {record['task']} of another plan"
    if record["first_row"] < rows:
        return f"the record starts at row {record['first_row']}, inside the task before"
    return None


def _report(bad: list[dict[str, str]], file: str, reason: str) -> None:
    array, _, shard = file.rpartition("/") if file.endswith(".json") else _split_shard(file)
    bad.append({"array": array, "shard": shard, "reason": reason})


def _split_shard(file: str) -> tuple[str, str, str]:
    array, mark, shard = file.partition("/c/")
    return array, mark, f"c/{shard}"
