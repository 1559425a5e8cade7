"""A worker process: it is told a job once, then tasks one after the other, and says what it has done.

The parent writes a pickled job to the worker's standard input, then one task number a line; the worker
answers with one JSON value a line: "ready", {"rows": n} after a batch, {"done": task}, or {"error": [kind,
message]}. When its input ends the worker stops at once, so that none outlives its parent.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from uml_cache import InputError, StorePlan, WorkError, planned_store
from uml_extract.encoding.tasks import Extraction
from uml_extract.registry.registry import load_encoder
from uml_extract.spec import fitted

if TYPE_CHECKING:
    from uml_manifests import Manifest


@dataclass(frozen=True)
class Recipe:
    """How another process loads the same encoder: its name and the options of `load_encoder`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of an extraction. `recipe` None: the encoder cannot be loaded anew.

    `readers` is how many processes each worker has to read its samples.
    """

    store: Path
    plan: StorePlan
    manifest: Manifest
    recipe: Recipe | None
    max_errors: float
    group: str | None
    readers: int = 0


class Worker:
    """One process's part in a job: its encoder is loaded once, then it runs any task, any number of times."""

    def __init__(self, job: Job) -> None:
        if job.recipe is None:
            raise InputError("an encoder object cannot be sent to other processes; give the encoder's name")
        encoder = fitted(load_encoder(job.recipe.name, **job.recipe.options), job.manifest)
        here = (json.loads(json.dumps(encoder.spec.to_json())), encoder.compute_dtype)
        if here != (job.plan.fields["encoder"], job.plan.compute_dtype):
            raise WorkError(
                f"a worker loaded another {job.recipe.name} than the one the store was planned with "
                "(weights, library or precision differ): give all workers the same files and devices"
            )
        self._store = planned_store(job.store, job.plan)
        self._job = job
        self._extraction = Extraction(
            self._store, job.manifest, encoder, max_errors=job.max_errors, readers=job.readers
        )

    def run(self, task: int, report: Callable[[int], Any]) -> None:
        """Compute and commit one task; `report` is called with the rows done since the last call."""
        with self._store.lock(self._job.group):
            self._extraction.run([task], _Report(report))


class _Report:
    """`Progress` that hands on its counts."""

    def __init__(self, report: Callable[[int], Any]) -> None:
        self._report = report

    def update(self, n: int = 1, /) -> None:
        self._report(n)

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


def _listen(stream: IO[bytes], tasks: queue.SimpleQueue[int]) -> None:
    for line in stream:
        tasks.put(int(line))
    os._exit(3)  # the parent is gone, or wants no more


def main() -> None:
    """Serve the parent until it closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(value: Any) -> None:
        print(json.dumps(value, ensure_ascii=True), file=answers, flush=True)

    try:
        job: Job = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):  # the parent ended before it had said what to do
        return
    tasks: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, tasks), daemon=True).start()
    try:
        worker = Worker(job)
        answer("ready")
        while True:
            task = tasks.get()
            worker.run(task, lambda rows: answer({"rows": rows}))
            answer({"done": task})
    except (InputError, WorkError) as error:
        answer({"error": [type(error).__name__, str(error)]})
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        answer({"error": ["WorkError", f"{error.strerror or error}{where}"]})
    except Exception as error:
        answer({"error": ["WorkError", f"unexpected {type(error).__name__}: {error}"]})


if __name__ == "__main__":
    main()
