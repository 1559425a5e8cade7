"""A worker process: it is told a job once, then units one after the other, and says what it has done.

The parent writes a pickled job to the worker's standard input, then one unit's number a line; the worker
answers with one JSON value a line: "ready", {"rows": n} after a batch, {"done": unit}, or {"error": [kind,
message]}. When its input ends the worker stops at once, so that none outlives its parent.
"""

from __future__ import annotations

import contextlib
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
from uml_extract.encoding.tasks import Extraction, Units
from uml_extract.registry.registry import load_encoder
from uml_extract.spec import Encoder, fitted

if TYPE_CHECKING:
    from uml_manifests import Manifest


@dataclass(frozen=True)
class Recipe:
    """How another process loads the same encoder: its name and the options of `load_encoder`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One store of a job. `recipe` None: the encoder cannot be loaded anew."""

    store: Path
    plan: StorePlan
    recipe: Recipe | None


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of an extraction: the stores of one pass, and what each lacks.

    What is handed out are units: the tasks that lie in one stretch of rows. `readers` is how many processes
    each worker has to read its samples.
    """

    targets: tuple[Target, ...]
    manifest: Manifest
    max_errors: float
    group: str | None
    units: Units
    readers: int = 0

    @property
    def portable(self) -> bool:
        """Whether another process can do it: every encoder can be loaded anew."""
        return all(target.recipe is not None for target in self.targets)

    def rows_of(self, unit: int) -> range:
        """The rows of a unit."""
        size = max(target.plan.layout.task_rows for target in self.targets)
        return range(unit * size, min((unit + 1) * size, len(self.manifest)))


class Worker:
    """One process's part in a job: its encoders are loaded once, then it runs any unit, however often."""

    def __init__(self, job: Job) -> None:
        self._job = job
        encoders = [_loaded(target, job.manifest) for target in job.targets]
        self._stores = [planned_store(target.store, target.plan) for target in job.targets]
        self._extraction = Extraction(
            self._stores, job.manifest, encoders, max_errors=job.max_errors, readers=job.readers
        )

    def run(self, unit: int, report: Callable[[int], Any]) -> None:
        """Compute and commit one unit; `report` is called with the rows done since the last call."""
        with contextlib.ExitStack() as locks:
            for store in self._stores:
                locks.enter_context(store.lock(self._job.group))
            self._extraction.run({unit: self._job.units[unit]}, _Report(report))


def _loaded(target: Target, manifest: Manifest) -> Encoder:
    """The encoder that a store was planned with; `WorkError` where this process loads another one."""
    if target.recipe is None:
        raise InputError("an encoder object cannot be sent to other processes; give the encoder's name")
    encoder = fitted(load_encoder(target.recipe.name, **target.recipe.options), manifest)
    here = (json.loads(json.dumps(encoder.spec.to_json())), encoder.compute_dtype)
    if here != (target.plan.fields["encoder"], target.plan.compute_dtype):
        raise WorkError(
            f"a worker loaded another {target.recipe.name} than the store was planned with "
            "(weights, library or precision differ): give all workers the same files and devices"
        )
    return encoder


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
