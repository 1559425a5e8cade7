"""A manifest's samples on their way to a network: read and prepared while the last step is computed.

Shapes: N rows of the manifest, B samples of a batch.

The order of all batches, those of the evaluations included, is planned before it begins, so that worker
processes run ahead of the training without a pause.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from uml_cache import StoreInfo
from uml_cache.command import Output
from uml_cache.errors import WorkError
from uml_cache.machine import available_cores
from uml_extract import SampleError, Trainable, read_sample
from uml_train.finetune.views import Views
from uml_train.heads import seeded
from uml_train.run import write_atomic

if TYPE_CHECKING:
    from uml_manifests import Manifest

CHECK = -2  # instead of a step: read the sample only
PLAIN = -1  # no random view
_AHEAD = 4  # batches that each worker is ahead
_CHECKED_AT_ONCE = 256

Key = tuple[int, int, int]
"""(row of the manifest, step or PLAIN or CHECK, seed): all that a prepared sample depends on."""


class ManifestRows:
    """A manifest as `open_problem` knows feature stores, its features still to be made.

    `pooled` (N, D) are zeros that take no memory, in place of features that training has yet to make. With
    `real` it is what the network makes of the samples before it is trained: what a class's texts mean at the
    start. It is computed when it is first asked for. `variant` is what tables say of how it is trained.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: Trainable,
        unreadable: Iterable[int],
        features: Callable[[], torch.Tensor],
        *,
        real: bool = False,
        variant: str | None = None,
    ) -> None:
        self.manifest = manifest
        self.variant = variant
        self.encoder: dict[str, Any] = encoder.spec.to_json()
        self.encoder_name = encoder.spec.name
        self.dim = int(encoder.spec.width or 0)
        self.path = manifest.root
        self.dataset, self.modality, self.set = manifest.name, manifest.modality, manifest.set
        self.fingerprint = manifest.digest
        self.classes = manifest.classes
        self.label, self.split = manifest.labels, manifest.splits
        self.id, self.groups = manifest.ids, manifest.groups
        self.valid = np.ones(len(manifest), dtype=bool)
        self.valid[list(unreadable)] = False
        self._features, self._real = features, real

    def __len__(self) -> int:
        return len(self.id)

    @property
    def access(self) -> str:
        """As of a store that takes no memory."""
        return "mapped"

    @cached_property
    def pooled(self) -> torch.Tensor:
        return self._features() if self._real else torch.zeros(1, self.dim).expand(len(self), -1)

    @property
    def info(self) -> StoreInfo:
        """What a run records of it, in the shape of a store's."""
        return StoreInfo(
            path=self.path,
            dataset=self.dataset,
            modality=self.modality,
            set=self.set,
            encoder=self.encoder,
            variant=self.variant,
            classes=self.classes,
            fingerprint=self.fingerprint,
            rows=len(self),
            dim=self.dim,
            token_dim=None,
            tasks=0,
            done=0,
            own=False,
            arrays={},
        )


@dataclass(frozen=True)
class Unreadable:
    """What comes in place of a batch that holds a sample which cannot be read."""

    row: int
    reason: str


class Samples(Dataset):
    """Prepared samples by key. It is sent to worker processes, so it holds no network."""

    def __init__(self, manifest: Manifest, encoder: Trainable, views: str) -> None:
        self._manifest = manifest
        self._read = encoder.reader()
        self._rate, self._seconds = encoder.input_rate, encoder.input_seconds
        self._views: Views | None = None
        if manifest.modality == "image":
            transform = encoder.spec.transform
            self._views = Views(
                kind=views,
                own=self._read,
                size=tuple(transform["input_size"][1:]),
                mean=tuple(transform["mean"]),
                std=tuple(transform["std"]),
                interpolation=str(transform["interpolation"]),
            )

    def __getitem__(self, key: Key) -> Any:
        row, step, seed = key
        try:
            sample = read_sample(self._manifest, row, rate=self._rate, seconds=self._seconds)
            if step == CHECK:
                return ""
            if step != PLAIN and self._views is not None:
                return self._views(sample, seeded(seed, "view", step, row))
            return self._read(sample)
        except SampleError as error:
            return Unreadable(row, str(error))


class Loader:
    """Batches of prepared samples in a planned order, by worker processes (none for texts).

    Use it as a context: the processes live as long as it does.
    """

    def __init__(
        self, manifest: Manifest, encoder: Trainable, *, views: str = "crop", workers: int = 0
    ) -> None:
        self._manifest, self._encoder = manifest, encoder
        self._plan = _Plan()
        workers = 0 if manifest.modality == "text" else workers
        self._loader = DataLoader(
            Samples(manifest, encoder, views),
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_collate,
            # A forked process could inherit a lock that one of our threads held at that moment.
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            prefetch_factor=_AHEAD if workers else None,
        )

    def __len__(self) -> int:
        """Rows of the manifest."""
        return len(self._manifest)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        del self._loader  # ends the worker processes

    def batches(self, plan: Iterable[Sequence[Key]]) -> Iterator[Any]:
        """The network's inputs, batch by batch as planned; a plan may be left before its end.

        Raises:
            WorkError: a sample cannot be read, though it could when the run began.
        """
        self._plan.batches = plan
        for batch in self._loader:
            if isinstance(batch, Unreadable):
                raise WorkError(
                    f"sample {self._manifest.ids[batch.row]!r} cannot be read any more ({batch.reason}); "
                    "bring it back and give the same command again, which goes on where it stopped"
                )
            prepared: Any = batch.numpy() if isinstance(batch, torch.Tensor) else batch
            yield self._encoder.inputs(prepared)

    @staticmethod
    def plain(parts: Iterable[Iterable[int]]) -> list[list[Key]]:
        """A plan of batches of rows as they are, without random views."""
        return [[(int(row), PLAIN, 0) for row in part] for part in parts]

    def unreadable(self, output: Output) -> dict[int, str]:
        """Rows that cannot be read, with the reasons."""
        rows = np.arange(len(self._manifest))
        parts = [rows[at : at + _CHECKED_AT_ONCE] for at in range(0, len(rows), _CHECKED_AT_ONCE)]
        found: dict[int, str] = {}
        self._plan.batches = [[(int(row), CHECK, 0)] for part in parts for row in part]
        with output.progress(len(rows), " samples", "reading") as progress:
            for batch in self._loader:
                if isinstance(batch, Unreadable):
                    found[batch.row] = batch.reason
                progress.update(1)
        return found


class _Plan:
    """The batch sampler of a loader: whatever is planned at the moment."""

    def __init__(self) -> None:
        self.batches: Iterable[Sequence[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return (list(batch) for batch in self.batches)


def _collate(samples: list[Any]) -> Any:
    """One tensor where the samples are arrays of one shape, which travels without a copy; else a list."""
    for sample in samples:
        if isinstance(sample, Unreadable):
            return sample
    alike = {(s.shape, s.dtype) for s in samples if isinstance(s, np.ndarray) and s.dtype != object}
    if len(alike) == 1 and isinstance(samples[0], np.ndarray) and samples[0].ndim == 3:
        return torch.from_numpy(np.stack(samples))
    return samples


def check_readable(loader: Loader, manifest: Manifest, runs: Path, output: Output) -> dict[int, str]:
    """Rows of a manifest that cannot be read: looked for once, then remembered beside the runs.

    As in feature stores such rows are left out of every part, so all methods see the same samples.
    """
    record = runs / f".readable-{manifest.digest[:16]}.json"
    try:
        known: Mapping[str, str] = json.loads(record.read_text(encoding="utf-8"))
        found = {int(row): reason for row, reason in known.items()}
    except (OSError, ValueError, AttributeError):
        found = loader.unreadable(output)
        runs.mkdir(parents=True, exist_ok=True)
        write_atomic(record, json.dumps(found, ensure_ascii=False).encode())
    if found:
        row = next(iter(found))
        output.say(
            f"{len(found)} of {len(manifest)} samples cannot be read and are left out, such as "
            f"{manifest.ids[row]!r} ({found[row]}); delete {record} to have them looked at again"
        )
    return found


def worker_count(asked: int | None, world: int = 1) -> int:
    """Processes that prepare samples: as asked, else this process's share of the cores but one."""
    if asked is not None:
        return asked
    cores = available_cores()
    return max(1, min(8, cores // world - 1))


def torch_seed(*key: object) -> int:
    """A seed for torch's own generator that depends on `key` alone."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1
