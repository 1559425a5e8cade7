"""A manifest's samples on their way to a network: read and prepared while the last step is computed.

Shapes: N rows of the manifest, B samples of a batch.

The order of all batches, those of the evaluations included, is planned before it begins, so that the
processes that read, which are those of extraction, run ahead of the training without a pause.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from uml_cache import Output, WorkError, write_together
from uml_extract import (
    Reading,
    SampleError,
    Trainable,
    content_digest,
    read_for,
    reader_count,
    sources_digest,
)
from uml_train.finetune.views import Views
from uml_train.heads.weights import seeded
from uml_train.record.checksums import read_record, record_bytes

if TYPE_CHECKING:
    from uml_manifests import Manifest

CHECK = -2  # instead of a step: read the sample only
PLAIN = -1  # no random view
_AHEAD = 256  # samples that wait at most

Key = tuple[int, int, int]
"""(row of the manifest, step or PLAIN or CHECK, seed): all that a prepared sample depends on."""


class Loader:
    """Batches of prepared samples in a planned order, read by processes (none for texts).

    Use it as a context: the processes live as long as it does.

    Args:
        views: what training pictures go through (`FinetuneSettings`).
        workers: processes that read, 0: none but this one; `auto` is a core each, shared with the `beside`
            trainings of this machine.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: Trainable,
        *,
        views: str = "crop",
        workers: int | Literal["auto"] = 0,
        beside: int = 1,
    ) -> None:
        self._manifest, self._encoder = manifest, encoder
        self._views: Views | None = None
        if manifest.modality == "image":
            transform = encoder.spec.transform
            self._views = Views(
                kind=views,
                own=encoder.prepare,
                size=tuple(transform["size"] if "size" in transform else transform["input_size"][1:]),
                mean=tuple(transform["mean"]),
                std=tuple(transform["std"]),
                interpolation=str(transform["interpolation"]),
            )
        ahead = 0 if manifest.modality == "text" or workers == 0 else _AHEAD
        readers = reader_count(workers, manifest.modality, beside)
        self._reading = Reading(self._prepare, ahead, readers, len(manifest))
        self._samples: Generator[Any, None, None] | None = None

    def __len__(self) -> int:
        """Rows of the manifest."""
        return len(self._manifest)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._left()
        self._reading.close()

    def batches(self, plan: Iterable[Sequence[Key]]) -> Iterator[Any]:
        """The network's inputs, batch by batch as planned; a plan may be left before its end.

        Raises:
            WorkError: a sample cannot be read, though it could when the run began.
        """
        sizes: deque[int] = deque()

        def keys() -> Iterator[Key]:
            for batch in plan:
                sizes.append(len(batch))
                yield from batch

        samples = self._read(keys())
        while first := list(islice(samples, 1)):
            batch = [*first, *islice(samples, sizes.popleft() - 1)]
            for (row, _, _), sample in batch:
                if isinstance(sample, SampleError):
                    raise WorkError(
                        f"sample {self._manifest.ids[row]!r} can no longer be read ({sample}); "
                        "restore it and run the same command again to continue"
                    )
            yield self._encoder.inputs([sample for _, sample in batch])

    @staticmethod
    def plain(parts: Iterable[Iterable[int]]) -> list[list[Key]]:
        """A plan of batches of rows as they are, without random views."""
        return [[(int(row), PLAIN, 0) for row in part] for part in parts]

    def unreadable(self, output: Output) -> dict[int, str]:
        """Rows that cannot be read, with the reasons."""
        found: dict[int, str] = {}
        with output.progress(len(self), " samples", "reading") as progress:
            for (row, _, _), answer in self._read((row, CHECK, 0) for row in range(len(self))):
                if isinstance(answer, SampleError):
                    found[row] = str(answer)
                progress.update(1)
        return found

    def _read(self, keys: Iterator[Key]) -> Generator[Any, None, None]:
        self._left()
        self._samples = self._reading.read(keys)
        return self._samples

    def _left(self) -> None:
        """End what is being read: its processes have answers under way that nobody will take."""
        if self._samples is not None:
            self._samples.close()
            self._samples = None

    def _prepare(self, key: Key) -> np.ndarray:
        row, step, seed = key
        sample = read_for(self._encoder, self._manifest, row)
        if step == CHECK:
            return np.empty(0)
        if step != PLAIN and self._views is not None:
            return self._views(sample, seeded(seed, "view", step, row))
        return self._encoder.prepare(sample)


@dataclass(frozen=True)
class Looked:
    """What reading every sample of a manifest found: rows that cannot be read, with the reasons, and a digest
    of all content, which changes whenever a sample does. `stamps` is a digest of the files' sizes and times;
    texts have none."""

    unreadable: dict[int, str]
    content: str
    stamps: str | None


def look_at(loader: Loader, manifest: Manifest, runs: Path, output: Output) -> Looked:
    """Read every sample of a manifest once; remembered beside the runs until a file of it is changed.

    As in feature stores rows that cannot be read are left out of every part, so all methods see the same
    samples.
    """
    record = runs / f".readable-{manifest.digest[:16]}.json"
    stamps = stamps_of(manifest)
    about = {"manifest": manifest.digest, "stamps": stamps}
    known = _remembered(record, about)
    if known is None:
        known = Looked(loader.unreadable(output), content_digest(manifest), stamps)
        unreadable = {str(row): reason for row, reason in known.unreadable.items()}
        write_together({record: record_bytes({**about, "content": known.content, "unreadable": unreadable})})
    if known.unreadable:
        row = next(iter(known.unreadable))
        output.say(
            f"{len(known.unreadable)} of {len(manifest)} samples cannot be read and are left out, such as "
            f"{manifest.ids[row]!r} ({known.unreadable[row]}); delete {record} to try them again"
        )
    return known


def stamps_of(manifest: Manifest) -> str | None:
    """A digest of the sizes and times of a manifest's files; None for texts, which stand in the manifest."""
    return sources_digest(manifest, range(len(manifest)))


def _remembered(record: Path, about: dict[str, str | None]) -> Looked | None:
    try:
        values = read_record(record, "")
        if all(values[name] == value for name, value in about.items()):
            unreadable = {int(row): reason for row, reason in values["unreadable"].items()}
            return Looked(unreadable, values["content"], values["stamps"])
    except (OSError, ValueError, KeyError, AttributeError):
        pass  # it is only looked at again
    return None


def torch_seed(*key: object) -> int:
    """A seed for torch's own generator that depends on `key` alone."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1
