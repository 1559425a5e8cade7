"""What makes a run this run: its settings, its search and the content of its stores, compared in full.

The folder of a run is named by a digest of its identity, and the identity stands in its configuration. The
same command over the same content finds its run again; over other content it begins another one beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from uml_cache import JOURNAL, InputError, StoreInfo, WorkError, declared, find_stores, is_remote, store_info
from uml_train.run import Run
from uml_train.settings import TrainSettings

# Where and how, not what; of files the content decides, not the path.
_NOT_DECISIVE = [s.name for s in declared(TrainSettings).values() if s.role in ("local", "file")]


def identity_of(
    settings: TrainSettings,
    stores: Mapping[str, str | None],
    search: Any,
    *,
    class_map: Mapping[str, str] | None = None,
    splits: Any = None,
    drawn: Any = None,
    finetune: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that decides a run's numbers, as JSON values.

    Args:
        stores: by label the fingerprint of a store's content.
        search: the grid, a dataclass.
        class_map, splits: what the files say, not where they lie; `splits` is a dataclass.
        drawn: the ids of every part, where parts were drawn: drawn otherwise, they make another run.
        finetune: what decides a fine-tuning beside the settings; `local` in it does not.
    """
    decisive = {k: v for k, v in settings.to_json().items() if k not in _NOT_DECISIVE}
    values = {
        "settings": decisive,
        "stores": dict(stores),
        "search": asdict(search),
        "class_map": None if class_map is None else dict(class_map),
        "splits": None if splits is None else digest_of(asdict(splits)),
        "drawn": None if drawn is None else digest_of(drawn),
        "finetune": None if finetune is None else {k: v for k, v in finetune.items() if k != "local"},
    }
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def content_of(store: StoreInfo) -> str:
    """What tells whether a store still holds the same: its fingerprint.

    A store that another tool wrote has none; there it is a digest of its files' names, sizes and times, so
    that a copy with other times counts as another store (on object storage: of its metadata alone).
    """
    if store.fingerprint is not None:
        return store.fingerprint
    if is_remote(store.path):
        return digest_of(store.arrays)
    return digest_of(sorted((name, size, time) for name, _, size, time in _listed(store.path)))


def digest_of(values: Any) -> str:
    """sha256 of JSON values, whatever the order of their keys."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def first_difference(ours: Any, theirs: Any, at: str = "") -> str | None:
    """Where two JSON values first differ, such as `settings.alpha: [1.0], not [2.0]`; None if nowhere."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            inner = f"{at}.{key}" if at else str(key)
            if (found := first_difference(ours.get(key), theirs.get(key), inner)) is not None:
                return found
        return None
    if ours == theirs:
        return None
    one, other = (text if len(text) <= 60 else f"{text[:57]}…" for text in map(str, (ours, theirs)))
    return f"{at}: {one}, not {other}"


def recorded_store(run: Run, label: str, cache: Path | None) -> StoreInfo:
    """The store that a run calls `label`, with the content that it was trained on.

    Args:
        cache: where the run's stores are now, if they have moved; they are known by their content.

    Raises:
        InputError: it is gone or has changed.
    """
    recorded = run.config["stores"][label]
    if cache is not None:
        for store in find_stores(cache, states=True):
            if store.modality == recorded["modality"] and _is(run, recorded, store):
                return store
        raise InputError(f"{cache} does not hold the store of {label} that {run.path} was trained on")
    try:
        store = store_info(recorded["path"])
    except InputError:
        raise InputError(
            f"the store of {label} that {run.path} was trained on is no longer at {recorded['path']}; give "
            "the cache's new place with --cache, or train again"
        ) from None
    if not _is(run, recorded, store):
        raise InputError(
            f"{store.path} has changed since {run.path} was trained; run the same `uml train` command to "
            "train a new run on the changed features"
        )
    return store


def require_content(run: Run) -> None:
    """Refuse to add cells to a run that does not know what its stores held when it was trained.

    Raises:
        InputError: a run of version 0.1.
    """
    if not run.checked:
        raise InputError(
            f"{run.path} was made by version 0.1, which did not record what its stores held, so no cell "
            "can be added to it; run the same `uml train` command to train a new run"
        )


def store_remarks(
    run: Run, cache: Path | None = None, opened: dict[str, StoreInfo] | None = None
) -> list[str]:
    """What a reader of a run's results should know of its stores: which are gone, have changed, or cannot be
    told. Nothing is said of stores that are as they were.

    Args:
        opened: stores by path that were opened a moment ago, for who asks of many runs; takes those that are.
    """
    remarks = []
    if not run.checked:
        remarks.append(
            f"{run.path} was made by version 0.1: its files carry no checksums, and whether its stores still "
            "hold what it was trained on cannot be checked"
        )
    states: dict[str, list[str]] = {}
    for label, recorded in run.config["stores"].items():
        if _is_store(recorded):
            states.setdefault(_state(run, label, recorded, cache, opened), []).append(label)
    shown = "the results are shown as they were trained"
    for state, labels in states.items():
        names = " and ".join(labels)
        if state == "changed":
            remarks.append(
                f"the features of {names} have changed since {run.path} was trained: {shown}; run the same "
                "`uml train` command to train a new run on the changed features"
            )
        elif state == "absent":
            remarks.append(f"the stores of {names} are not where {run.path} was trained on them: {shown}")
        elif state != "same":
            remarks.append(f"the store of {names} cannot be read ({state}): {shown}")
    return remarks


def _is_store(recorded: Mapping[str, Any]) -> bool:
    """Not the samples of a network that was fine-tuned."""
    return str(recorded["path"]).endswith(".zarr")


def _state(
    run: Run,
    label: str,
    recorded: Mapping[str, Any],
    cache: Path | None,
    opened: dict[str, StoreInfo] | None,
) -> str:
    try:
        if cache is not None:
            recorded_store(run, label, cache)
            return "same"
        opened = {} if opened is None else opened
        path = recorded["path"]
        store = opened[path] = opened.get(path) or store_info(path)
        return "same" if _is(run, recorded, store) else "changed"
    except InputError:
        return "absent"
    except (WorkError, OSError) as error:
        return " ".join(str(error).split())


def _is(run: Run, recorded: Mapping[str, Any], store: StoreInfo) -> bool:
    """Whether a store is the recorded one. Version 0.1 recorded the digest of its plan alone."""
    now = content_of(store) if run.checked else store.stamp
    return bool(now == recorded["fingerprint"])


def remark_siblings(path: Path, identity: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Say which runs beside a new one were made by the same command from other content, or by version 0.1."""
    prefix = path.name.rpartition("-")[0]
    for other in sorted(path.parent.glob(f"{prefix}-*/config.json")):
        if other.parent == path:
            continue
        try:
            run = Run(other.parent)
        except InputError:
            continue  # who reads that run is told
        if run.identity is not None and _but_stores(run.identity) == _but_stores(identity):
            theirs, ours = run.identity["stores"], identity["stores"]
            changed = " and ".join(label for label in ours if theirs.get(label) != ours[label])
            why = f"was trained on other features of {changed}"
        elif run.identity is None and _same_command(run, identity):
            why = "was made by version 0.1, which did not record what its stores held"
        else:
            continue
        say(f"{run.path} {why}; it is kept, and {path} is a new run")


def _but_stores(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in identity.items() if k != "stores"}


def _same_command(run: Run, identity: Mapping[str, Any]) -> bool:
    theirs = run.config.get("settings", {})
    asked = identity["settings"]
    return all(theirs.get(name) == value for name, value in asked.items() if name in theirs)


_TRAINED = (
    "while a run trained on it. What was finished before is kept; run the same command again to train on the "
    "changed features"
)
_READ = "while it was read. Nothing of this was kept; run the same command again"


@contextlib.contextmanager
def one_state(stores: Sequence[StoreInfo]) -> Iterator[Watch]:
    """What is read inside is one state of the stores: on a disk their readers see to that, which hold a lock;
    on object storage, where there is none, the content is compared at the end.

    Raises:
        WorkError: a store was changed meanwhile.
    """
    watch = Watch(stores, _READ)
    yield watch
    watch.check()


class Watch:
    """Notices that a store is changed while cells are trained on it.

    Looking is cheap: the journal's files are listed, and only where one of them is another file than before
    the content is compared.

    Args:
        stores: as they were when the run was prepared.
        while_: the end of the message about one that was changed.
    """

    def __init__(self, stores: Sequence[StoreInfo], while_: str = _TRAINED) -> None:
        self._while = while_
        self._stores = {s.path: (s, content_of(s), _files(s)) for s in stores}
        self.check(thorough=True)  # they were described before their journals were listed here

    def check(self, *, thorough: bool = False) -> None:
        """Raises `WorkError` where a store is not what it was."""
        for path, (store, content, seen) in self._stores.items():
            now = _files(store)
            if now is not None and now == seen and not thorough:
                continue
            try:
                same = content_of(store_info(path)) == content
            except (InputError, WorkError):
                same = False
            if not same:
                raise WorkError(f"{path} was changed {self._while}")
            self._stores[path] = (store, content, now)


def _files(store: StoreInfo) -> frozenset[_File] | None:
    """The files that tell of a change; None on object storage, where the content is compared each time."""
    if is_remote(store.path):
        return None
    return frozenset(_listed(store.path / JOURNAL if store.own else store.path))


_File = tuple[str, int, int, int]
"""Path in a folder, number of the file, size, time of the last change in ns."""


def _listed(folder: Path) -> list[_File]:
    found: list[_File] = []
    for at, _, names in os.walk(folder):
        for name in names:
            if not name.endswith((".tmp", "lock")):
                path = Path(at) / name
                with contextlib.suppress(FileNotFoundError):
                    about = path.stat()
                    found.append(
                        (path.relative_to(folder).as_posix(), about.st_ino, about.st_size, about.st_mtime_ns)
                    )
    return found
