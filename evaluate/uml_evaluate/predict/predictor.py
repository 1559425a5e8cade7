"""A head with the encoder that its features come from: what `uml predict` and `Model.predict` run.

Shapes: n samples, D features, C classes, T tokens.
"""

from __future__ import annotations

import atexit
import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from uml_cache import QUIET, InputError, Output, Progress, write_atomic
from uml_evaluate.predict.choosing import choose
from uml_extract import Encoder, encode_rows, load_recorded, require_same
from uml_train import (
    Head,
    Run,
    file_sum,
    head_bytes,
    head_with,
    load_head,
    newest_run,
    plain_name,
    recorded_store,
)

if TYPE_CHECKING:
    from uml_extract import EncodedPart
    from uml_manifests import Manifest
    from uml_train import CellResult, Shots

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

ABOUT = "features"
"""What a head's file calls the record of where its features come from."""


_NOT_FINITE = "the encoder gave values that are not finite"


@dataclass(frozen=True, kw_only=True)
class Features:
    """Where a head's features come from: the encoder's spec, the store's variant and how it stores them.

    `loading` is what the encoder was loaded by where its name alone does not find it.
    """

    encoder: Mapping[str, Any]
    variant: str | None
    dtype: str
    loading: Mapping[str, str | None]

    @property
    def modality(self) -> str:
        """What the encoder takes: `image`, `text`, `audio` or `array`."""
        return str(self.encoder["modality"])

    def to_json(self) -> dict[str, Any]:
        """What is written beside a head, so that `Features(**value)` is the same."""
        return {
            "encoder": dict(self.encoder),
            "variant": self.variant,
            "dtype": self.dtype,
            "loading": dict(self.loading),
        }


@dataclass(frozen=True, eq=False)
class Predicted:
    """The samples of one part: `rows` (n,) with `probabilities` (n, C); of the others the reason."""

    rows: np.ndarray
    probabilities: np.ndarray
    failed: dict[int, str]


class Predictor:
    """A head and its encoder.

    Args:
        head: what it says of itself names the features that it takes.
        path: the head's file.
        features: where they come from; None: the head's file says it.

    Raises:
        InputError: a head of which this is not known.
    """

    def __init__(self, head: Head, path: Path, features: Features | None = None) -> None:
        self.head, self.path = head, path
        told = head.about.get(ABOUT)
        if features is None and not isinstance(told, dict):
            raise InputError(
                f"{path} does not say which encoder its features come from; give the run that it belongs to "
                "(a folder), or a file that `Model.save` wrote"
            )
        self.features = features or Features(**(told or {}))
        self._encoder: Encoder | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by the position of their logit."""
        return self.head.classes

    @cached_property
    def digest(self) -> str:
        """sha256 of the head and of where its features come from."""
        words = json.dumps(self.features.to_json(), sort_keys=True).encode()
        return str(file_sum(self.path.read_bytes() + words)["sha256"])

    def open(
        self,
        *,
        encoder: str | Encoder | None = None,
        weights: Path | str | None = None,
        device: str = "auto",
    ) -> Encoder:
        """The encoder, loaded once and checked to be the one that the head was trained on.

        Args:
            encoder: its folder or name where the recorded one does not find it; or the encoder itself.
        """
        name = encoder if isinstance(encoder, str) else None
        if encoder is not None and not isinstance(encoder, str):
            require_same(encoder.spec.to_json(), self.features.encoder)
            self._encoder = encoder
        if self._encoder is None:
            told = self.features.loading
            self._encoder = load_recorded(
                self.features.encoder,
                self.features.variant,
                name=name or told.get("name"),
                weights=weights or told.get("weights"),
                device=device,
            )
        return self._encoder

    def run(
        self,
        manifest: Manifest,
        parts: Sequence[range],
        *,
        batch_size: int | Literal["auto"] = "auto",
        decode_workers: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
    ) -> Iterator[Predicted]:
        """The predictions of each part of a manifest's rows, as they are done."""
        tokens = bool(self.head.blocks)
        encoder = self.open()
        options: dict[str, Any] = {"batch_size": batch_size, "decode_workers": decode_workers}
        for part in encode_rows(manifest, encoder, parts, tokens=tokens, progress=progress, **options):
            probabilities, bad = self._of_part(part)
            rows = np.asarray(part.rows, np.int64)
            failed = part.failed | dict.fromkeys(rows[bad].tolist(), _NOT_FINITE)
            yield Predicted(rows[~bad], probabilities[~bad], failed)

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, C) float32 of features (n, D) of any floating type, rounded as in the store.

        Raises:
            InputError: features of another width, or that are not finite, or tokens are what the head takes.
        """
        return self.head.predict_proba(self._stored(np.asarray(features)))

    def _of_part(self, part: EncodedPart) -> tuple[np.ndarray, np.ndarray]:
        """(n, C) probabilities, and (n,) bool which samples have features that are not finite."""
        if not part.batches:
            return np.zeros((0, len(self.classes)), np.float32), np.zeros(0, bool)
        if not self.head.blocks:
            values = self._stored(np.concatenate([batch.pooled for batch in part.batches]))
            bad = ~np.isfinite(values).all(axis=1)
            values[bad] = 0
            return self.head.predict_proba(values), bad
        tokens = self._stored(np.concatenate([b.tokens for b in part.batches if b.tokens is not None]))
        lengths = np.concatenate([b.lengths for b in part.batches if b.lengths is not None])
        wrong = ~np.isfinite(tokens).all(axis=1)
        bad = np.bincount(np.repeat(np.arange(len(lengths)), lengths), wrong, len(lengths)) > 0
        tokens[wrong] = 0
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return self.head.predict_proba(tokens, offsets), bad

    def _stored(self, values: np.ndarray) -> np.ndarray:
        """The head was trained on features as the store holds them, and is given such ones."""
        dtype = np.dtype(self.features.dtype)
        with np.errstate(over="ignore"):
            return values.astype(dtype).astype(np.float32)


def features_of(run: Run, cache: Path | None = None) -> Features:
    """Where the features of a run's target come from, by its store.

    Raises:
        InputError: the store is gone or has changed.
    """
    store = recorded_store(run, run.config["target"], cache)
    told: Mapping[str, Any] = store.encoder
    dtype = store.arrays.get("pooled", store.arrays.get("tokens/values", {})).get("data_type", "float32")
    loading = {"name": None, "weights": None}
    return Features(encoder=told, variant=store.variant, dtype=str(dtype), loading=loading)


def open_predictor(
    place: Path,
    *,
    method: str | None = None,
    shots: Shots | None = None,
    seed: int | None = None,
    auxiliaries: Sequence[str] | None = None,
    refit: bool = True,
    cache: Path | None = None,
    loading: Mapping[str, str | None] | None = None,
    output: Output = QUIET,
) -> tuple[Predictor, CellResult | None]:
    """The predictor of a run (or of the newest run in a folder), or of a file that `Model.save` wrote.

    A run's head is written into its folder `predict`, so that it need not be solved twice (of a run that
    cannot be written to, into a temporary folder). None stands for
    the cell where the head is a file of its own.

    Args:
        method, shots, seed, auxiliaries: which head, see `choose`.
        refit: see `uml_train.head_bytes`.
        loading: name and weights that the run's encoder is loaded by.

    Raises:
        InputError: there is no such head, or the file does not say where its features come from.
    """
    if place.is_file():
        if any(x is not None for x in (method, shots, seed, auxiliaries)):
            raise InputError(f"{place} is one head: --method, --shots, --seed and --aux choose among a run's")
        return Predictor(load_head(place), place), None
    run = newest_run(place)
    cell = choose(run, method=method, shots=shots, seed=seed, auxiliaries=auxiliaries)
    found = features_of(run, cache)
    if loading is not None:
        found = Features(
            encoder=found.encoder, variant=found.variant, dtype=found.dtype, loading=dict(loading)
        )
    name = f"{plain_name(cell.name)}{'' if refit else '-unrefit'}.safetensors"
    path = run.path / "predict" / name
    if not _is_whole(path, cell, found):
        head = head_bytes(run, cell, refit=refit, cache=cache, output=output)
        more = {ABOUT: found.to_json(), "run": run.digest}
        try:
            _write_head(path, head, more)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            path = _own_folder() / name
            _write_head(path, head, more)
            output.say(f"{run.path} cannot be written to: each call solves its head again")
    return Predictor(load_head(path), path), cell


def _write_head(path: Path, head: bytes, more: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, head)
    write_atomic(path, head_with(path, more))


def _own_folder() -> Path:
    """A folder for this process alone, which is removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="uml-predict-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_whole(path: Path, cell: CellResult, features: Features) -> bool:
    """Whether the head was written before, for the same run and features."""
    if not path.is_file():
        return False
    try:
        about = load_head(path).about
    except InputError:
        return False
    return about.get("run") == cell.run and about.get(ABOUT) == json.loads(json.dumps(features.to_json()))
