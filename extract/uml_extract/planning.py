"""What an extraction is going to do, before it does it: the place of each store and its plan.

Shapes: N samples of the manifest.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from uml_cache import (
    IDS,
    QUIET,
    FeatureStore,
    InputError,
    Output,
    StorePlan,
    create_or_resume,
    current_store,
    recorded_plan,
    recorded_token_counts,
    remove_states,
    state_to_grow,
    store_path,
)
from uml_extract.encoding.batching import probe_batch_size
from uml_extract.readers import read_for
from uml_extract.spec import Encoder, SampleError, fitted
from uml_manifests import HeldManifest

if TYPE_CHECKING:
    import numpy as np

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


def plan_together(
    manifest: Manifest,
    encoders: Sequence[Encoder],
    *,
    out: Path | str,
    tokens: bool = False,
    dtype: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    overwrite: bool = False,
    output: Output = QUIET,
) -> list[tuple[Encoder, Path, StorePlan]]:
    """What `extract_together` is going to do: each encoder as it is used, its store's place, its plan.

    Nothing is written; with `overwrite` what is there is removed, once all of them are found to be right.

    Raises:
        InputError: as `extract_together` does for what does not go together.
    """
    if batch_size != "auto" and batch_size < 1:
        raise InputError(f"batch size is {batch_size}; it must be at least 1, or auto")
    places = [_place(manifest, encoder, out, tokens, dtype) for encoder in encoders]
    seen: dict[Path, str] = {}
    for encoder, path, *_ in places:
        if path in seen:
            raise InputError(
                f"encoders {seen[path]} and {encoder.spec.name} would fill the same store, {path}: "
                "give each encoder once"
            )
        seen[path] = encoder.spec.name
    for path in seen:
        if overwrite and current_store(path) is not None:
            remove_states(path)
            output.say(f"{path} is removed and made again")
    return [
        (encoder, path, _plan(manifest, encoder, path, variant, tokens, stored, batch_size, output))
        for encoder, path, variant, stored in places
    ]


def _place(
    manifest: Manifest, encoder: Encoder, out: Path | str, tokens: bool, dtype: str
) -> tuple[Encoder, Path, str | None, str]:
    """The encoder as it is used, its store's place and variant, and the dtype that is asked for."""
    if manifest.modality != encoder.spec.modality:
        raise InputError(
            f"encoder {encoder.spec.name} takes {encoder.spec.modality}, data set {manifest.name!r} holds "
            f"{manifest.modality}"
        )
    encoder = fitted(encoder, manifest)
    spec = encoder.spec
    if spec.vocabulary is not None:
        if not tokens:
            raise InputError(f"encoder {spec.name} gives ids of tokens and no features; add --tokens")
        dtype = IDS
    if tokens and isinstance(manifest, HeldManifest) and manifest.fetched and manifest.modality == "audio":
        raise InputError(
            "--tokens with sounds needs their lengths before they are read: copy the sounds to a local disk"
        )
    variant = _variant(encoder, tokens, dtype, manifest)
    path = store_path(out, manifest.name, manifest.modality, manifest.set, spec.name, variant)
    return encoder, path, variant, dtype


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
    state = state_to_grow(path)
    path = path if state is None else state.path
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
    # Rows of a store that has grown are not those of the manifest.
    if there is not None and there["manifest_digest"] == manifest.digest and "grown" not in there:
        counts = recorded_token_counts(path)
        if counts is not None:
            return counts
    return encoder.token_counts(manifest)


def store_of(path: Path, plan: StorePlan, automatic: bool) -> FeatureStore:
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
