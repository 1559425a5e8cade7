"""Extraction: reader → encoder → store, one task after the other, each committed before the next counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uml_cache import QUIET, InputError, Output, state_to_grow
from uml_extract.executors import get_executor
from uml_extract.executors.worker import Recipe
from uml_extract.growing.adding import Added, grow, grows, keep_stamps
from uml_extract.growing.growth import Growth, growth_of
from uml_extract.origin import record_origin
from uml_extract.passes import Extracted, Part, fill_stores
from uml_extract.planning import plan_together, store_of
from uml_extract.registry.registry import load_encoder
from uml_extract.spec import LAST_LAYER, Encoder

if TYPE_CHECKING:
    from uml_manifests import Manifest


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
    prune: bool = False,
    recipe: Recipe | None = None,
    output: Output = QUIET,
) -> Extracted:
    """Extract the features of a manifest's samples into a store below `out`, or finish the one that is there.

    Where a finished store is there and the samples are others by now, what is new or changed is added to it
    as a new state (`uml_extract.growing`).

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
        prune: Flag the rows of a finished store whose samples are gone from the data; else they stay.
        recipe: How other processes load an encoder that is given as an object.

    Raises:
        InputError: the manifest's modality is not the encoder's, a store of other settings is in the way,
            another run holds the store, or what `load_encoder` raises.
        WorkError: more unreadable samples than allowed, or values that do not fit `dtype`. What was committed
            stays, and the same call goes on from there.
    """
    (done,) = extract_together(
        manifest, [encoder], out=out, tokens=tokens, dtype=dtype, batch_size=batch_size, device=device,
        max_errors=max_errors, weights=weights, pooling=pooling, layer=layer, transform=transform,
        executor=executor, workers=workers, decode_workers=decode_workers, retry_failed=retry_failed,
        check_sources=check_sources, overwrite=overwrite, prune=prune, recipes=[recipe],
        output=output,
    )  # fmt: skip
    return done


def extract_together(
    manifest: Manifest,
    encoders: Sequence[str | Encoder],
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
    prune: bool = False,
    recipes: Sequence[Recipe | None] | None = None,
    output: Output = QUIET,
) -> list[Extracted]:
    """Extract with several encoders in one pass: each sample is read and decoded once for all of them.

    Every encoder has a store of its own, with the bits that `extract` would give it alone. A store that is
    ahead of the others, from an earlier run, is left as it is; the pass does what each of them lacks.

    Args:
        encoders: As the one of `extract`, all of the manifest's modality. `recipes` go with them.
        weights: Only with one encoder.

    Raises:
        InputError: as `extract`; two encoders that would fill one store.
        WorkError: as `extract`. What was committed stays, in every store.
    """
    if weights is not None and len(encoders) > 1:
        raise InputError("weights go with one encoder: extract with each encoder by itself")
    if overwrite and executor == "torchrun":
        raise InputError("overwrite does not go with torchrun: its ranks would remove each other's work")
    who = get_executor(executor, device=device, workers=workers)
    options: dict[str, Any] = {
        "weights": weights, "pooling": pooling, "layer": layer, "transform": transform, "device": device,
        "dtype": dtype,
    }  # fmt: skip
    given = recipes or [None] * len(encoders)
    known = [
        Recipe(encoder, options) if isinstance(encoder, str) else recipe
        for encoder, recipe in zip(encoders, given, strict=True)
    ]
    loaded = [load_encoder(one, **options) if isinstance(one, str) else one for one in encoders]
    planned = plan_together(
        manifest, loaded, out=out, tokens=tokens, dtype=dtype, batch_size=batch_size, overwrite=overwrite,
        output=output,
    )  # fmt: skip
    growing: dict[int, Growth] = {}
    for at, (_, path, plan) in enumerate(planned):
        info = state_to_grow(path)
        if info is not None and grows(info, plan, manifest, retry_failed, check_sources):
            growing[at] = growth_of(
                info, plan, manifest, prune=prune, retry_failed=retry_failed, output=output
            )
    rest = [at for at in range(len(planned)) if at not in growing]
    parts = [
        Part(store_of(path, plan, batch_size == "auto"), encoder, recipe)
        for (encoder, path, plan), recipe in ((planned[at], known[at]) for at in rest)
    ]
    for part in parts:
        record_origin(part.store.path, manifest)
        keep_stamps(part.store, manifest)
    found: dict[int, Extracted] = {}
    if parts:
        done = fill_stores(
            manifest, parts, who, max_errors=max_errors, decode_workers=decode_workers,
            retry_failed=retry_failed, check_sources=check_sources, output=output,
        )  # fmt: skip
        found = dict(zip(rest, done, strict=True))
    for same in _alike(growing):
        chosen = [Added(growing[at], planned[at][0], known[at]) for at in same]
        done = grow(chosen, who, max_errors=max_errors, decode_workers=decode_workers, output=output)
        found |= dict(zip(same, done, strict=True))
    return [found[at] for at in range(len(planned))]


def _alike(growing: dict[int, Growth]) -> list[list[int]]:
    """The growths that encode the same samples, together: each sample is read once for all of them."""
    groups: dict[bytes, list[int]] = {}
    for at, growth in growing.items():
        groups.setdefault(growth.changes.to_encode.tobytes(), []).append(at)
    return list(groups.values())
