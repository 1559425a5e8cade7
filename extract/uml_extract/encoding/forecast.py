"""`uml extract --dry-run`: what there is to read and to write, and how long that takes, by a short trial."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import StorePlan, recorded_plan, store_info
from uml_extract.encoding.encoding import encode_rows
from uml_extract.spec import Encoder

if TYPE_CHECKING:
    from uml_manifests import Manifest

_CALIBRATION = 3.0  # seconds of encoding, and at least two batches
_MOST_BATCHES = 8


@dataclass(frozen=True)
class ExtractionForecast:
    """What an extraction has to do.

    `done` of the `tasks` are there. `bytes_to_read` counts the local files of all samples (None where they
    are not files here), `bytes_to_write` the features of all rows. `seconds` are those of the tasks that are
    missing, in one process.
    """

    store: str
    rows: int
    tasks: int
    done: int
    bytes_to_read: int | None
    bytes_to_write: int
    rows_per_second: float
    seconds: float
    device: str
    batch_size: int

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml extract --dry-run --json`."""
        return asdict(self)

    def text(self) -> str:
        """The answer for the terminal."""
        there = f", {self.done} of them there already" if self.done else ""
        tasks = f"{self.tasks} task{'s' * (self.tasks != 1)}"
        time = (
            f"about {_time(self.seconds)} ({self.rows_per_second:,.0f} rows/s in one process on "
            f"{self.device}, batches of {self.batch_size}; tried just now)"
            if self.rows_per_second
            else "none: the store is complete"
        )
        read = "" if self.bytes_to_read is None else f"{self.bytes_to_read / 1e6:,.1f} MB to read, "
        return (
            f"{self.store}: {self.rows:,} rows in {tasks}{there}\n"
            f"bytes    {read}{self.bytes_to_write / 1e6:,.1f} MB to write\n"
            f"time     {time}\n"
            "nothing was written"
        )


def forecast(
    manifest: Manifest, encoder: Encoder, plan: StorePlan, path: Path, *, complete: bool = False
) -> ExtractionForecast:
    """Count, and encode some samples, spread over the data set, as an extraction would.

    Args:
        plan: of the store at `path`, which need not be there.
        complete: whether nothing is missing, which is known of a store that has grown.
    """
    done, missing = (plan.layout.tasks, 0) if complete else (0, len(manifest))
    if not complete and recorded_plan(path) == plan.fields:
        info = store_info(path)
        done = info.done
        missing -= min(missing, done * plan.layout.task_rows)
    rate = _rate(manifest, encoder, plan) if missing else 0.0
    values = len(manifest) * (plan.pooled_dim or 0)
    if plan.token_dim is not None and plan.token_counts is not None:
        values += int(plan.token_counts.sum()) * plan.token_dim
    return ExtractionForecast(
        store=str(path),
        rows=len(manifest),
        tasks=plan.layout.tasks,
        done=done,
        bytes_to_read=_bytes(manifest),
        bytes_to_write=values * np.dtype(plan.dtype).itemsize,
        rows_per_second=round(rate, 1),
        seconds=round(missing / rate, 3) if rate else 0.0,
        device=plan.device,
        batch_size=plan.batch_size,
    )


def _rate(manifest: Manifest, encoder: Encoder, plan: StorePlan) -> float:
    """Rows per second after the first batch: by then readers have started and buffers are made."""
    size = min(plan.batch_size, max(1, len(manifest) // 2))
    most = min(len(manifest), size * (_MOST_BATCHES + 1))
    rows = np.unique(np.linspace(0, len(manifest) - 1, most).astype(np.int64))
    # A part is a batch: it ends when its rows are encoded.
    parts = [range(at, min(at + size, len(rows))) for at in range(0, len(rows), size)]
    some = manifest.some(rows)
    began, seconds, seen = time.perf_counter(), 0.0, 0
    encoded = encode_rows(some, encoder, parts, tokens=plan.token_dim is not None, batch_size=size)
    with closing(encoded):
        for at, part in enumerate(encoded):
            now = time.perf_counter()
            if at or len(parts) == 1:
                seconds, seen = now - began, seen + len(part.rows) + len(part.failed)
            else:
                began = now
            if at > 1 and seconds > _CALIBRATION:
                break
    return seen / max(seconds, 1e-9)


def _bytes(manifest: Manifest) -> int | None:
    if manifest.modality == "text":
        return sum(len(text.encode()) for text in manifest.sources)
    total = 0
    for row in range(len(manifest)):
        try:
            total += manifest.path(row).stat().st_size
        except OSError:  # a part of a file, or none that is here
            return None
    return total


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
