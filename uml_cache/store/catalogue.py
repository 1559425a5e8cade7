"""What is in a cache folder: stores found and described from their metadata alone.

Neither zarr nor torch is imported here. Stores that others wrote with a Zarr tool are described too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.files.documents import parse_json
from uml_cache.remote import RemotePath, as_path
from uml_cache.store import identity, journal
from uml_cache.store.plans.plan import plan_digest
from uml_cache.store.states import state_of
from uml_cache.tables.views import ID_KINDS, MADE

_ARRAYS = (
    "pooled",
    "tokens/values",
    "tokens/start",
    "tokens/length",
    "label",
    "split",
    "id",
    "group",
    "sample",
    "status",
)


@dataclass(frozen=True)
class StoreInfo:
    """One store, as its metadata describes it.

    `dim` is the width of pooled features, `token_dim` that of tokens (None where a store has none). `own` is
    False for a Zarr group without a journal: written by another tool, it counts as sealed. `arrays` maps
    array names to their metadata. `stamp` is the digest of the plan with its samples that each record
    carries; version 0.1 called it the fingerprint, and its runs recorded it. `id_kind` says what the ids are
    (`uml_cache.tables.views`); None: not recorded. `grown` are the numbers of rows of this state and of those
    before it, of a store that has grown.
    """

    path: Path
    dataset: str
    modality: str
    set: str | None
    encoder: dict[str, Any]
    variant: str | None
    classes: tuple[str, ...]
    stamp: str | None
    rows: int
    dim: int | None
    token_dim: int | None
    tasks: int
    done: int
    own: bool
    arrays: dict[str, dict[str, Any]] = field(repr=False)
    id_kind: str | None = None
    grown: tuple[int, ...] = ()

    @property
    def state(self) -> int:
        """Its number among the states of a store that has grown; 1 for the first."""
        return state_of(self.path)

    @property
    def encoder_name(self) -> str:
        """The name of its encoder."""
        return str(self.encoder["name"])

    @property
    def is_trial(self) -> bool:
        """Whether it holds some of its data set's samples alone, as `uml extract --limit` makes it."""
        return any(re.fullmatch(r"limit\d+", part) for part in (self.variant or "").split("-"))

    @property
    def sealed(self) -> bool:
        """Whether every task has its journal record."""
        return self.done == self.tasks

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The journal as it was when this was first asked; `WorkError` for a record that is damaged."""
        return identity.recorded(self.path) if self.own else {}

    @cached_property
    def fingerprint(self) -> str | None:
        """Digest of the content: changes whenever a byte of an array does. The files of a
        store without a journal are read for it, and remembered.

        Raises `WorkError` for a journal that is damaged.
        """
        if self.own:
            return identity.fingerprint(self.records, self.classes)
        return self.stamp or identity.foreign_fingerprint(self.path)

    @cached_property
    def plan(self) -> str | None:
        """Digest of what a store must share to be resumed or to grow; None for a store without a journal."""
        return plan_digest(self.records["plan"]["fields"]) if self.own else None

    def failed(self) -> list[journal.FailedRow]:
        """The rows whose samples could not be read, with the reasons; none where another tool wrote."""
        return journal.failed_rows(self.path, journal.record_names(self.path) if self.own else ())

    def summary(self) -> dict[str, Any]:
        """One entry of `uml cache ls --json`."""
        return {
            "path": str(self.path),
            "sealed": self.sealed,
            "rows": self.rows,
            "dataset": self.dataset,
            "modality": self.modality,
            "set": self.set,
            "encoder": self.encoder_name,
            "variant": self.variant,
            "dim": self.dim if self.dim is not None else self.token_dim,
            "state": self.state,
            "fingerprint": self._or_none("fingerprint") if self.own else None,  # foreign ones take reading
            "plan": self._or_none("plan"),
        }

    def _or_none(self, name: str) -> str | None:
        """A digest for a list: a damaged journal has none, and does not keep the others from being listed."""
        try:
            return getattr(self, name)
        except WorkError:
            return None

    def description(self) -> dict[str, Any]:
        """The answer of `uml cache info --json`; `bytes` is what lies on the disk."""
        arrays = {
            name: {
                "shape": metadata["shape"],
                "dtype": metadata["data_type"],
                "bytes": _folder_bytes(self.path / name),
            }
            for name, metadata in self.arrays.items()
        }
        return {
            **self.summary(),
            "fingerprint": self._or_none("fingerprint"),
            "encoder": self.encoder,
            "arrays": arrays,
            "tasks": self.tasks,
            "tasks_done": self.done,
            "failed": len(self.failed()),
        }


def store_info(path: Path | str) -> StoreInfo:
    """Describe the store at `path`. `InputError` if there is none, `WorkError` if its metadata is damaged."""
    path = as_path(path)
    try:
        return _described(path)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise WorkError(f"{path}: its metadata is damaged ({type(error).__name__}: {error})") from None


def _described(path: Path) -> StoreInfo:
    if not path.exists():
        raise InputError(f"there is no store at {path}; `uml cache ls` lists the stores of a cache folder")
    root = _metadata(path, "")
    if root is None or root.get("node_type") != "group":
        raise InputError(
            f"{path} is no feature store: a store is a Zarr v3 group (a folder <encoder>.zarr that holds a "
            "zarr.json); `uml cache ls` lists the stores of a cache folder"
        )
    arrays = {name: metadata for name in _ARRAYS if (metadata := _metadata(path, name)) is not None}
    columns = [name for name in arrays if name != "tokens/values"]
    features = arrays.get("pooled", arrays.get("tokens/start"))
    if features is None:
        raise InputError(f"{path} has neither an array `pooled` nor tokens: it is no feature store")
    rows = features["shape"][0]
    for name in columns:
        if arrays[name]["shape"][0] != rows:
            raise WorkError(
                f"{path}: array {name} has {arrays[name]['shape'][0]} rows where {rows} are expected"
            )
    attributes = root.get("attributes", {})
    own = (path / journal.PLAN).exists()
    if not own and "fingerprint" in attributes and (path / journal.JOURNAL).exists():
        raise WorkError(f"{path} has no {journal.PLAN}: copy the whole store again, or extract again")
    encoder = attributes.get("encoder", path.stem.split("@")[0])
    tasks = int(attributes["tasks"]) if own else 0
    return StoreInfo(
        path=path,
        dataset=attributes.get("dataset", path.absolute().parent.parent.name),
        modality=attributes.get("modality", path.absolute().parent.name.split(".")[0]),
        set=attributes.get("set"),
        encoder=encoder if isinstance(encoder, dict) else {"name": str(encoder)},
        variant=attributes.get("variant"),
        classes=tuple(attributes.get("classes", ())),
        stamp=attributes.get("fingerprint") if own else None,
        rows=rows,
        dim=_width(arrays.get("pooled")),
        token_dim=_width(arrays.get("tokens/values")),
        tasks=tasks,
        done=sum(task < tasks for task in journal.record_names(path)) if own else 0,
        own=own,
        arrays=arrays,
        id_kind=_id_kind(attributes, arrays),
        grown=tuple(attributes["grown"]["rows"]) if own and "grown" in attributes else (),
    )


def _metadata(store: Path, name: str) -> dict[str, Any] | None:
    path = store / name / "zarr.json"
    try:
        metadata = parse_json(path.read_bytes())
        if not name or (metadata["shape"] and metadata["data_type"] and metadata["codecs"]):
            return metadata
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise WorkError(f"{path} is damaged: `uml cache verify {store}` tells what else is")


def _width(metadata: dict[str, Any] | None) -> int | None:
    return None if metadata is None else int(metadata["shape"][-1])


def _id_kind(attributes: dict[str, Any], arrays: dict[str, Any]) -> str | None:
    if "id" not in arrays:
        return MADE  # readers give row numbers
    kind = attributes.get("ids")
    return kind if isinstance(kind, str) and kind in ID_KINDS else None


def _folder_bytes(folder: Path) -> int:
    if isinstance(folder, RemotePath):
        return folder.size_below()
    return sum((Path(at) / name).stat().st_size for at, _, names in os.walk(folder) for name in names)
