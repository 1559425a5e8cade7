"""`embed`: samples of any form through a frozen encoder, kept on disk by their content.

Shapes: N samples, D features, C classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from uml.cells import cells_of, groups_of, labelled, need_one_order, numbers_of, splits_of
from uml.columns import Asked, asked
from uml.content import content_name
from uml.given import Given, take
from uml.shown import shown
from uml_cache import (
    QUIET,
    Choice,
    InputError,
    Output,
    WorkError,
    open_features,
)
from uml_extract import Encoder, allowed_failures, content_digest, encode_rows, extract, load_encoder
from uml_manifests import NO_SPLIT, SPLITS, HeldManifest, Manifest, resolve_data

if TYPE_CHECKING:
    import pandas

_ENVIRONMENT = "UML_CACHE"
_NO_ROLES: Mapping[str, Asked] = {"label": False, "split": False, "group": False}


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedded:
    """Features of samples, and what is known of these.

    Args:
        features: (N, D) float32. A sample that could not be read has zeros, and a reason in `failed`.
        labels: (N,) class names, None where a sample has none; None: there are no labels at all.
        class_names: C names in their order.
        splits: (N,) `train`, `val`, `test` or an empty string; None: there are none.
        groups: (N,) names (a speaker, a patient, a video) that no drawn split cuts through, an empty string
            for a sample of no group; None: there are none.
        encoder: the encoder's spec: name, library, model, digest of the weights, transform and so on.
        modality: `image`, `text`, `audio` or `array`.
        failed: the reason why a sample could not be read, by row.
        store: the store on disk, None where nothing is kept.
        manifest: the samples themselves, for a report; None where features were given.
    """

    features: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    splits: np.ndarray | None
    encoder: Mapping[str, Any]
    modality: str
    failed: Mapping[int, str] = field(default_factory=dict)
    store: Path | None = None
    variant: str | None = None
    dtype: str = "float32"
    contents: tuple[str, ...] = field(default=(), repr=False)
    loading: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    manifest: Manifest | None = field(default=None, repr=False)
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        labels = f", {len(self.class_names)} classes" if self.labels is not None else ", no labels"
        failed = f", {len(self.failed)} unreadable" if self.failed else ""
        width = self.features.shape[1]
        return f"Embedded({len(self):,} {self.modality} × {width} by {self.encoder['name']}{labels}{failed})"

    def with_labels(
        self, labels: Any, *, splits: Any = None, class_names: Sequence[str] | None = None
    ) -> Embedded:
        """The same features with other labels (N,), and with splits (N,) where they are given.

        Raises:
            InputError: another number of labels than samples, or labels that are none.
        """
        known = None if class_names is None else tuple(map(str, class_names))
        names, classes = labelled(labels, len(self), known, shown(True))
        found = self.splits if splits is None else splits_of(splits, len(self))
        return replace(self, labels=names, class_names=classes, splits=found)

    def frame(self) -> pandas.DataFrame:
        """A row per sample: `label`, `split`, `group`, and the features as columns `0` to `D − 1`."""
        import pandas

        table = pandas.DataFrame(self.features)
        if self.groups is not None:
            table.insert(0, "group", self.groups)
        if self.splits is not None:
            table.insert(0, "split", self.splits)
        if self.labels is not None:
            table.insert(0, "label", self.labels)
        return table


def embed(
    data: Any,
    encoder: str | Encoder,
    *,
    labels: Any = None,
    splits: Any = None,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    column: str | None = None,
    cache: bool | str | Path = True,
    weights: str | Path | None = None,
    pooling: str | None = None,
    layer: int = -1,
    transform: str = "own",
    dtype: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    max_errors: float = 0.01,
    progress: bool = True,
) -> Embedded:
    """Features of samples by a frozen encoder. What was embedded before is read from the disk.

    Args:
        data: a list of pictures, sounds or texts (PIL images, paths, bytes, arrays, tensors, strings, pairs
            (array, rate)), an array or tensor of them, a pandas column or table, a data set of `datasets`
            (with its splits) or of torch, or the path of whatever `uml extract --data` takes.
        encoder: its name (`uml.encoders()` lists them), a model's folder, or an encoder that is loaded.
            `identity` takes features that exist already, (N, D).
        labels: N class names or numbers, None where a sample has none; or the name of the column.
        splits: N of `train`, `val`, `test` or nothing; or the name of the column.
        groups: N names of which no drawn split cuts one in two; or the name of the column.
        class_names: what whole numbers as labels mean.
        column: the column of the samples in a table.
        cache: whether features are kept on disk, by the content of the samples; or the folder to keep them
            in. By default that is the folder in the environment variable `UML_CACHE`, else `~/.cache/uml`.
        weights, pooling, layer, transform, dtype, batch_size, device: as of `uml extract`.
        max_errors: how many samples may be unreadable: a number, or a share below 1.
        progress: whether a bar is shown.

    Raises:
        InputError: no samples, labels that do not fit them, an unknown encoder, weights that are missing.
        WorkError: more unreadable samples than allowed.
    """
    output = shown(progress)
    if encoder == "identity" and not isinstance(data, str | os.PathLike):
        return of_features(
            data, labels=labels, splits=splits, groups=groups, class_names=class_names, output=output
        )
    need_one_order(data, labels=labels, splits=splits, groups=groups)
    loading = {"name": None, "weights": None if weights is None else str(Path(weights).absolute())}
    if isinstance(encoder, str):
        if Path(encoder).expanduser().is_dir():
            loading["name"] = str(Path(encoder).expanduser().absolute())
        elif encoder.startswith(("onnx:", "tflite:")):
            kind, _, file = encoder.partition(":")
            loading["name"] = f"{kind}:{Path(file).expanduser().absolute()}"
        encoder = load_encoder(
            encoder, weights=weights, pooling=pooling, layer=layer, transform=transform, device=device,
            dtype="float32" if dtype == "float32" else "float16",
        )  # fmt: skip
    modality = encoder.spec.modality
    wanted = asked(labels, splits, groups)
    manifest, given = _manifest(data, modality, column, wanted, by_content=cache is not False)
    for remark in given.remarks:
        output.say(remark)
    cells = {
        "labels": cells_of(labels, given.labels, "labels"),
        "splits": cells_of(splits, given.splits, "splits"),
        "groups": cells_of(groups, given.groups, "groups"),
    }
    known = tuple(map(str, class_names)) if class_names is not None else given.names
    names, classes = labelled(cells["labels"], len(manifest), known, output)
    parts = splits_of(cells["splits"], len(manifest))
    features, failed, store, variant, stored = _features(
        manifest, encoder, cache, dtype, batch_size, max_errors, output
    )
    return Embedded(
        features=features, labels=names, class_names=classes, splits=parts, encoder=encoder.spec.to_json(),
        modality=modality, failed=failed, store=store, variant=variant, dtype=stored, loading=loading,
        contents=tuple(manifest.sources), manifest=manifest, groups=groups_of(cells["groups"], len(manifest)),
    )  # fmt: skip


def of_features(
    features: Any,
    *,
    labels: Any = None,
    splits: Any = None,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    output: Output = QUIET,
) -> Embedded:
    """Features (N, D) that exist already.

    Raises:
        InputError: anything but a table of finite numbers, or labels that do not fit it.
    """
    need_one_order(features, labels=labels, splits=splits, groups=groups)
    values = numbers_of(features)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise InputError(
            f"features are {values.shape} of {values.dtype}; expected numbers (samples, features)"
        )
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError("features hold values that are not finite in float32")
    known = None if class_names is None else tuple(map(str, class_names))
    names, classes = labelled(labels, len(values), known, output)
    spec = {"name": "given", "modality": "array", "library": "imported", "width": int(values.shape[1])}
    return Embedded(
        features=values, labels=names, class_names=classes, splits=splits_of(splits, len(values)),
        encoder=spec, modality="array", groups=groups_of(groups, len(values)),
    )  # fmt: skip


def encoders() -> pandas.DataFrame:
    """The encoders that are known by name: modality, widths, licence, what they are."""
    import pandas

    from uml_extract import list_encoders

    rows = [
        {
            "name": f"{name}ID" if name.endswith(":") else name,
            "modality": entry.spec.modality,
            "width": entry.spec.width,
            "parameters": entry.spec.parameters,
            "licence": entry.spec.licence,
            "library": entry.spec.library,
            "summary": entry.summary,
        }
        for name, entry in list_encoders().items()
    ]
    return pandas.DataFrame(rows).set_index("name").astype({"width": "Int64", "parameters": "Int64"})


def cache_folder(cache: bool | str | Path = True) -> Path:
    """The folder that features are kept in."""
    if not isinstance(cache, bool):
        return Path(cache)
    if told := os.environ.get(_ENVIRONMENT):
        return Path(told)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "uml"


def as_manifest(data: Any, modality: str, column: str | None = None, *, by_content: bool = False) -> Manifest:
    """A manifest without labels of whatever `embed` takes. What was chosen and left out is said."""
    manifest, given = _manifest(data, modality, column, _NO_ROLES, by_content=by_content)
    for remark in given.remarks:
        shown(True).say(remark)
    return manifest


def _manifest(
    data: Any, modality: str, column: str | None, wanted: Mapping[str, Asked], *, by_content: bool
) -> tuple[Manifest, Given]:
    if isinstance(data, str | os.PathLike) and Path(data).exists():
        named = {role: name for role, name in wanted.items() if isinstance(name, str)}
        choice = Choice(**named, **({} if column is None else _of_column(column, modality)))
        told = resolve_data(os.fspath(data), modality=modality, choice=choice)
        cells = [None if c < 0 else told.classes[c] for c in told.labels]
        parts = ["" if c == NO_SPLIT else SPLITS[c] for c in told.splits]
        has = bool((told.labels >= 0).any())
        given = Given(
            told.sources, cells if has else None, parts if any(parts) else None, told.classes or None,
            told.groups, _told(told),
        )  # fmt: skip
        # Of the same files with other labels the features are the same: labels stay out of the store.
        rows = len(told)
        plain = replace(
            told, name="files", classes=(), labels=np.full(rows, -1), splits=np.full(rows, NO_SPLIT),
            groups=None, set=None, options=(), id_kind="made", ids=[str(row) for row in range(rows)],
        )  # fmt: skip
        return replace(plain, name=f"embedded-{content_digest(plain)[:16]}"), given
    if isinstance(data, os.PathLike):
        raise InputError(f"{data}: no such file or folder")
    given = take(data, modality, column=column, wanted=wanted)
    rows = len(given.samples)
    if modality == "text":
        sources = [_text(sample, row) for row, sample in enumerate(given.samples)]
    elif by_content:
        sources = [content_name(sample, modality) for sample in _each(given.samples)]
    else:
        sources = [str(row) for row in range(rows)]
    digest = hashlib.sha256("\n".join([modality, *map(repr, sources)]).encode()).hexdigest()
    words: dict[str, Any] = {
        "name": f"embedded-{digest[:16]}", "modality": modality, "classes": (), "root": Path(),
        "ids": [str(row) for row in range(rows)], "sources": sources, "labels": np.full(rows, -1),
        "splits": np.full(rows, NO_SPLIT), "id_kind": "made",
    }  # fmt: skip
    if modality == "text":
        return Manifest(**words), given
    return HeldManifest(**words, held=given.samples), given


def _told(manifest: Manifest) -> tuple[str, ...]:
    """What was chosen while the data was read, and how much was left out."""
    account = manifest.account()
    return (*manifest.remarks, *([account.counts.text()] if account.left_out else []))


def _each(samples: Sequence[Any]) -> Any:
    return (samples[row] for row in range(len(samples)))


def _of_column(column: str, modality: str) -> dict[str, str]:
    return {"text" if modality == "text" else "path": column}


def _text(sample: Any, row: int) -> str:
    if not isinstance(sample, str):
        raise InputError(
            f"sample {row} is no string but of type {type(sample).__name__}; this encoder takes texts"
        )
    return sample


def _features(
    manifest: Manifest,
    encoder: Encoder,
    cache: bool | str | Path,
    dtype: str,
    batch_size: int | Literal["auto"],
    max_errors: float,
    output: Output,
) -> tuple[np.ndarray, dict[int, str], Path | None, str | None, str]:
    """(N, D) float32, reasons by row, the store, its variant, and the dtype that values were rounded to."""
    if cache is not False:
        done = extract(
            manifest, encoder, out=cache_folder(cache) / "feats", dtype=dtype, batch_size=batch_size,
            max_errors=max_errors, output=output,
        )  # fmt: skip
        store = open_features(done.store)
        features = store.pooled.float().numpy().copy()
        failed = {one.row: one.reason for one in done.unreadable}
        stored = str(store.info.arrays["pooled"]["data_type"])
        store.close()
        return features, failed, done.store, store.variant, stored
    stored = "float16" if dtype == "auto" else dtype
    features = np.zeros((len(manifest), int(encoder.spec.width or 0)), np.float32)
    with output.progress(len(manifest), " samples", encoder.spec.name) as bar:
        (part,) = encode_rows(manifest, encoder, [range(len(manifest))], batch_size=batch_size, progress=bar)
    allowed = allowed_failures(max_errors, len(manifest))
    if len(part.failed) > allowed:
        row, reason = min(part.failed.items())
        raise WorkError(
            f"{len(part.failed)} unreadable samples, max_errors allows {allowed} of {len(manifest)}; the "
            f"first is sample {row}: {reason}"
        )
    if part.batches:
        values = np.concatenate([batch.pooled for batch in part.batches])
        features[part.rows] = values.astype(stored).astype(np.float32)
    variant = "-".join((*encoder.variant, *(["float32"] if stored == "float32" else []))) or None
    return features, part.failed, None, variant, stored
