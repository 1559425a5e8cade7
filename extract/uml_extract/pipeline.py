"""Extraction: reader → encoder → store, one task after the other, each committed before the next counts.

Shapes: N samples of the manifest, n samples of a task, B of a batch, T tokens, D features.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uml_cache import (
    IDS,
    QUIET,
    FeatureStore,
    InputError,
    Output,
    StorePlan,
    create_or_resume,
    recorded_plan,
    recorded_token_counts,
    remove_store,
    store_path,
)
from uml_extract.encoding.batching import probe_batch_size
from uml_extract.encoding.tasks import Extraction
from uml_extract.executors import Executor, get_executor
from uml_extract.executors.worker import Job, Recipe
from uml_extract.origin import record_origin
from uml_extract.readers import read_for
from uml_extract.readers.prefetch import reader_count
from uml_extract.registry.registry import load_encoder
from uml_extract.sources import changed_tasks, mended_tasks, need_files
from uml_extract.spec import LAST_LAYER, Encoder, SampleError, fitted

if TYPE_CHECKING:
    import numpy as np

    from uml_cache import FailedRow
    from uml_manifests import Manifest

_PACKAGES = {
    "image": ("pillow",),
    "text": (),
    "audio": ("soundfile", "scipy"),
    "array": ("h5py",),
    "timm": ("torch", "timm"),
    "transformers": ("torch", "transformers", "tokenizers"),
    "open_clip": ("torch", "open_clip_torch"),
    "torch": ("torch", "torchvision"),
    "onnx": ("onnxruntime",),
    "tflite": ("ai-edge-litert",),
}


@dataclass(frozen=True)
class Extracted:
    """What an extraction did. `rows` of the store, `failed` of them unreadable; `resumed_tasks` were there.

    `rows_per_second` counts the rows of this run alone. `unreadable` are the failed rows with their reasons.
    """

    store: Path
    rows: int
    failed: int
    tasks: int
    resumed_tasks: int
    seconds: float
    rows_per_second: float
    unreadable: tuple[FailedRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml extract --json`."""
        return {
            "store": str(self.store),
            "rows": self.rows,
            "failed": self.failed,
            "tasks": self.tasks,
            "resumed_tasks": self.resumed_tasks,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
        }


def extract(
    manifest: Manifest,
    encoder: str | Encoder,
    *,
    out: Path | str,
    tokens: bool = False,
    dtype: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    max_errors: float = 0.01,
    weights: Path | str | None = None,
    pooling: str | None = None,
    layer: int = LAST_LAYER,
    transform: str = "own",
    executor: str = "local",
    workers: int | None = None,
    decode_workers: int | Literal["auto"] = "auto",
    retry_failed: bool = False,
    check_sources: bool = False,
    overwrite: bool = False,
    recipe: Recipe | None = None,
    output: Output = QUIET,
) -> Extracted:
    """Extract the features of a manifest's samples into a store below `out`, or finish the one that is there.

    Args:
        manifest: The samples; row i of the store is sample i.
        encoder: A name for `load_encoder` (with `weights`, `pooling`, `layer`, `transform`, `device`), or an
            encoder that is loaded already.
        tokens: Store token features beside the pooled ones.
        dtype: Stored as float16 or float32; `auto` is float16, but for arrays that are stored as they are
            (`identity`) their own type, float32 at most.
        batch_size: Samples per forward pass; `auto` is chosen once and fixed in the store.
        max_errors: How many samples may be unreadable: a whole number (int), or a share below 1 (float).
        executor: `local`, `torchrun` (this process is one rank of several) or `ray`.
        workers: Processes of `local`, tasks at once of `ray`; default: one per CUDA device, or what there is.
        decode_workers: Processes that read and decode pictures and sounds beside each encoder; `auto`: one
            per core, 0: threads of the encoder's process.
        retry_failed: Do the finished tasks again that hold unreadable samples which can be read now.
        check_sources: Do the finished tasks again whose files have changed since, by size or time.
        overwrite: Remove the store that is there, sound or not, and begin anew (`local` and `ray` alone).
        recipe: How other processes load an encoder that is given as an object.

    Raises:
        InputError: the manifest's modality is not the encoder's, a store of other settings is in the way,
            another run holds the store, or what `load_encoder` raises.
        WorkError: more unreadable samples than allowed, or values that do not fit `dtype`. What was committed
            stays, and the same call goes on from there.
    """
    who = get_executor(executor, device=device, workers=workers)
    if isinstance(encoder, str):
        options: dict[str, Any] = {
            "weights": weights, "pooling": pooling, "layer": layer, "transform": transform, "device": device,
            "dtype": dtype,
        }  # fmt: skip
        recipe = Recipe(encoder, options)
        encoder = load_encoder(encoder, **options)
    if overwrite and executor == "torchrun":
        raise InputError("overwrite does not go with torchrun: its ranks would remove each other's work")
    encoder, path, plan = plan_extraction(
        manifest, encoder, out=out, tokens=tokens, dtype=dtype, batch_size=batch_size, overwrite=overwrite,
        output=output,
    )  # fmt: skip
    store = _planned(path, plan, batch_size == "auto")
    group = who.join(plan.device)
    readers = reader_count(decode_workers, manifest.modality, who.beside)
    job = Job(path, store.plan, manifest, recipe, max_errors, group, readers)
    record_origin(path, manifest)
    extraction = Extraction(store, manifest, encoder, max_errors=max_errors, readers=job.readers)
    with store.lock(group), contextlib.closing(extraction):
        again = set(store.damaged(who.share(sorted(store.done()))))
        if retry_failed:
            again.update(who.share(mended_tasks(store, manifest, encoder)))
        if check_sources:
            changed = who.share(changed_tasks(store, manifest))
            again.update(changed)
            output.say(f"files have changed in {len(changed)} of {store.tasks} tasks since they were done")
        need_files(store, manifest, sorted(again))
        store.unseal(again)
        return _worked(store, who, extraction, job, output)


def plan_extraction(
    manifest: Manifest,
    encoder: Encoder,
    *,
    out: Path | str,
    tokens: bool = False,
    dtype: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    overwrite: bool = False,
    output: Output = QUIET,
) -> tuple[Encoder, Path, StorePlan]:
    """What `extract` is going to do: the encoder as it is used, the store's place, its plan.

    Nothing is written; with `overwrite` what is there is removed.

    Raises:
        InputError: as `extract` does for what does not go together.
    """
    if manifest.modality != encoder.spec.modality:
        raise InputError(
            f"encoder {encoder.spec.name} takes {encoder.spec.modality}, data set {manifest.name!r} holds "
            f"{manifest.modality}"
        )
    if batch_size != "auto" and batch_size < 1:
        raise InputError(f"batch size is {batch_size}; it must be at least 1, or auto")
    encoder = fitted(encoder, manifest)
    spec = encoder.spec
    if spec.vocabulary is not None:
        if not tokens:
            raise InputError(f"encoder {spec.name} gives ids of tokens and no features; add --tokens")
        dtype = IDS
    variant = _variant(encoder, tokens, dtype, manifest)
    path = store_path(out, manifest.name, manifest.modality, manifest.set, spec.name, variant)
    if overwrite and path.exists():
        remove_store(path)
        output.say(f"{path} is removed and made again")
    return encoder, path, _plan(manifest, encoder, path, variant, tokens, dtype, batch_size, output)


def _worked(
    store: FeatureStore, who: Executor, extraction: Extraction, job: Job, output: Output
) -> Extracted:
    """Work through the tasks that the store lacks, each executor through its share."""
    pending = store.pending()
    mine = who.share(pending)
    store.unseal(mine)  # a task whose files are damaged still has its record
    missing, remaining = _rows(store, pending), _rows(store, mine)
    rows = len(job.manifest)
    started = time.monotonic()
    with output.progress(rows, " samples", store.plan.encoder["name"], rows - missing) as progress:
        who.run(lambda tasks: extraction.run(tasks, progress), job, mine, progress)
    seconds = time.monotonic() - started
    unreadable = tuple(store.failed())
    return Extracted(
        store=job.store,
        rows=rows,
        failed=len(unreadable),
        tasks=store.tasks,
        resumed_tasks=store.tasks - len(pending),
        seconds=seconds,
        rows_per_second=remaining / seconds if remaining else 0.0,
        unreadable=unreadable,
    )


def _plan(
    manifest: Manifest,
    encoder: Encoder,
    path: Path,
    variant: str | None,
    tokens: bool,
    dtype: str,
    batch_size: int | Literal["auto"],
    output: Output,
) -> StorePlan:
    """What the store at `path` is going to hold; what `auto` leaves open is as it was planned there."""
    spec = encoder.spec
    if dtype == "auto":
        dtype = _own_dtype(path, encoder, output)
    if batch_size == "auto":
        there = recorded_plan(path)
        batch_size = int(there["batch_size"]) if there else _automatic(manifest, encoder, tokens)
    return StorePlan(
        dataset=manifest.name,
        modality=manifest.modality,
        set=manifest.set,
        encoder=spec.to_json(),
        variant=variant,
        manifest_digest=manifest.digest,
        classes=manifest.classes,
        ids=manifest.ids,
        labels=manifest.labels,
        splits=manifest.splits,
        groups=manifest.groups,
        samples=manifest.sample_keys,
        id_kind=manifest.id_kind,
        pooled_dim=spec.width,
        token_dim=spec.token_width if tokens else None,
        token_counts=_token_counts(path, manifest, encoder) if tokens else None,
        dtype=dtype,
        compute_dtype=encoder.compute_dtype,
        batch_size=batch_size,
        versions=_versions(spec.modality, spec.library),
        device=encoder.device,
    )


def _token_counts(path: Path, manifest: Manifest, encoder: Encoder) -> np.ndarray:
    """(N,) int32: as planned where the store is there: a file that changed since is one failed row."""
    there = recorded_plan(path)
    if there is not None and there["manifest_digest"] == manifest.digest:
        counts = recorded_token_counts(path)
        if counts is not None:
            return counts
    return encoder.token_counts(manifest)


def _planned(path: Path, plan: StorePlan, automatic: bool) -> FeatureStore:
    """The store of `plan`. Of workers that plan it at once one is first: its automatic batch size holds."""
    there = recorded_plan(path)
    if there is None:
        try:
            return create_or_resume(path, plan)
        except InputError:
            there = recorded_plan(path)
    if automatic and there is not None:
        plan = replace(plan, batch_size=int(there["batch_size"]))
    return create_or_resume(path, plan)


def _rows(store: FeatureStore, tasks: Sequence[int]) -> int:
    return sum(len(store.rows_of(task)) for task in tasks)


def _own_dtype(path: Path, encoder: Encoder, output: Output) -> str:
    """What `auto` stores: what is there already, else the arrays' own type or float16."""
    own = getattr(encoder, "own_dtype", "float16")
    there = recorded_plan(path)
    if there is None or there["dtype"] == own:
        return own
    output.say(
        f"{path} is stored as {there['dtype']}, its arrays are {own}; delete it to store them as they are"
    )
    return str(there["dtype"])


def _variant(encoder: Encoder, tokens: bool, dtype: str, manifest: Manifest) -> str | None:
    """The store's variant name, from the options that differ from the defaults, and that of a trial."""
    parts = list(encoder.variant)
    parts += ["float32"] if dtype == "float32" else []
    parts += ["tokens"] if tokens else []
    parts += [] if manifest.trial_name is None else [manifest.trial_name]
    return "-".join(parts) or None


def _automatic(manifest: Manifest, encoder: Encoder, tokens: bool) -> int:
    if encoder.device == "cpu":
        return encoder.batch_size
    sample = _example(manifest, encoder)
    return encoder.batch_size if sample is None else probe_batch_size(encoder, sample, tokens)


def _example(manifest: Manifest, encoder: Encoder) -> np.ndarray | None:
    """A prepared sample that is as large as they come: the longest text, any image."""
    rows: Iterable[int] = range(len(manifest))
    if encoder.ragged and manifest.modality == "text":
        rows = [max(rows, key=lambda row: len(manifest.sources[row]))]
    for row in rows:
        try:
            return encoder.prepare(read_for(encoder, manifest, row))
        except SampleError:
            continue
    return None


def _versions(modality: str, library: str) -> dict[str, str]:
    packages = ("uml-cache", "numpy", *_PACKAGES[modality], *_PACKAGES.get(library, ()))
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
