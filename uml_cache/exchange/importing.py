"""`uml cache import`: other people's features become an ordinary sealed store.

Shapes: N samples, D features, T tokens of all samples, E their width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.exchange.formats.feature_file import read_file
from uml_cache.exchange.formats.parquet import is_embedding_folder, read_embedding_folder
from uml_cache.exchange.formats.sample_folder import read_sample_folder, sample_files
from uml_cache.exchange.part_columns import (
    cut_column,
    groups_of,
    id_kind_of,
    ids_of,
    samples_of,
    whole_column,
    without_ids,
)
from uml_cache.exchange.parts import values_digest, write_parts
from uml_cache.exchange.table import Columns, Part, parts_of, vocabulary_of
from uml_cache.store.feature_store import FeatureStore
from uml_cache.store.plans.layout import DTYPES, IDS, NO_SPLIT, SPLIT_NAMES
from uml_cache.store.plans.plan import StorePlan, store_path
from uml_cache.store.plans.planning import create_or_resume
from uml_cache.tables.account import Account, lacking
from uml_cache.tables.class_lists import class_file
from uml_cache.tables.labels import read_labels
from uml_cache.tables.names import clean_name
from uml_cache.tables.splits import SPLIT_CODES, as_splits

_BATCH = 1  # nothing is computed here; a plan needs a number


@dataclass(frozen=True)
class Imported:
    """The store, what became of the rows, and sentences about what was chosen."""

    store: FeatureStore
    account: Account
    remarks: tuple[str, ...]


def import_features(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    dataset: str | None = None,
    modality: str | None = None,
    encoder: str | None = None,
    set: str | None = None,
    variant: str | None = None,
    split: str | None = None,
    classes: str | Path | None = None,
    columns: Columns | None = None,
    dtype: str | None = None,
    progress: Callable[[int], Any] | None = None,
) -> FeatureStore:
    """Write the features of `sources` as a sealed store below `out`; the same call again finishes it.

    Args:
        sources: Files (.pth, .npy, .npz, .safetensors, .h5, .parquet) or a folder as clip-retrieval writes
            it or with one file (.npy, .pt, .h5) per sample, each with `SPLIT=` in front where the file does
            not say its split itself.
        dataset, modality, encoder, set, variant: Name the store; needed where the file does not say (what
            `export_features` wrote says all of it).
        split: The split of all rows that have none.
        classes: A file of class names (one a line, or a JSON list), which stands above the files' own.
        columns: What the arrays are called, where they have unusual names.
        dtype: How to store; by default float16 where the source is float16, else float32.

    Labels, splits and class lists are read by the rules of `uml_cache.tables`. Tokens of one whole number
    each, without features beside them, are ids and are stored as such.

    Raises:
        InputError: anything about the files that cannot become a store, in one line.
    """
    return import_counted(
        sources,
        out,
        dataset=dataset,
        modality=modality,
        encoder=encoder,
        set=set,
        variant=variant,
        split=split,
        classes=classes,
        columns=columns,
        dtype=dtype,
        progress=progress,
    ).store


def import_counted(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    dataset: str | None = None,
    modality: str | None = None,
    encoder: str | None = None,
    set: str | None = None,
    variant: str | None = None,
    split: str | None = None,
    classes: str | Path | None = None,
    columns: Columns | None = None,
    dtype: str | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Imported:
    """As `import_features`, with what became of the rows.

    Raises:
        InputError: as of `import_features`.
    """
    columns = columns or Columns()
    with ExitStack() as stack:
        _refuse_repeats(sources)
        parts = [part for source in sources for part in _open(str(source), modality, columns, stack)]
        if not parts:
            raise InputError("nothing to import: name at least one file")
        told = parts[0].attributes
        if dataset is None:
            dataset = told.get("dataset")
        remarks: list[str] = []
        plan = _plan(
            parts,
            columns,
            remarks,
            split=split,
            classes=class_file(classes),
            dtype=dtype,
            dataset=clean_name(_named("dataset", dataset)),
            modality=_named("modality", modality or told.get("modality")),
            set=clean_name(set or told.get("set") or "") or None,
            encoder=_encoder(encoder, told, vocabulary_of(parts)),
            variant=variant or told.get("variant"),
        )
        path = store_path(out, plan.dataset, plan.modality, plan.set, plan.encoder["name"], plan.variant)
        store = create_or_resume(path, plan)
        with store.lock():
            store.unseal(store.damaged(store.done()))
            write_parts(store, parts, progress)
    return Imported(store, _account(plan, parts), tuple(dict.fromkeys(remarks)))


def _account(plan: StorePlan, parts: list[Part]) -> Account:
    status = np.concatenate([np.zeros(p.rows, np.uint8) if p.status is None else p.status for p in parts])
    failed = tuple((plan.ids[row], "unreadable") for row in np.flatnonzero(status).tolist())
    return Account(
        used=len(plan.ids) - len(failed),
        left_out=failed,
        lacking=lacking(plan.labels, plan.splits, used=status == 0),
    )


def _place(source: str) -> tuple[Path, int | None]:
    """The file of `[SPLIT=]FILE`, and the code of the split in front of it."""
    before, mark, rest = source.partition("=")
    if not mark or Path(source).exists():
        return Path(source), None
    if before.lower() in SPLIT_CODES:
        return Path(rest), SPLIT_CODES[before.lower()]
    if Path(rest).exists():
        raise InputError(f"{source}: {unknown('split', before, SPLIT_NAMES)}")
    return Path(source), None


def _refuse_repeats(sources: Sequence[str | Path]) -> None:
    """The same file twice makes rows that know nothing of each other, and may be trained and tested on."""
    seen: dict[Path, str] = {}
    for source in map(str, sources):
        path = _place(source)[0].resolve()
        if path in seen:
            raise InputError(f"{seen[path]} and {source} are the same file; name it once")
        seen[path] = source


def _given_split(part: Part, given: int) -> Any:
    """The splits of a part whose file was named with a split in front."""
    if part.splits is None:
        return given
    codes = as_splits(part.splits, part.rows, part.where)
    if other := int(((codes != given) & (codes != NO_SPLIT)).sum()):
        said = SPLIT_NAMES[given] if given < len(SPLIT_NAMES) else "none"
        raise InputError(
            f"{part.where}: {other:,} of its {part.rows:,} rows have a split other than {said}, which the "
            "command gives for this file; leave one of the two out"
        )
    return given


def _open(source: str, modality: str | None, columns: Columns, stack: ExitStack) -> list[Part]:
    path, given = _place(source)
    if is_embedding_folder(path):
        contents = read_embedding_folder(path, modality)
    elif path.is_dir() and sample_files(path):
        contents = [read_sample_folder(path, columns.features)]
        columns = replace(columns, features=None)
    else:
        contents = [read_file(path, stack)]
    if len(contents) == 1 and columns.features is None and path.suffix.lower() == ".npy":
        columns = replace(columns, labels=_only_file(columns.labels), ids=_only_file(columns.ids))
    parts = [part for content in contents for part in parts_of(content, str(path), columns)]
    for part in parts:
        if given is not None:
            part.splits = _given_split(part, given)
        elif part.splits is None:
            part.splits = SPLIT_CODES.get(path.stem.lower())
    return parts


def _only_file(option: str | None) -> str | None:
    return option if option is None or Path(option).is_file() else _missing(option)


def _missing(option: str) -> str:
    raise InputError(f"{option}: a .npy file has no other columns, and there is no such file")


def _named(option: str, value: str | None) -> str:
    if value:
        return value
    raise InputError(f"the files do not say their {option}; give --{option}")


def _encoder(name: str | None, told: dict[str, Any], vocabulary: int | None) -> dict[str, Any]:
    spec = told.get("encoder")
    if isinstance(spec, dict) and spec.get("name") and name in (None, spec["name"]):
        return spec
    ids = {} if vocabulary is None else {"vocabulary": vocabulary}
    return {"name": _named("encoder", name), "library": "imported", **ids}


def _plan(
    parts: list[Part],
    columns: Columns,
    remarks: list[str],
    *,
    split: str | None,
    classes: tuple[str, ...] | None,
    dtype: str | None,
    **names: Any,
) -> StorePlan:
    where = parts[0].where
    rows = [part.rows for part in parts]
    total = sum(rows)
    pooled_dim = _width(parts, "features")
    token_dim = _width(parts, "tokens")
    names_of = [part.where for part in parts]
    remarks += [remark for part in parts for remark in part.remarks]
    label_columns, _ = whole_column(columns.labels, [part.labels for part in parts], rows, "labels")
    if len(label_columns) < len(parts):  # a file of its own holds them for all parts
        label_columns = cut_column(label_columns[0], rows)
    read = read_labels(label_columns, rows, [part.classes for part in parts], names_of, given=classes)
    labels, classes = read.codes, read.classes
    remarks += read.remarks
    split_columns, split_rows = whole_column(columns.splits, [part.splits for part in parts], rows, "splits")
    splits = np.concatenate([as_splits(c, n, where) for c, n in zip(split_columns, split_rows, strict=True)])
    if split is not None:
        splits[splits == 255] = as_splits([split], 1, "--split")[0]
    ids = ids_of(parts, columns, rows, total)
    if columns.ids is None or not Path(columns.ids).is_file():
        remarks += without_ids(parts)
    groups = groups_of(parts, columns.groups, rows)
    counts = None
    if token_dim is not None:
        counts = np.concatenate([part.lengths for part in parts]).astype(np.int32)  # type: ignore[arg-type]
    kinds = {array.dtype for part in parts for array in (part.features, part.tokens) if array is not None}
    if "vocabulary" in names["encoder"]:
        if dtype is not None:
            raise InputError(f"{where}: its tokens are ids, which have no --dtype; leave it out")
        dtype = IDS
    dtype = dtype or ("float16" if kinds == {np.dtype("float16")} else "float32")
    if dtype not in (*DTYPES, IDS):
        raise InputError(f"unknown storage dtype {dtype!r}; known: {', '.join(DTYPES)}")
    digest = values_digest(parts, ids, dtype)
    for part in [labels, splits]:
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(json.dumps([ids, list(classes), groups]).encode())
    return StorePlan(
        **names,
        manifest_digest=digest.hexdigest(),
        classes=classes,
        ids=ids,
        labels=labels,
        splits=splits,
        groups=groups,
        samples=samples_of(parts, ids),
        id_kind=id_kind_of(parts, columns),
        pooled_dim=pooled_dim,
        token_dim=token_dim,
        token_counts=counts,
        dtype=dtype,
        compute_dtype=str(parts[0].attributes.get("compute_dtype", dtype)),
        batch_size=_BATCH,
        versions={"uml-cache": version("uml-cache"), "numpy": np.__version__},
        device="imported",
    )


def _width(parts: list[Part], name: str) -> int | None:
    arrays = [getattr(part, name) for part in parts]
    widths = {None if array is None else array.shape[1] for array in arrays}
    if len(widths) > 1:
        shown = "; ".join(
            f"{part.where} has {'none' if array is None else array.shape[1]}"
            for part, array in zip(parts, arrays, strict=True)
        )
        raise InputError(f"the {name} differ in width: {shown}")
    return widths.pop()
