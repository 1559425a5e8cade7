"""Working through tasks: read ahead, encode in batches that never cross tasks, commit.

One pass fills any number of stores: each sample is read and decoded once, and every encoder prepares it in
its own way. A unit is what a process is handed: the tasks of all the stores in one stretch of rows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import FeatureStore, Progress
from uml_extract.encoding.filling import Filling
from uml_extract.encoding.writer import task_writer
from uml_extract.readers import read_for
from uml_extract.readers.prefetch import Reading
from uml_extract.readers.shared import Key, prepare_for, unpacked
from uml_extract.spec import Encoder

if TYPE_CHECKING:
    from uml_manifests import Manifest

_BATCHES_AHEAD = 3

Units = Mapping[int, Sequence[Sequence[int]]]
"""What is to be done: of each unit, by its number, the tasks of each store, in order."""


def unit_size(stores: Sequence[FeatureStore]) -> int:
    """How many rows a unit has: those of a task of the store with the largest."""
    return max(store.plan.layout.task_rows for store in stores)


def units_of(stores: Sequence[FeatureStore], pending: Sequence[Sequence[int]]) -> Units:
    """The pending tasks of stores of one manifest, brought together by their rows.

    A unit's number follows from its rows alone: its rows are those of one task of the store with the largest.
    """
    size = unit_size(stores)
    found: dict[int, list[list[int]]] = {}
    for at, (store, tasks) in enumerate(zip(stores, pending, strict=True)):
        for task in tasks:
            unit = store.rows_of(task).start // size
            found.setdefault(unit, [[] for _ in stores])[at].append(task)
    return dict(sorted(found.items()))


class Extraction:
    """The work of one pass: `run` computes units and commits their tasks.

    `stores` and `encoders` go together; all stores are of the manifest's rows.
    """

    def __init__(
        self,
        stores: Sequence[FeatureStore],
        manifest: Manifest,
        encoders: Sequence[Encoder],
        *,
        max_errors: float,
        readers: int = 0,
    ) -> None:
        self._fillings = [
            Filling(store, manifest, encoder, max_errors)
            for store, encoder in zip(stores, encoders, strict=True)
        ]
        self._manifest = manifest
        largest = max(filling.batch_size for filling in self._fillings)
        ahead = 0 if manifest.modality == "text" else _BATCHES_AHEAD * largest
        self._reading = Reading(self._prepare, ahead, readers, len(manifest))

    def run(self, units: Units, progress: Progress) -> None:
        """Compute and commit `units`, in their order.

        Raises:
            WorkError: as soon as a store has more unreadable samples than allowed.
        """
        for at, filling in enumerate(self._fillings):
            filling.expect([task for unit in units.values() for task in unit[at]])
        samples = self._reading.read(chain.from_iterable(map(self._keys, units.values())))
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(task_writer(filling.store)) for filling in self._fillings]
            stack.enter_context(contextlib.closing(samples))
            asked = time.monotonic()
            for (row, wanted), prepared in samples:
                waited = (time.monotonic() - asked) / len(wanted)
                for at, one in unpacked(wanted, prepared):
                    filling = self._fillings[at]
                    filling.spent(waited)
                    task = filling.take(row, one, progress)
                    if task is not None:
                        writers[at](task)
                        filling.count(task[0])
                asked = time.monotonic()

    def close(self) -> None:
        """End the processes that read; a further `run` starts them anew."""
        self._reading.close()

    def _keys(self, unit: Sequence[Sequence[int]]) -> Iterator[Key]:
        """Each row with the encoders that want it; before the first is read, files are noted."""
        wanted: dict[int, list[int]] = {}
        for at, tasks in enumerate(unit):
            for task in tasks:
                self._fillings[at].note_files(task)
                for row in self._fillings[at].store.rows_of(task):
                    wanted.setdefault(row, []).append(at)
        return ((row, tuple(wanted[row])) for row in sorted(wanted))

    def _prepare(self, key: Key) -> np.ndarray:
        row, wanted = key
        encoders = [self._fillings[at].encoder for at in wanted]
        if len(encoders) == 1:
            return encoders[0].prepare(read_for(encoders[0], self._manifest, row))
        return prepare_for(encoders, self._manifest, row)
