"""`uml predict`: new files → the recorded encoder → the best head of a run → a table."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uml_cache import QUIET, Account, Choice, InputError, Output, WorkError, folder_lock
from uml_evaluate.predict.inputs import Inputs, find_inputs
from uml_evaluate.predict.predictor import Predictor, open_predictor
from uml_evaluate.predict.table import PredictionTable, Shape, rows_of

if TYPE_CHECKING:
    from uml_train import CellResult, Shots

_PART = 4096  # samples that are written together, at most
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a prediction did. `rows` of the table, `failed` of them without a prediction; `resumed` were
    there; `rows_per_second` counts those of this call. `account`: what was given and not taken."""

    out: Path
    rows: int
    failed: int
    resumed: int
    seconds: float
    rows_per_second: float
    counts: dict[str, int]
    predictor: Predictor
    cell: CellResult | None
    account: Account

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml predict --json`."""
        about = self.predictor.head.about
        return {
            "out": str(self.out),
            "rows": self.rows,
            "failed": self.failed,
            "resumed_rows": self.resumed,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "encoder": self.predictor.features.encoder["name"],
            "head": str(self.predictor.path),
            **{name: about.get(name) for name in ("method", "shots", "seed", "auxiliaries", "val_acc")},
            "refit": bool(about.get("refit", False)),
            "predicted": self.counts,
            **self.account.counts.to_json(),
        }

    def text(self) -> str:
        """What a person reads."""
        said = f"{self.out}: {self.rows:,} rows"
        if self.failed:
            said += f", {self.failed:,} of them unreadable (column reason)"
        if self.resumed:
            said += f", {self.resumed:,} were there"
        said += f", {self.seconds:.1f} s ({self.rows_per_second:,.0f} rows/s)"
        common = ", ".join(f"{name} {n:,}" for name, n in list(self.counts.items())[:_SHOWN])
        return f"{said}\nmost often predicted: {common}" if common else said


def predict_files(
    place: Path,
    given: Sequence[str],
    out: Path,
    *,
    method: str | None = None,
    shots: Shots | None = None,
    seed: int | None = None,
    auxiliaries: Sequence[str] | None = None,
    refit: bool = True,
    top: int = 1,
    every: bool = False,
    cache: Path | None = None,
    encoder: str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    decode_workers: int | Literal["auto"] = "auto",
    choice: Choice | None = None,
    part_rows: int = _PART,
    output: Output = QUIET,
) -> Predictions:
    """Predict the classes of new samples into a table; the same call goes on where it was stopped.

    Args:
        place: a run, a folder of runs (the newest), or a file that `Model.save` wrote.
        given: files, folders, a table, or a URL: see `find_inputs`.
        out: `.csv`, `.jsonl` or `.parquet`. A table that is there is replaced.
        method, shots, seed, auxiliaries, refit, cache: which head, see `open_predictor`.
        top: how many classes a row names, the likeliest first.
        every: whether a row gives the probability of every class, too.
        encoder, weights: where the run's encoder is, if its name does not find it.
        part_rows: samples that are written together.

    Raises:
        InputError: nothing to predict, no head, an encoder with other weights than the run's.
        WorkError: not one sample could be read; the table says why.
    """
    predictor, cell = open_predictor(
        place, method=method, shots=shots, seed=seed, auxiliaries=auxiliaries, refit=refit, cache=cache,
        output=output,
    )  # fmt: skip
    classes = predictor.classes
    if not 1 <= top <= len(classes):
        raise InputError(f"--top is {top}; the model knows {len(classes)} classes, so it takes 1 to that")
    output.say(f"model: {_described(predictor)}")
    inputs = find_inputs(given, predictor.features.modality, choice)
    for remark in inputs.manifest.remarks:
        output.say(remark)
    account = inputs.account
    if account.left_out:
        output.say(account.text())
    predictor.open(encoder=encoder, weights=weights, device=device)
    shape = Shape(classes, top, every)
    parts = [
        range(at, min(at + part_rows, len(inputs.names))) for at in range(0, len(inputs.names), part_rows)
    ]
    words = [predictor.digest, inputs.digest, shape.columns, out.suffix.lower(), part_rows]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    table = PredictionTable(out, shape, digest, len(parts), output)
    with folder_lock(table.folder):
        return _worked(table, predictor, cell, inputs, parts, shape, batch_size, decode_workers, output)


def _worked(
    table: PredictionTable,
    predictor: Predictor,
    cell: CellResult | None,
    inputs: Inputs,
    parts: Sequence[range],
    shape: Shape,
    batch_size: int | Literal["auto"],
    decode_workers: int | Literal["auto"],
    output: Output,
) -> Predictions:
    done = set(table.done())
    pending = [number for number in range(len(parts)) if number not in done]
    resumed = sum(len(parts[number]) for number in done)
    began = time.monotonic()
    name = str(predictor.features.encoder["name"])
    with output.progress(len(inputs.names), " samples", name, resumed) as bar:
        predicted = predictor.run(
            inputs.manifest,
            [parts[number] for number in pending],
            batch_size=batch_size,
            decode_workers=0 if inputs.remote else decode_workers,
            progress=bar,
        )
        for number, part in zip(pending, predicted, strict=True):
            table.write(number, rows_of(part, parts[number], inputs.names, shape))
    seconds = time.monotonic() - began
    counts, failed = _told(table, len(parts))
    table.finish()
    rows = len(inputs.names)
    worked = rows - resumed
    if failed and len(failed) == rows:
        raise WorkError(f"not one of {rows} samples could be read; the first: {failed[0]}")
    return Predictions(
        out=table.out, rows=rows, failed=len(failed), resumed=resumed, seconds=seconds,
        rows_per_second=worked / seconds if worked and seconds else 0.0, counts=dict(counts.most_common()),
        predictor=predictor, cell=cell, account=inputs.account,
    )  # fmt: skip


def _told(table: PredictionTable, parts: int) -> tuple[Counter[str], list[str]]:
    """How often each class was predicted, and why rows have no prediction, in this call and earlier ones."""
    counts: Counter[str] = Counter()
    failed: list[str] = []
    for part in range(parts):
        predicted, reasons = table.tell(part)
        counts.update(predicted)
        failed += reasons
    return counts, failed


def _described(predictor: Predictor) -> str:
    """`uml with text, 16 shots, seed 3 (validation 87.5 %), refitted …`."""
    about = predictor.head.about
    said = str(about.get("method", "head"))
    if about.get("auxiliaries"):
        said += f" with {' + '.join(about['auxiliaries'])}"
    if "shots" in about:
        said += f", {about['shots']} labelled samples per class, seed {about['seed']}"
    if "val_acc" in about:
        said += f", validation accuracy {about['val_acc']:.1f} %"
    return said + (", solved again on training and validation rows" if about.get("refit") else "")
