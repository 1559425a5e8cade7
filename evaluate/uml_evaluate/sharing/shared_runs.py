"""The kind `run`: a run's records and what they speak of. Networks, checkpoints and figures stay at home.

A pulled run is looked through by its own records: what they speak of must be there, sound, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from uml_cache import (
    Accepted,
    Content,
    InputError,
    Kind,
    Thing,
    WorkError,
    digested,
    parse_json,
    parse_toml,
    read_array,
)
from uml_evaluate.sharing.record_cards import run_card
from uml_train import Run, digest_of, load_run, plain_name

_CELL = r"[A-Za-z0-9.+=@_-]{1,250}"
_NAMES = re.compile(
    rf"config\.json|splits\.json|settings\.toml|test_labels\.npy|results\.csv|metrics\.jsonl"
    rf"|cells/{_CELL}\.json|heads/{_CELL}\.safetensors|(?:predictions|scores)/{_CELL}\.npy"
)
_FIXED = ("config.json", "splits.json", "settings.toml", "test_labels.npy", "results.csv", "metrics.jsonl")


def shared_run(path: Path, licence: str | None) -> Thing:
    """A run that is going to be pushed.

    Raises:
        InputError: there is none, it is of version 0.1 or has no finished cell; `DamagedFile` for one that is
            damaged.
    """
    run = load_run(path)
    if not run.checked:
        raise InputError(f"{path} was made by version 0.1 and has no checksums; train again, then push")
    names = _sound(run)
    if not any(name.startswith("cells/") for name in names):
        raise InputError(f"{path} has no finished cell; run the same `uml train` command to finish it")
    files = {name: _content(path / name) for name in names}
    return Thing(
        kind=RUN,
        about={"fingerprint": str(run.digest), "name": plain_name(path.resolve().name)[:200]},
        files=files,
        card=lambda place, digest: run_card(run, licence, place, digest),
    )


def _sound(run: Run) -> list[str]:
    """The files that a run's records speak of, all of them sound. Raises `InputError`."""
    found = run.inspect(thorough=True)
    for error in (*found.damaged.values(), *found.gone.values()):
        raise error
    names = {name for name in _FIXED if (run.path / name).is_file()}
    for result in found.whole:
        names.add(result.record_path.relative_to(run.path).as_posix())
        names |= {name for name in result.files if _NAMES.fullmatch(name) and (run.path / name).is_file()}
    if not {"config.json", "splits.json", "test_labels.npy"} <= names:
        raise InputError(f"{run.path} lacks files; run the same `uml train` command to write them again")
    _ = run.test_labels, run.splits  # each is compared with its checksum
    return sorted(names)


def _content(path: Path) -> Content:
    """A file as it is now. Small ones are held: what changes meanwhile would not fit the list."""
    if path.suffix in (".npy", ".safetensors"):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return Content(path.stat().st_size, digest, path)
    return digested(path.read_bytes())


def _accept(draft: Path, content: Mapping[str, Any]) -> Accepted:
    run = load_run(draft)
    if run.digest != content["fingerprint"] or digest_of(run.identity) != run.digest or not run.checked:
        raise WorkError("it is not the run that is listed")
    listed = sorted(entry["path"] for entry in content["files"])
    spoken_of = _sound(run)
    if listed != spoken_of:
        raise WorkError(f"its records speak of other files: {min(set(listed) ^ set(spoken_of))}")
    for name in listed:
        _readable(draft / name)
    return Accepted(draft, Path(content["name"]))


def _readable(path: Path) -> None:
    """Raise where a file is not of the kind that its name says: arrays without objects, tensors, text."""
    try:
        if path.suffix == ".npy":
            read_array(path)
        elif path.suffix == ".safetensors":
            with safe_open(path, "np"):
                pass
        elif path.suffix == ".json":
            parse_json(path.read_bytes())
        elif path.suffix == ".toml":
            parse_toml(path.read_text(encoding="utf-8"))
        else:
            for line in _lines(path):
                if path.suffix == ".jsonl":
                    parse_json(line)
    except (ValueError, SafetensorError) as error:
        raise WorkError(f"{path} is not what its name says ({error})") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as stream:
        yield from stream


def _same(there: Path, content: Mapping[str, Any]) -> bool:
    """Whether each listed file is there as it is listed; what was made beside them does not matter."""
    try:
        return all(_content(there / e["path"]).sha256 == e["sha256"] for e in content["files"])
    except OSError:
        return False


RUN = Kind(name="run", folder="run", names=_NAMES, hub="dataset", out="runs", accept=_accept, same=_same)
